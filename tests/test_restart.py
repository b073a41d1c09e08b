"""Restart sampling against its algorithm written out, its exact law on Gaussian data, and what it is for."""

import math
from itertools import pairwise

import pytest
import torch
from oracles import Counting, Mixture, OneHot, f64, gaussian, gaussian_law, marginal_law, run, slopes, std_error

from undrift.noise import Gaussian, PerSample, Replay
from undrift.process import EDM, VE, VP, MeanReverting
from undrift.restart import Restart
from undrift.solvers import AnnealedLangevin, Corrected, EulerMaruyama, Exponential, Heun

PROCESSES = {"VE": VE(), "VP": VP(), "EDM": EDM(), "MR": MeanReverting()}
each = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def descent(process, count, low=-2.0, high=3.0):
    return process.time(torch.linspace(low, high, count + 1, dtype=torch.float64))


@pytest.mark.parametrize("solver", [Exponential(1), Exponential(2, corrector=True), Heun(), EulerMaruyama()], ids=repr)
@each
def test_the_algorithm(process, solver):
    """The grid down to `clean`; K times noise up and a run down; the rest of the grid, with a fresh state."""
    times, mix = descent(process, 10), Mixture(process)
    z = torch.randn(6, 1, dtype=torch.float64)
    found = run(mix.denoise, process, z, times, Restart(solver, 0.3, 1.2, repeats=2, steps=4), PerSample(range(6)))
    # lambda = -2, -1.5, ..., 3: the first at or beyond 1.2 is 1.5, entry 7.
    noise, back = PerSample(range(6)), process.time(torch.linspace(0.3, 1.5, 5, dtype=torch.float64))
    back[-1] = times[7]
    z = run(mix.denoise, process, z, times[:8], solver, noise)
    (a, s), (a_low, s_low) = process.alpha_sigma(back[0]), process.alpha_sigma(back[-1])
    for _ in range(2):
        z = a / a_low * z + torch.sqrt(s**2 - (a / a_low * s_low) ** 2) * noise(z, back[-1], back[0])
        z = run(mix.denoise, process, z, back, solver, noise)
    torch.testing.assert_close(found, run(mix.denoise, process, z, times[7:], solver, noise), rtol=1e-9, atol=1e-10)


@each
def test_step_by_step_is_the_planned_run(process):
    """Without a plan, as a teacher of distillation takes them: the same for a solver that has none."""
    times, mix = descent(process, 8), Mixture(process)
    z, solver = torch.randn(6, 1, dtype=torch.float64), Restart(Exponential(2), 0.0, 1.0, 2)
    planned = run(mix.denoise, process, z, times, solver, PerSample(range(6)))
    noise, state = PerSample(range(6)), solver.init()
    for t, s in pairwise(times):
        z, state = solver.step(mix.denoise, process, z, t, s, state, noise)
    torch.testing.assert_close(z, planned, rtol=1e-9, atol=1e-10)


