"""Heun's step against EDM's algorithm 2, written as Karras et al. (2022) print it."""

import math

import pytest
import torch
from oracles import Counting, Mixture, f64, run

from undrift import times as grids
from undrift.noise import Brownian, Replay
from undrift.process import EDM, VP
from undrift.solvers import Heun


def algorithm_2(denoise, x, t, following, gamma, s_noise, eps):
    higher = t * (1 + gamma)
    x = x + math.sqrt(higher**2 - t**2) * s_noise * eps
    d = (x - denoise(x, f64(higher))) / higher
    out = x + (following - higher) * d
    if following > 0:
        d_prime = (out - denoise(out, f64(following))) / following
        out = x + (following - higher) * (d + d_prime) / 2
    return out


@pytest.mark.parametrize("gamma", [0.0, 0.1, math.sqrt(2) - 1])
@pytest.mark.parametrize(("t", "s"), [(10.0, 6.0), (0.5, 0.2), (0.01, 0.0)])
def test_algorithm_2(gamma, t, s):
    process = EDM()
    denoise = Mixture(process).denoise
    x, eps = torch.randn(2, 5, 1, dtype=torch.float64)
    x = x * t
    out, _ = Heun(gamma, 1.007).step(denoise, process, x, f64(t), f64(s), (), Replay([eps]))
    torch.testing.assert_close(out, algorithm_2(denoise, x, t, s, gamma, 1.007, eps), rtol=1e-10, atol=1e-12)


def test_every_path_is_edm_in_other_coordinates():
    """x = z / alpha, v = sigma / alpha: the same step on VP."""
    vp, edm = VP(), EDM()
    t, s = f64(0.6), f64(0.4)
    (a, b), (c, d) = vp.alpha_sigma(t), vp.alpha_sigma(s)
    z = torch.randn(5, 1, dtype=torch.float64)
    out, _ = Heun().step(Mixture(vp).denoise, vp, z, t, s, (), Replay([]))
    other, _ = Heun().step(Mixture(edm).denoise, edm, z / a, b / a, d / c, (), Replay([]))
    torch.testing.assert_close(out, c * other, rtol=1e-12, atol=1e-12)


def test_two_calls_a_step_but_for_the_last():
    process, denoise = VP(), Counting(Mixture(VP()).denoise)
    times = grids.uniform(process, 5)
    run(denoise, process, torch.randn(2, 1), times, Heun())
    assert [float(t) for t in denoise.times] == [t for pair in zip(times[:-1].tolist(), times[1:].tolist(), strict=True)
                                                 for t in pair][:-1]  # fmt: skip


def test_churn_keeps_to_the_noisy_end():
    """Nothing is noisier than t_max: there churn adds nothing."""
    process, z = EDM(), 80 * torch.randn(4, 1, dtype=torch.float64)
    denoise = Mixture(process).denoise
    eps = torch.randn(4, 1, dtype=torch.float64)
    churned, _ = Heun(0.4).step(denoise, process, z, f64(80.0), f64(40.0), (), Replay([eps]))
    plain, _ = Heun().step(denoise, process, z, f64(80.0), f64(40.0), (), Replay([]))
    torch.testing.assert_close(churned, plain, rtol=1e-9, atol=1e-9)


def test_churn_draws_anew_at_each_step_from_a_brownian_path():
    process = EDM()
    draws = []

    def noise(like, t, s):
        draws.append(Brownian([3], 0.002, 80.0)(like, t, s))
        return draws[-1]

    run(Mixture(process).denoise, process, torch.ones(1, 1, dtype=torch.float64), f64([10, 5, 2, 1]), Heun(0.2), noise)
    assert len({float(draw) for draw in draws}) == 3
