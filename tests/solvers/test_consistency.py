"""Consistency sampling against its algorithm by hand, and the boundary condition of the map, everywhere."""

from itertools import pairwise

import pytest
import torch
from oracles import PROCESSES, Mixture, f64, inner_times, run, scale_of
from torch import nn

from undrift import prediction
from undrift.denoiser import Denoiser, LogNoise, Sigma, Time
from undrift.noise import Gaussian, Replay
from undrift.prediction import MLNoise
from undrift.process import VP
from undrift.sample import trajectory
from undrift.solvers import Consistency, Exponential, consistency_map, implied_estimate

everywhere = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
PREDICTIONS = {
    "data": prediction.data,
    "noise": prediction.noise,
    "score": prediction.score,
    "flow": prediction.flow,
    "velocity": prediction.velocity(0.5),
}


def grid(process, steps=4):
    return torch.cat([f64([process.t_max]), inner_times(process, steps - 1), f64([process.t_clean])])


@everywhere
@pytest.mark.parametrize("planned", [True, False])
def test_algorithm_1(process, planned):
    """x = f(z_t), z_s = alpha_s x + sigma_s eps: bit for bit, step by step and planned, which rounds once less."""
    denoise, times = Mixture(process, scale_of(process)).denoise, grid(process)
    draws = torch.randn(4, 9, 1, dtype=torch.float64)
    z = start = draws[0] * process.alpha_sigma(times[0])[1]
    for i, (t, s) in enumerate(pairwise(times)):
        alpha, sigma = process.alpha_sigma(s)
        x = denoise(z, t)
        eps = draws[i + 1] if i < 3 else torch.zeros_like(x)
        z = (sigma * eps).add(x, alpha=float(alpha)) if planned else alpha * x + sigma * eps
    solver, noise = Consistency(), Replay(draws[1:])
    out = start
    if planned:
        out = run(denoise, process, start, times, solver, noise)
    else:
        for t, s in pairwise(times):
            out, _ = solver.step(denoise, process, out, t.expand(9), s.expand(9), (), noise)
    torch.testing.assert_close(out, z, rtol=0, atol=0)


