"""The loop: what it passes on, where it starts, where it ends, and in whose precision."""

import pytest
import torch
from oracles import Mixture, f64, gaussian, marginal_law

import undrift
from undrift import times as grids
from undrift.noise import Gaussian, PerSample, Replay
from undrift.process import VP, Flow, MeanReverting
from undrift.sample import sample, trajectory
from undrift.solvers import Exponential
from undrift.space import Pixels, Residual


def test_images_of_a_known_law(generator):
    """100 000 pixels of N(0.6, 0.05^2), from pure noise by the exact denoiser: mean and spread as they must be."""
    process = VP()
    denoise = gaussian(2 * 0.6 - 1, 0.1, process)
    images = sample(
        denoise, process, Pixels(), shape=(100_000, 1), times=grids.uniform_lambda(process, 40),
        solver=Exponential(2), noise=Gaussian(generator),
    )  # fmt: skip
    assert images.dtype == torch.float32
    assert float(images.mean()) == pytest.approx(0.6, abs=1e-3)
    assert float(images.std()) == pytest.approx(0.05, rel=0.02)


@pytest.mark.parametrize("level", [-4.0, 4.0])
def test_images_are_clipped_at_the_very_end(level):
    out = sample(
        lambda z, t: torch.full_like(z, level), VP(), Pixels(), shape=(2, 3, 4, 4), times=grids.uniform(VP(), 3),
        solver=Exponential(), noise=PerSample([0, 1]),
    )  # fmt: skip
    assert out.unique().tolist() == [float(level > 0)]


def test_conditions_reach_the_denoiser_and_the_observation_the_space(device):
    y = torch.rand(2, 3, 4, 4, device=device) * 0.5
    seen = []

    def denoise(z, t, **cond):
        seen.append(cond)
        return 0.25 * torch.ones_like(z)

    process = MeanReverting()
    out = sample(
        denoise, process, Residual(), shape=y.shape, times=grids.uniform(process, 4), solver=Exponential(1, 1.0),
        noise=PerSample([3, 4]), y=y, image=y, strength=0.5,
    )  # fmt: skip
    assert len(seen) == 4
    assert all(cond["image"] is y and cond["strength"] == 0.5 for cond in seen)
    torch.testing.assert_close(out, y + 0.25)
    assert out.device.type == device.type


def test_it_starts_from_the_prior_or_from_a_given_state():
    process, first = VP(), []

    def denoise(z, t):
        first.append(z)
        return torch.zeros_like(z)

    def go(noise, **kwargs):
        first.clear()
        times = f64([0.5, 0.2, 0.0])
        sample(denoise, process, Pixels(), shape=(2, 1, 3, 3), times=times, solver=Exponential(), noise=noise, **kwargs)
        return first[0]

    eps = torch.randn(1, 2, 1, 3, 3)
    sigma = float(process.alpha_sigma(f64(0.5))[1])
    torch.testing.assert_close(go(Replay(eps)), sigma * eps[0])
    state = torch.randn(2, 1, 3, 3)
    assert torch.equal(go(Replay([]), start=state), state)


def test_a_late_start_from_an_image_draws_its_posterior():
    """start = the marginal of a known image at t: the exact law of z_0 given nothing else, here Gaussian."""
    process, t = VP(), f64(0.4)
    mean, std = marginal_law(process, t, 0.2, 0.1)
    times = torch.cat([process.time(torch.linspace(float(process.half_log_snr(t)), 5.0, 60)), f64([0.0])])
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    ends = list(trajectory(gaussian(0.2, 0.1, process), process, z, times, Exponential(3), Replay([])))[-1]
    # The flow of Gaussian data is affine: the z-score is kept.
    torch.testing.assert_close((ends - 0.2) / 0.1, (z - mean) / std, rtol=2e-3, atol=2e-3)


def test_trajectory_yields_every_state_and_can_be_left_early():
    calls = []

    def denoise(z, t):
        calls.append(float(t))
        return Mixture(VP()).denoise(z, t)

    times = grids.uniform(VP(), 6)
    states = trajectory(denoise, VP(), torch.ones(1, 1, dtype=torch.float64), times, Exponential(), Replay([]))
    next(states)
    next(states)
    assert calls == times[:2].tolist()
    assert len(list(states)) == 4


@pytest.mark.parametrize("times", [[0.5], [0.5, 0.5], [0.2, 0.4], [[0.5, 0.2]]])
def test_a_grid_must_fall(times):
    with pytest.raises(ValueError, match="need at least 2 strictly decreasing times"):
        next(trajectory(lambda z, t: z, VP(), torch.ones(1, 1), f64(times), Exponential(), Replay([])))


def test_no_graph_is_kept():
    weight = torch.ones((), requires_grad=True)
    out = undrift.sample(
        lambda z, t: weight * z, Flow(), Pixels(), shape=(1, 1), times=grids.uniform(Flow(), 3), solver=Exponential(),
        noise=PerSample([0]),
    )  # fmt: skip
    assert not out.requires_grad
