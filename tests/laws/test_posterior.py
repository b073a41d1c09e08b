"""IR-SDE's posterior sampling is the exponential integrator of order 1 with tau = 1, at any stride, to rounding."""

import pytest
import torch
from oracles import SCHEDULES, STATIONARY, f64, run

from undrift import prediction
from undrift import times as grids
from undrift.denoiser import Denoiser, Time
from undrift.noise import Replay
from undrift.process import MeanReverting
from undrift.solvers import Ancestral, Exponential


class Network(torch.nn.Module):
    """A nonlinear noise predictor of (x - mu, mu, t): anything at all."""

    def forward(self, z, c, image):
        return torch.sin(3 * z + image) + 0.1 * c[:, None] / 100 * z


def posterior_sampling(network, mu, noises, alphas):
    """Luo et al. 2024 in image coordinates, from a table of alpha at the visited indices, noisy first."""
    x = mu + STATIONARY * noises[0]
    for (t, B), (_, C), noise in zip(alphas[:-1], alphas[1:], [*noises[1:], torch.zeros_like(mu)], strict=True):
        A = B / C
        sigma = STATIONARY * (1 - B**2).sqrt()
        eps = network(x - mu, torch.full((len(mu),), t, dtype=torch.float64), mu)
        x0 = mu + (x - mu - sigma * eps) / B
        mean = mu + A * (1 - C**2) / (1 - B**2) * (x - mu) + C * (1 - A**2) / (1 - B**2) * (x0 - mu)
        x = mean + STATIONARY * ((1 - A**2) * (1 - C**2) / (1 - B**2)).clamp(min=0).sqrt() * noise
    return x


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 5, 20, 100])
@pytest.mark.parametrize("solver", [Exponential(1, 1.0), Ancestral()], ids=["exponential", "ancestral"])
def test_posterior_sampling(schedule, steps, solver):
    process = MeanReverting(schedule=schedule)
    times = grids.uniform(process, steps)
    mu, noises = torch.rand(2, 3, dtype=torch.float64), torch.randn(steps, 2, 3, dtype=torch.float64)
    alphas = [(float(t), process.alpha_sigma(t)[0]) for t in times]
    expected = posterior_sampling(Network(), mu, noises, alphas)
    denoiser = Denoiser(Network(), process, prediction.noise, scale=None, label=Time())
    z = run(
        lambda z, t: denoiser(z, t, image=mu), process, STATIONARY * noises[0], times, solver,
        Replay(noises[1:]),
    )  # fmt: skip
    # Dividing by alpha = 0.005 makes 1e-13 of the rounding errors of the first estimate.
    torch.testing.assert_close(mu + z, expected, rtol=1e-13, atol=2e-13)


@pytest.mark.parametrize("tau", [0.0, 0.4, 1.0])
def test_order_one_is_a_chain_of_bridges(tau):
    process = MeanReverting()
    times = grids.uniform_lambda(process, 7, 3.5)
    mu = torch.rand(2, 3, dtype=torch.float64)
    denoiser = Denoiser(Network(), process, prediction.velocity(STATIONARY), scale=STATIONARY)
    z = STATIONARY * torch.randn(2, 3, dtype=torch.float64)
    noises = torch.randn(7, 2, 3, dtype=torch.float64)
    found = run(lambda z, t: denoiser(z, t, image=mu), process, z, times, Exponential(1, tau), Replay(noises))
    for i in range(7):
        z = process.bridge(z, denoiser(z, times[i], image=mu), times[i], times[i + 1], tau, noises[i])
    torch.testing.assert_close(found, z, rtol=1e-13, atol=1e-14)


def test_data_and_noise_extrapolation_of_order_one_are_the_same_ode():
    process, times = MeanReverting(), f64([100.0, 61.3, 17.2, 4.0])
    mu, z = torch.rand(2, 2, 3, dtype=torch.float64)
    denoiser = Denoiser(Network(), process, prediction.data, scale=None)
    data, noise = (
        run(lambda z, t: denoiser(z, t, image=mu), process, z, times, Exponential(1, extrapolate=form))
        for form in ("data", "noise")
    )
    torch.testing.assert_close(data, noise, rtol=1e-12, atol=1e-13)
