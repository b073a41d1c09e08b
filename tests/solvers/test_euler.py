"""Each step against the formula of its paper, written with the score and the textbook coefficients."""

import math

import pytest
import torch
from oracles import PROCESSES, Counting, Mixture, ddpm_table, f64, inner_times, run, scale_of

from undrift import times as grids
from undrift.noise import Gaussian, Replay
from undrift.process import VE, VP, Flow
from undrift.solvers import Ancestral, EulerMaruyama, Heun, ReverseDiffusion

close = {"rtol": 1e-11, "atol": 1e-11}
SOLVERS = [
    EulerMaruyama(),
    EulerMaruyama(0.0),
    EulerMaruyama(0.6),
    ReverseDiffusion(),
    Ancestral(),
    Ancestral("forward"),
]
each = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def step(solver, process, t, s):
    """z, its score by autograd, the noise, and what the solver makes of them."""
    denoise = Mixture(process).denoise
    alpha, sigma = (float(c) for c in process.alpha_sigma(f64(t)))
    z = ((alpha + sigma) * torch.linspace(-1.5, 1.5, 7, dtype=torch.float64))[:, None].requires_grad_()
    (score,) = torch.autograd.grad(denoise.log_prob(z, f64(t)).sum(), z)
    z, eps = z.detach(), torch.randn(7, 1, dtype=torch.float64)
    return z, score, eps, solver.step(denoise, process, z, f64(t), f64(s), (), Replay([eps]))[0]


@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.95), (0.4, 0.38), (0.05, 0.02)])
def test_euler_maruyama_on_vp(tau, t, s):
    """dz = [-beta z / 2 - (1 + tau^2)/2 beta score] dt + tau sqrt(beta) dw, backwards."""
    z, score, eps, out = step(EulerMaruyama(tau), VP(), t, s)
    beta, dt = 0.1 + 19.9 * t, t - s
    expected = z + (beta * z / 2 + (1 + tau**2) / 2 * beta * score) * dt + tau * math.sqrt(beta * dt) * eps
    torch.testing.assert_close(out, expected, **close)


@pytest.mark.parametrize("i", [1, 300, 999])
def test_song_and_ho_on_ddpm(i):
    """Song et al. 2021, appendix E and eq. 46, which is Ho et al. 2020 with the larger variance."""
    process, beta = ddpm_table("log_alpha"), 1e-4 + (0.02 - 1e-4) * i / 999
    z, score, eps, out = step(ReverseDiffusion(), process, i, i - 1)
    torch.testing.assert_close(out, (2 - math.sqrt(1 - beta)) * z + beta * score + math.sqrt(beta) * eps, **close)
    z, score, eps, out = step(Ancestral("forward"), process, i, i - 1)
    torch.testing.assert_close(out, (z + beta * score) / math.sqrt(1 - beta) + math.sqrt(beta) * eps, **close)


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.9), (0.3, 0.25)])
def test_song_on_ve(t, s):
    high, low = (0.01 * 5000**u for u in (t, s))
    gap = high**2 - low**2
    z, score, eps, out = step(ReverseDiffusion(), VE(), t, s)
    torch.testing.assert_close(out, z + gap * score + math.sqrt(gap) * eps, **close)
    z, score, eps, out = step(Ancestral(), VE(), t, s)
    torch.testing.assert_close(out, z + gap * score + low / high * math.sqrt(gap) * eps, **close)


@each
def test_ancestral_is_the_bridge_from_the_estimate(process):
    t, s = inner_times(process, 4)[1:3].tolist()
    denoise = Mixture(process).denoise
    z, _, eps, out = step(Ancestral(), process, t, s)
    torch.testing.assert_close(
        out, process.bridge(z, denoise(z, f64(t)), f64(t), f64(s), 1.0, eps), rtol=1e-9, atol=1e-9
    )


@each
@pytest.mark.parametrize("solver", [SOLVERS[0], *SOLVERS[3:], Heun(), Heun(churn=0.3, inflate=1.003)], ids=repr)
def test_a_run_from_noise_to_data_is_finite_and_ends_in_the_estimate(process, solver):
    """From t_max to t_clean, where lambda may be infinite at both ends."""
    mix, last = Mixture(process, scale_of(process)), []

    def denoise(z, t):
        last.append(mix.denoise(z, t))
        return last[-1]

    sigma = process.alpha_sigma(f64(process.t_max))[1]
    z = sigma * torch.randn(64, 1, dtype=torch.float64)
    out = run(denoise, process, z, grids.uniform_lambda(process, 9), solver, Gaussian(torch.Generator().manual_seed(0)))
    assert out.isfinite().all()
    torch.testing.assert_close(out, last[-1], rtol=1e-12, atol=1e-12)
    assert float(out.abs().max()) < 6 * mix.scale


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_from_pure_noise_the_step_is_the_bridge(solver):
    """alpha_t = 0, where the drift is infinite."""
    process, t, s = Flow(), f64(1.0), f64(0.8)
    z, eps = torch.randn(2, 5, 1, dtype=torch.float64)
    denoise = Mixture(process).denoise
    out, _ = solver.step(denoise, process, z, t, s, (), Replay([eps]))
    tau = getattr(solver, "tau", 1.0)
    torch.testing.assert_close(out, process.bridge(z, denoise(z, t), t, s, tau, eps), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("solver", [*SOLVERS, Heun()], ids=repr)
def test_times_per_sample_equal_steps_one_by_one(solver):
    """Also where one of them comes from pure noise and another arrives at the data."""
    process = Flow()
    denoise = Mixture(process).denoise
    t, s = f64([0.9, 0.5, 1.0, 0.3]), f64([0.8, 0.1, 0.7, 0.0])
    z, eps = torch.randn(2, 4, 1, dtype=torch.float64)
    batch, _ = solver.step(denoise, process, z, t, s, (), Replay([eps]))
    alone = [solver.step(denoise, process, z[i : i + 1], t[i], s[i], (), Replay([eps[i : i + 1]]))[0] for i in range(4)]
    torch.testing.assert_close(batch, torch.cat(alone), rtol=1e-12, atol=1e-13)


@each
def test_n_steps_are_n_network_calls(process):
    times = grids.uniform(process, 6)
    for solver in SOLVERS:
        denoise = Counting(lambda z, t: torch.zeros_like(z))
        run(denoise, process, torch.zeros(2, 1, dtype=torch.float64), times, solver, Gaussian())
        assert torch.equal(torch.stack(denoise.times), times[:-1])