def test_a_student_of_segments_follows_the_flow_from_edge_to_edge():
    """Of a Gaussian of spread 0.6, with the exact map to the end of each segment: in as many leaps as segments the flow
    itself, noise or not; in more, taking noise again within them, the same spread.
    """
    process, spread = VP(), 0.6
    times = torch.cat([f64([1.0]), process.time(f64([-2.5, -0.5, 1.0])), f64([0.0])])
    edges = (float(times[2]),)
    scale = {
        float(t): ((process.alpha_sigma(t)[0] * spread) ** 2 + process.alpha_sigma(t)[1] ** 2).sqrt() for t in times
    }

    def denoise(z, t):
        e = times[2] if t > times[2] else times[4]
        (alpha_t, sigma_t), (alpha_e, sigma_e) = process.alpha_sigma(t), process.alpha_sigma(e)
        wanted = z * scale[float(e)] / scale[float(t)]
        return (wanted - z * sigma_e / sigma_t) / (alpha_e - alpha_t * sigma_e / sigma_t)

    z = torch.randn(20_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * scale[1.0]
    leaps = torch.stack([times[0], times[2], times[4]])
    solver, noise = Consistency(edges=edges), Gaussian(torch.Generator().manual_seed(1))
    for planned in (True, False):
        found = z
        if planned:
            found = run(denoise, process, z, leaps, solver, noise)
        else:
            for t, s in pairwise(leaps):
                found, _ = solver.step(denoise, process, found, t, s, (), noise)
        torch.testing.assert_close(found, z * scale[0.0] / scale[1.0], rtol=1e-9, atol=1e-9)
    many = run(denoise, process, z, times, solver, noise)
    assert many.std().item() == pytest.approx(spread, rel=0.015)
    assert (many - found).abs().max() > 0.1
    with pytest.raises(ValueError, match="a step passes over one of lambda"):
        run(denoise, process, z, times[[0, 3, 4]], solver, noise)


@everywhere
def test_without_fresh_noise_it_is_ddim(process):
    denoise, times = Mixture(process, scale_of(process)).denoise, grid(process)
    z = torch.randn(9, 1, dtype=torch.float64) * process.alpha_sigma(times[0])[1]
    assert torch.equal(*(run(denoise, process, z, times, solver) for solver in (Consistency(0.0), Exponential(1))))


@pytest.mark.parametrize("fresh", [0.3, 0.8])
def test_part_of_the_noise_is_kept(fresh):
    """z_s = alpha_s x + sigma_s (sqrt(1 - fresh^2) eps_t + fresh eps), eps_t the noise that z_t is x with."""
    process = VP()
    t, s = f64(0.8), f64(0.3)
    z, x, eps = torch.randn(3, 5, 2, dtype=torch.float64)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
    kept = (z - alpha_t * x) / sigma_t
    expected = alpha_s * x + sigma_s * ((1 - fresh**2) ** 0.5 * kept + fresh * eps)
    out, _ = Consistency(fresh).step(lambda *_: x, process, z, t, s, (), Replay([eps]))
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_one_evaluation_a_step():
    process, calls = VP(), []

    def denoise(z, t):
        calls.append(float(t))
        return z

    times = f64([1.0, 0.5, 0.0])
    states = list(trajectory(denoise, process, torch.randn(3, 1), times, Consistency(), Replay(torch.randn(2, 3, 1))))
    assert calls == [1.0, 0.5]
    assert len(states) == 2


# The map --------------------------------------------------------------------------------------------------------------


class Odd(nn.Module):
    """Any network: large numbers that depend on everything it is told, as they are."""

    def forward(self, z, c):
        return 3 * z.sin() + c[:, None]


@everywhere
def test_boundary(process):
    """f(z, end) = z for every prediction and label, wherever the end is, in single precision too."""
    z = torch.randn(6, 2)
    ends = torch.cat([f64([process.t_clean, process.t_min, process.t_max]), inner_times(process, 3)])
    for name, meaning in {**PREDICTIONS, "ml_noise": MLNoise(process)}.items():
        for label in (LogNoise(), Time(), Sigma()):
            denoiser = Denoiser(Odd(), process, meaning, scale=scale_of(process), label=label)
            for state in (z, z.double()):
                out = consistency_map(denoiser, process, state, ends, ends)
                assert torch.equal(out, state), (name, label)


@everywhere
def test_the_boundary_holds_row_by_row_and_has_gradients(process):
    """Rows that stand at the end pass z through; the others, in the same batch, learn as if they were alone."""
    end = f64(process.t_clean).expand(4)
    t = torch.cat([inner_times(process, 3), end[:1]])
    gain = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)

    def denoise(z, t):
        level = process.alpha_sigma(t)[1]
        return gain * z / (level / level)[:, None]  # not a number at the data

    z = torch.randn(4, 2, dtype=torch.float64)
    out = consistency_map(denoise, process, z, t, end)
    assert torch.equal(out[3], z[3])
    torch.testing.assert_close(out[:3], 1.5 * z[:3], rtol=1e-12, atol=0)
    (slope,) = torch.autograd.grad(out.sum(), gain)
    torch.testing.assert_close(slope, z[:3].sum(), rtol=1e-12, atol=1e-12)


@everywhere
def test_to_the_data_it_is_the_estimate(process):
    denoise, t = Mixture(process, scale_of(process)).denoise, inner_times(process, 5)
    z = torch.randn(5, 1, dtype=torch.float64)
    assert torch.equal(consistency_map(denoise, process, z, t, f64(process.t_clean)), denoise(z, t))


def test_to_a_segment_edge_it_is_the_flow_of_what_it_predicts():
    """For one and the same z_0 along the path, f(f(z; t -> s); s -> r) = f(z; t -> r)."""
    process = VP()
    t, s, r = f64(0.9), f64(0.6), f64(0.2)
    z, x = torch.randn(2, 5, 2, dtype=torch.float64)
    two = consistency_map(lambda *_: x, process, consistency_map(lambda *_: x, process, z, t, s), s, r)
    torch.testing.assert_close(two, consistency_map(lambda *_: x, process, z, t, r), rtol=1e-12, atol=1e-12)


@everywhere
def test_an_implied_estimate_undoes_the_map(process):
    """Of every state at every cleaner end it is the one answer that leads there; at sigma = 0 the state itself."""
    times = torch.cat([f64([process.t_max]), inner_times(process, 6)])
    t, end = times[:3], times[4:7]
    z, x = torch.randn(2, 3, 2, dtype=torch.float64)
    state = consistency_map(lambda *_: x, process, z, t, end)
    torch.testing.assert_close(implied_estimate(process, z, t, state, end), x, rtol=1e-6, atol=1e-6 * scale_of(process))
    at_once = implied_estimate(process, z, t[0], consistency_map(lambda *_: x, process, z, t[0], end[0]), end[0])
    torch.testing.assert_close(at_once, x, rtol=1e-6, atol=1e-6 * scale_of(process))
    if process.alpha_sigma(f64(process.t_clean))[1] == 0:
        assert torch.equal(implied_estimate(process, z, t, state, f64(process.t_clean)), state)
