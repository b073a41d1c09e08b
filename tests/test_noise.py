"""Sources of noise: who depends on what, and that the Brownian one is Brownian motion."""

import math
from itertools import pairwise

import pytest
import torch
from oracles import Mixture, f64, run, slopes

from undrift.noise import Brownian, Gaussian, PerSample, Replay
from undrift.process import VP
from undrift.solvers import EulerMaruyama, Exponential

T, S = f64(0.6), f64(0.4)


def test_gaussian_is_the_generators_stream(generator):
    like = torch.zeros(2, 3)
    noise = Gaussian(torch.Generator().manual_seed(0))
    expected = torch.randn(2, 2, 3, generator=generator)
    assert torch.equal(torch.stack([noise(like, T, S), noise(like, T, S)]), expected)


def test_gaussian_without_a_generator_is_fresh_and_touches_nothing():
    like = torch.zeros(2, 3)
    torch.manual_seed(5)
    draws = [Gaussian()(like, T, S) for _ in range(2)]
    assert not torch.equal(*draws)
    found = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(found, torch.rand(3))  # the user's own random numbers are left alone


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_per_sample_draws_are_each_generators_own(dtype, device):
    like = torch.zeros(3, 4, 5, dtype=dtype, device=device)
    noise = PerSample([9, 0, 9])
    first, second = noise(like, T, S), noise(like, T, S)
    alone = torch.Generator().manual_seed(9)
    for draw in (first, second):
        expected = torch.randn(4, 5, generator=alone).to(like)
        assert torch.equal(draw[0], expected)
        assert torch.equal(draw[2], expected)
    assert first.dtype == dtype
    assert not torch.equal(first[0], first[1])


def test_seeds_and_batch_must_agree():
    for noise in (PerSample([1, 2]), Brownian([1, 2], 0.0, 1.0)):
        with pytest.raises(ValueError, match="2 seeds for a batch of 3"):
            noise(torch.zeros(3, 1), T, S)


def test_replay_gives_the_recording_and_says_when_it_ends():
    draws = torch.randn(2, 3, 1)
    noise = Replay(draws)
    assert torch.equal(torch.stack([noise(draws[0], T, S), noise(draws[0], T, S)]), draws)
    with pytest.raises(ValueError, match="Replay of 2 draws: no draw left where shape"):
        noise(draws[0], T, S)
    with pytest.raises(ValueError, match=r"a draw of shape \(3, 1\) where shape \(4, 1\) is needed"):
        Replay(draws)(torch.zeros(4, 1), T, S)


# Brownian motion ------------------------------------------------------------------------------------------------------

CLOCKS = {
    "time": None,
    "exp(2 lambda)": lambda t: torch.exp(2 * VP().half_log_snr(t)),
}
each_clock = pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS.keys())


def increments(noise, like, times, clock):
    """W(s) - W(t) of the path, with the normalisation undone."""
    clock = clock or (lambda t: t)
    return torch.stack([noise(like, t, s) * (clock(s) - clock(t)).abs().sqrt() for t, s in pairwise(times)])


@each_clock
def test_the_path_does_not_change_with_the_number_of_steps(clock):
    """10 steps or 250: the increments of the fine grid add up to those of the coarse one."""
    like = torch.zeros(1, 3, dtype=torch.float64)
    noise = Brownian([4], 1e-3, 1.0, clock, depth=12)
    times = torch.linspace(1.0, 1e-3, 251, dtype=torch.float64)
    fine = increments(noise, like, times, clock).reshape(10, 25, 1, 3).sum(1)
    coarse = increments(Brownian([4], 1e-3, 1.0, clock, depth=12), like, times[::25], clock)
    torch.testing.assert_close(fine, coarse, rtol=1e-9, atol=1e-9 * float(coarse.abs().max()))