@each
@pytest.mark.parametrize(("solver", "order"), [(Exponential(1), 1), (Exponential(2), 2), (Heun(), 2)], ids=repr)
def test_the_law_is_exact_as_steps_grow(process, solver, order):
    """Restarts keep the true law: the error of the standard deviation falls at the order of the solver."""
    scale = 50 / 255 if isinstance(process, MeanReverting) else 1.0
    errors = [
        std_error(process, descent(process, n), Restart(solver, 0.0, 1.0, 3, n // 2), 0.3 * scale, 0.4 * scale)
        for n in (40, 80)
    ]
    assert slopes(errors)[0] > order - 0.15
    assert abs(errors[1]) < 0.02


@each
@pytest.mark.parametrize("repeats", [1, 3])
def test_a_wrong_start_is_contracted(process, repeats):
    """The ODE multiplies an offset of the mean by c; each restart by (alpha ratio) times that of its way back."""
    mean, std = 0.1, 0.15
    times, low, high = descent(process, 120, high=2.0), f64(2.0), f64(0.0)
    denoise = gaussian(mean, std, process)
    start = torch.zeros(8, 1, dtype=torch.float64) + marginal_law(process, times[0], mean, std)[0] + 0.2
    spread = {k: marginal_law(process, process.time(lam), mean, std)[1] for k, lam in (("low", low), ("high", high))}
    a = float(process.alpha_sigma(process.time(high))[0] / process.alpha_sigma(process.time(low))[0])
    factor = a * spread["low"] / spread["high"]
    assert factor < 0.6
    errors = [
        float(run(denoise, process, start, times, solver, OneHot())[0, 0])
        - marginal_law(process, times[-1], mean, std)[0]
        for solver in (Heun(), Restart(Heun(), 0.0, 2.0, repeats, 80))
    ]
    assert errors[1] / errors[0] == pytest.approx(factor**repeats, rel=3e-3)


def test_it_repairs_what_a_coarse_solver_spoils():
    """Law after 6 coarse steps of DDIM, alone and with restarts of 6: nearer to the truth; 18 more steps only there."""
    process = VP()
    times = descent(process, 6)
    plain = abs(std_error(process, times, Exponential(1), 0.3, 0.4))
    again = abs(gaussian_law(process, times, Restart(Exponential(2), 0.5, 2.9, 3, 6), 0.3, 0.4)[1])
    wanted = marginal_law(process, times[-1], 0.3, 0.4)[1]
    assert abs(again / wanted - 1) < 0.3 * plain


@pytest.mark.parametrize(("solver", "calls"), [(Exponential(2), 1), (Heun(), 2)])
def test_network_calls(solver, calls):
    """N + K steps, each of the solver's calls: 18 Heun steps and K segments, as in the paper's count."""
    process = VP()
    denoise = Counting(Mixture(process).denoise)
    run(denoise, process, torch.zeros(2, 1), descent(process, 9), Restart(solver, 0.0, 1.0, 5, 3), Gaussian())
    assert len(denoise.times) == calls * (9 + 5 * 3)


def test_with_a_corrected_solver():
    """Solvers wrap solvers: corrections inside and outside of the restarts; a sample depends on its seed alone."""
    process = VP()
    mix, times = Mixture(process).denoise, descent(process, 6)
    for solver in (
        Corrected(Restart(Heun(), 0.0, 1.0), AnnealedLangevin(0.1)),
        Restart(Corrected(Exponential(2), AnnealedLangevin(0.1)), 0.0, 1.0),
    ):
        z = torch.randn(3, 1)
        together = run(mix, process, z, times, solver, PerSample([4, 5, 6]))
        assert together.isfinite().all()
        alone = run(mix, process, z[1:2], times, solver, PerSample([5]))
        torch.testing.assert_close(alone[0], together[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Restart(Heun(), 2.0, 1.0), "noisy = 2.0, clean = 1.0"),
        (lambda: Restart(Heun(), 0.0, 1.0, repeats=0), "repeats = 0"),
        (lambda: Restart(Heun(), 0.0, 9.0).plan(VP(), descent(VP(), 4)), "from 9.0 to 0.0"),
        (lambda: Restart(Heun(), -3.0, 1.0).plan(VP(), descent(VP(), 4)), "from 1.0 to -3.0"),
        (lambda: Restart(Heun(), 0.0, 1.0).plan(VP(), f64([1.0, 0.9, 0.0])), "inf"),
    ],
)
def test_errors_say_what_is_wrong(make, words):
    with pytest.raises(ValueError, match=r"^Restart [^\n]*$") as info:
        make()
    assert words in str(info.value)


def test_noise_is_drawn_for_the_way_up():
    process, seen = EDM(), []

    def noise(like, t, s):
        seen.append((float(t), float(s)))
        return torch.zeros_like(like)

    times = descent(process, 5)
    run(Mixture(process).denoise, process, torch.zeros(1, 1), times, Restart(Heun(), 0.0, 1.0), noise)
    assert seen == [pytest.approx((math.exp(-1.0), 1.0))]
    with pytest.raises(ValueError, match="Replay of 0 draws"):
        run(Mixture(process).denoise, process, torch.zeros(1, 1), times, Restart(Heun(), 0.0, 1.0), Replay([]))
