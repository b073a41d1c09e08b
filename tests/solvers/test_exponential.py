"""Coefficients against golden numbers and numerical integration; the planned run against single steps."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from oracles import PROCESSES, Counting, Mixture, f64, inner_times, run, scale_of, silent

from undrift import times as grids
from undrift.noise import PerSample, Replay
from undrift.process import VE, VP, Flow, MeanReverting
from undrift.solvers import Exponential, Multistep

KINDS = [(tau, form) for tau in (0.0, 0.5, 1.0) for form in ("data", "noise")]
kinds = pytest.mark.parametrize(("tau", "form"), KINDS)
ORDERS = pytest.mark.parametrize("order", [1, 2, 3])


# Coefficients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tau", "form", "golden"),
    [
        (0.0, "data", (0.9814180039, 0.1586186344, 0.1004297618, 0.0)),
        (0.0, "noise", (5.2172374874, -0.8299703034, -0.3044726520, 0.0)),
        (1.0, "data", (0.1846151916, 0.1884564909, 0.1389701526, 0.1888669627)),
        (1.0, "noise", (5.2172374874, -1.6599406068, -0.6089453040, 1.0040205029)),
    ],
)
def test_golden_step_from_80_to_60(tau, form, golden):
    """mr-sampler.md 2.2, cosine: coefficients of y, q, D1 = (q_0 - q_1) / r_0, and the noise."""
    process, times = MeanReverting(), f64([100.0, 80.0, 60.0])
    table = Exponential(2, tau, form).table(process, times)
    newest, older = table.weights[1].tolist()
    r0 = 2.0141772007 / 1.6707248552
    found = [float(table.carry[1]), newest + older, -older * r0, float(table.noise[1])]
    assert found == pytest.approx(golden, abs=6e-11)
    lam = process.half_log_snr(times)
    assert lam.diff().tolist() == pytest.approx([2.0141772007, 1.6707248552], abs=1e-10)


def test_golden_curvature():
    """The coefficient of D2 = h^2 q'' in ODE-d-3, from three nodes."""
    process, times = MeanReverting(), f64([100.0, 90.0, 80.0, 60.0])
    lam = process.half_log_snr(times)
    u = (lam[[2, 1, 0]] - lam[2]) / (lam[3] - lam[2])
    for weights, factor in (("exact", 1.0), ("published", 0.5)):
        row = Exponential(3, weights=weights).table(process, times).weights[2]
        assert float((row * u**2).sum()) / 2 == pytest.approx(0.0375733951 * factor, abs=1e-10)


NODES, GAUSS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(40))


@kinds
@ORDERS
def test_weights_integrate_the_exact_solution(tau, form, order):
    """mr-sampler.md 2.1, by Gauss quadrature: for predictions that are polynomials of lambda nothing is approximated.

    The corrector, with one node more, is exact for one degree more.
    """
    process = VP()
    times = inner_times(process, 7)
    alpha, sigma = process.alpha_sigma(times)
    lam = process.half_log_snr(times)
    table = Exponential(order, tau, form, corrector=True).table(process, times)
    for i in range(6):
        length = lam[i + 1] - lam[i]
        x = lam[i] + (NODES + 1) / 2 * length
        gap = lam[i + 1] - x
        kernel = alpha[i + 1] * torch.exp(-(1 + tau**2) * gap) if form == "data" else -sigma[i + 1] * torch.exp(gap)
        integral = [float((1 + tau**2) * (kernel * x**k * GAUSS).sum() * length / 2) for k in range(order + 1)]
        n = min(order, i + 1)
        nodes = lam[i - n + 1 : i + 1].flip(0)
        found = [float((table.weights[i, :n] * nodes**k).sum()) for k in range(n)]
        assert found == pytest.approx(integral[:n], rel=1e-10)
        assert not table.weights[i, n:].any()
        if i < 5:  # the corrector of this step is used at the start of the next
            n = min(order + 1, i + 2)
            nodes = lam[i + 2 - n : i + 2].flip(0)
            found = [float((table.correction[i + 1, :n] * nodes**k).sum()) for k in range(n)]
            assert found == pytest.approx(integral[:n], rel=1e-10)
    assert not table.correction[0].any()


@kinds
def test_carry_and_noise_are_those_of_the_exact_solution(tau, form):
    process = VP()
    times = inner_times(process, 7)
    (alpha, sigma), lam = process.alpha_sigma(times), process.half_log_snr(times)
    h, table = lam.diff(), Exponential(1, tau, form).table(process, times)
    if form == "data":
        carry, noise = sigma[1:] / sigma[:-1] * torch.exp(-(tau**2) * h), (1 - torch.exp(-2 * tau**2 * h)).sqrt()
    else:
        carry, noise = alpha[1:] / alpha[:-1], tau * (torch.exp(2 * h) - 1).sqrt()
    torch.testing.assert_close(table.carry, carry, rtol=1e-12, atol=0)
    torch.testing.assert_close(table.noise, sigma[1:] * noise, rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", ["data", "noise"])
def test_a_constant_function_of_lambda_is_that_number(form):
    process = VP()
    times = grids.uniform_lambda(process, 8)
    number = Exponential(3, 0.6, form, corrector=True).table(process, times)
    function = Exponential(3, lambda lam: 0.6 + 0 * lam, form, corrector=True).table(process, times)
    for name in ("carry", "weights", "noise", "basis", "correction"):
        torch.testing.assert_close(getattr(function, name), getattr(number, name), rtol=1e-12, atol=1e-14)


def test_stochasticity_on_an_interval_only():
    process, times = VP(), grids.uniform_lambda(VP(), 12, 4.0)
    lam = process.half_log_snr(times)
    inside = (lam[:-1] > -2) & (lam[1:] < 1)
    table = Exponential(2, lambda lam: ((lam > -2) & (lam < 1)).double()).table(process, times)
    ode, sde = (Exponential(2, tau).table(process, times) for tau in (0.0, 1.0))
    torch.testing.assert_close(table.carry[inside], sde.carry[inside])
    away = (lam[1:] < -2) | (lam[:-1] > 1)
    torch.testing.assert_close(table.carry[away], ode.carry[away])
    assert not table.noise[away].any()


# Infinite lambda ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tau", "form"), [(0.0, "data"), (0.0, "noise"), (1.0, "data"), (1.0, "noise")])
@pytest.mark.parametrize("name", PROCESSES)
def test_tables_are_finite_from_pure_noise_to_the_data(name, tau, form):
    process = PROCESSES[name]
    for order, corrector in ((1, False), (1, True), (3, False), (3, True)):
        table = Exponential(order, tau, form, corrector).table(process, grids.uniform(process, 6))
        for column in (table.carry, table.weights, table.noise, table.basis, table.correction):
            assert column.isfinite().all()
            assert column.dtype == torch.float64
        # The last step is the denoiser's estimate: carry 0, weight 1 on z_0, no noise.
        assert (float(table.carry[-1]), float(table.noise[-1])) == (0.0, 0.0)
        assert table.basis[-1].tolist() == [0.0, 1.0]
        assert table.weights[-1].tolist() == [1.0] + [0.0] * (table.weights.shape[1] - 1)


@pytest.mark.parametrize("form", ["data", "noise"])
@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_the_step_from_pure_noise_is_the_bridge(tau, form):
    process, times = Flow(), f64([1.0, 0.7, 0.4])
    z, z0, eps = torch.randn(3, 2, 3, dtype=torch.float64)
    table = Exponential(3, tau, form).table(process, times)
    out = table.carry[0] * z + table.weights[0, 0] * (table.basis[0, 0] * z + table.basis[0, 1] * z0)
    torch.testing.assert_close(out + table.noise[0] * eps, process.bridge(z, z0, times[0], times[1], tau, eps))
    assert not table.weights[1, 1:].any()  # a prediction at lambda = -infinity is no node


# Runs -----------------------------------------------------------------------------------------------------------------


def stepwise(denoise, process, z, times, solver, noise):
    """The same run by `step` alone, without a plan."""
    state = solver.init()
    for t, s in pairwise(times):
        z, state = solver.step(denoise, process, z, t, s, state, noise)
    return z


@kinds
@ORDERS
@pytest.mark.parametrize("name", ["VE", "Flow", "MR-cosine"])
def test_the_plan_runs_the_same_steps(name, tau, form, order):
    process = PROCESSES[name]
    mix, times = Mixture(process, scale_of(process)), grids.uniform_lambda(process, 9, 2.5)
    z = process.alpha_sigma(times[0])[1] * torch.randn(6, 1, dtype=torch.float64)
    draws = torch.randn(9, 6, 1, dtype=torch.float64)
    solver = Exponential(order, tau, form)
    planned = run(mix.denoise, process, z, times, solver, Replay(draws))
    torch.testing.assert_close(planned, stepwise(mix.denoise, process, z, times, solver, Replay(draws)))
    assert isinstance(solver.plan(process, times), Multistep)


@kinds
@ORDERS
def test_times_per_sample_equal_runs_one_by_one(tau, form, order):
    process = MeanReverting()
    mix = Mixture(process, scale_of(process))
    per_sample = torch.stack([inner_times(process, 5), grids.uniform(process, 4), f64([90, 70, 30, 29.5, 3])], -1)
    z, draws = torch.randn(3, 1, dtype=torch.float64), torch.randn(4, 3, 1, dtype=torch.float64)
    solver = Exponential(order, tau, form)
    # Up to the last step: there sample 1 alone arrives at the data.
    batch = stepwise(mix.denoise, process, z, per_sample[:-1], solver, Replay(draws))
    alone = [
        stepwise(mix.denoise, process, z[i : i + 1], per_sample[:-1, i], solver, Replay(draws[:, i : i + 1]))
        for i in range(3)
    ]
    torch.testing.assert_close(batch, torch.cat(alone), rtol=1e-12, atol=1e-13)


@kinds
@ORDERS
def test_batch_mates_at_infinite_lambda_change_nothing(tau, form, order):
    """Sample 1 steps to the data and sample 2 comes from pure noise; the order of sample 0 is its own."""
    process = Flow()
    mix = Mixture(process)
    per_sample = torch.stack([f64([0.9, 0.7, 0.4, 0.2]), f64([0.9, 0.6, 0.2, 0.0]), f64([1.0, 0.7, 0.4, 0.1])], -1)
    z, draws = torch.randn(3, 1, dtype=torch.float64), torch.randn(3, 3, 1, dtype=torch.float64)
    solver = Exponential(order, tau, form)
    batch = stepwise(mix.denoise, process, z, per_sample, solver, Replay(draws))
    filled = [draws[:, i : i + 1] for i in range(3)]
    alone = [
        stepwise(mix.denoise, process, z[i : i + 1], per_sample[:, i], solver, Replay(filled[i])) for i in range(3)
    ]
    torch.testing.assert_close(batch, torch.cat(alone), rtol=1e-12, atol=1e-13)


@kinds
@ORDERS
@pytest.mark.parametrize("corrector", [False, True])
def test_n_steps_are_n_network_calls(tau, form, order, corrector):
    process = VE()
    times = grids.uniform(process, 7)
    denoise = Counting(Mixture(process).denoise)
    z = 50 * torch.randn(2, 1, dtype=torch.float64)
    run(denoise, process, z, times, Exponential(order, tau, form, corrector), PerSample([0, 1]))
    assert [float(t) for t in denoise.times] == times[:-1].tolist()


def test_a_deterministic_run_asks_for_no_noise():
    process = VP()
    out = run(Mixture(process).denoise, process, torch.ones(2, 1), grids.uniform(process, 5), Exponential(3), silent)
    assert out.dtype == torch.float32


@kinds
def test_all_orders_are_exact_for_a_point(tau, form):
    """Where z_0 is known the prediction is constant, and every step a draw of the bridge: it ends at the point."""
    process, point = VP(), f64([[0.3, -0.7]])
    times = grids.uniform_lambda(process, 5)
    z = torch.randn(4, 2, dtype=torch.float64)
    for order in (1, 2, 3):
        solver = Exponential(order, tau, form, corrector=form == "data")
        out = run(lambda z, t: point.expand_as(z), process, z, times, solver, PerSample(range(4)))
        torch.testing.assert_close(out, point.expand(4, 2), rtol=0, atol=0)


def test_a_state_can_be_kept_and_resumed():
    """Solvers are pure: the same state gives the same step, in any order of calls."""
    process, times = VP(), grids.uniform_lambda(VP(), 6, 2.0)
    denoise, solver = Mixture(process).denoise, Exponential(3, corrector=True).plan(process, times)
    z, state = torch.randn(3, 1, dtype=torch.float64), solver.init()
    for i in range(3):
        z, state = solver.step(denoise, process, z, times[i], times[i + 1], state, silent)
    once, _ = solver.step(denoise, process, z, times[3], times[4], state, silent)
    again, _ = solver.step(denoise, process, z, times[3], times[4], state, silent)
    assert torch.equal(once, again)


def test_a_step_beyond_the_plan_says_so():
    process, times = VP(), grids.uniform(VP(), 2)
    solver = Exponential().plan(process, times)
    with pytest.raises(ValueError, match="step 3 of a table of 2"):
        stepwise(Mixture(process).denoise, process, torch.ones(1, 1), f64([1, 0.5, 0.2, 0.1]), solver, silent)


def test_early_low_orders_and_a_pattern_of_ones_own():
    process, times = VP(), inner_times(VP(), 6)
    (alpha, sigma), lam = process.alpha_sigma(times), process.half_log_snr(times)
    table = Exponential(3).coefficients(alpha, sigma, lam, orders=torch.tensor([1, 2, 1, 3, 2]))
    assert [(row != 0).sum().item() for row in table.weights] == [1, 2, 1, 3, 2]
    plain = Exponential(3).table(process, times)
    assert [(row != 0).sum().item() for row in plain.weights] == [1, 2, 3, 3, 3]
    torch.testing.assert_close(table.weights[3], plain.weights[3], rtol=0, atol=0)
    assert math.isfinite(float(table.weights.sum()))