@each_clock
def test_increments_are_independent_standard_normals(clock):
    """40 000 paths over six uneven steps: means, covariance matrix and fourth moment at 4.5 standard errors."""
    count = 40_000
    noise, like = Brownian([11], 1e-3, 1.0, clock), torch.zeros(1, count, dtype=torch.float64)
    times = f64([1.0, 0.77, 0.5, 0.49, 0.2, 0.03, 0.0017])
    eps = torch.cat([noise(like, t, s) for t, s in pairwise(times)])
    bound = 4.5 / math.sqrt(count)
    assert float(eps.mean(1).abs().max()) < bound
    covariance = eps @ eps.T / count
    assert float((covariance - torch.eye(6, dtype=torch.float64)).abs().max()) < bound * math.sqrt(2)
    assert float(((eps**4).mean(1) - 3).abs().max()) < bound * math.sqrt(96)
    prior = noise(like, times[0], times[0])
    assert float((prior @ eps.T / count).abs().max()) < bound
    assert float(prior.square().mean()) == pytest.approx(1.0, abs=bound * math.sqrt(2))


def test_seeds_give_unrelated_paths():
    """Neighbouring seeds and nodes: 200 of them, no correlation above 5 standard errors."""
    like = torch.zeros(200, 500, dtype=torch.float64)
    eps = Brownian(range(200), 0.0, 1.0, depth=8)(like, T, S)
    correlation = eps @ eps.T / 500 - torch.eye(200, dtype=torch.float64)
    assert float(correlation.fill_diagonal_(0).abs().max()) < 5.2 / math.sqrt(500)


def test_the_order_of_queries_does_not_matter():
    noise, like = Brownian([1], 0.0, 1.0), torch.zeros(1, 2)
    first = noise(like, T, S)
    noise(like, f64(0.9), f64(0.1))
    assert torch.equal(noise(like, T, S), first)
    torch.testing.assert_close(noise(like, S, T), -first)


def test_a_clock_that_stands_still_adds_nothing():
    """Stochasticity on an interval only: outside it no noise is asked of the path, inside it is one."""
    noise, like = Brownian([1], 0.0, 1.0, lambda t: t.clamp(0.3, 0.5)), torch.zeros(1, 4, dtype=torch.float64)
    assert not noise(like, f64(0.2), f64(0.1)).any()
    assert not noise(like, f64(0.95), f64(0.6)).any()
    torch.testing.assert_close(noise(like, f64(0.9), f64(0.1)), noise(like, f64(0.5), f64(0.3)), rtol=1e-6, atol=1e-6)


def test_a_path_needs_an_interval():
    with pytest.raises(ValueError, match=r"Brownian path on \[1.0, 0.5\]: t_min must lie below t_max"):
        Brownian([0], 1.0, 0.5)


@pytest.mark.parametrize(
    ("solver", "clock"),
    [
        (Exponential(1, 1.0), CLOCKS["exp(2 lambda)"]),
        (Exponential(2, 1.0), CLOCKS["exp(2 lambda)"]),
        (Exponential(1, 0.5), lambda t: torch.exp(0.5 * VP().half_log_snr(t))),
        (EulerMaruyama(), lambda t: 0.1 * t + 9.95 * t**2),  # int g^2: the path that Euler-Maruyama integrates
    ],
    ids=["SDE-1", "SDE-2", "tau = 0.5", "Euler-Maruyama"],
)
def test_solutions_along_one_path_converge(solver, clock):
    """Strong order 1 (mr-sampler.md 2.7): 64 paths, each with 8, 16 and 32 steps against 128."""
    process = VP()
    mix = Mixture(process)
    z = torch.randn(64, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def end(steps):
        path = Brownian([5], 0.1, 0.9, clock, depth=7)  # the grids below meet its leaves
        grid = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)
        return run(mix.denoise, process, z, grid, solver, lambda like, t, s: path(like.T, t, s).T)

    truth = end(128)
    errors = [float((end(steps) - truth).square().mean().sqrt()) for steps in (8, 16, 32)]
    found = slopes(errors)
    assert 0.75 < sum(found) / 2 < 1.45
