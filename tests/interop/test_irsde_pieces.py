"""The official pointwise functions, one training step, and the bias of the maximum-likelihood loss."""

import math

import pytest
import torch
from golden import cases, error, load
from recorded import Recorded, official, tolerance

from undrift import Exponential, Replay, prediction, times, trajectory
from undrift.interop import irsde_process
from undrift.tensor import expand


class Pieces:
    """The official pointwise functions at index t, in z = x - mu, from the public functions of the process."""

    def __init__(self, case: str):
        self.tensors, self.meta = load("mrsampler", case)
        self.process = official(self.meta["sde_args"], self.meta["variant"])
        self.mu = self.tensors["mu"]
        self.z, self.z0 = self.tensors["x"] - self.mu, self.tensors["x0"] - self.mu

    def scalars(self, t: torch.Tensor, like: torch.Tensor) -> list[torch.Tensor]:
        """alpha, sigma, f, g^2 at t, ready for `like`."""
        found = (*self.process.alpha_sigma(t.double()), *self.process.drift_diffusion(t.double()))
        return [expand(c, like) for c in found]

    def drift(self, z: torch.Tensor, score: torch.Tensor, t: torch.Tensor, tau: float) -> torch.Tensor:
        _, _, f, g2 = self.scalars(t, z)
        return f * z - (1 + tau**2) / 2 * g2 * score

    def optimum(self, z: torch.Tensor, z0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The mean of the posterior of z_{t-1}."""
        return self.process.bridge(z, z0, t.double(), t.double() - 1, tau=1.0, eps=torch.zeros_like(z))

    def network(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        network = Recorded(self.tensors, self.meta["network"])
        return network(z, t.to(z.dtype).expand(len(z)), self.mu)

    def at(self, t: torch.Tensor) -> dict[str, torch.Tensor]:
        z, z0, mu, process = self.z, self.z0, self.mu, self.process
        alpha, sigma, f, _ = self.scalars(t, z)
        score, noise = self.tensors["score_arg"], self.tensors["noise_arg"]
        mean = process.marginal(z0, t, torch.zeros_like(z))
        eps = self.network(z, t)
        towards = Exponential(order=1, tau=1.0).table(process, torch.stack([t, t - 1]))
        return {
            "mu_bar": mean + mu,
            "sigma_bar": sigma,
            "drift": f * z,
            "sde_reverse_drift": self.drift(z, score, t, 1.0),
            "ode_reverse_drift": self.drift(z, score, t, 0.0),
            "get_score_from_noise": -noise / sigma,
            "score_fn": -eps / sigma,
            "noise_fn": eps,
            "reverse_optimum_step": self.optimum(z, z0, t) + mu,
            "reverse_optimum_std": towards.noise[0].clamp(min=process.lam * math.sqrt(1e-20 * self.meta["dt"])),
            "get_real_noise": (z - mean) / sigma,
            "get_real_score": (mean - z) / sigma**2,
            "get_init_state_from_noise": (z - sigma * noise) / alpha + mu,
            "weights": alpha,
            "reverse_sde_step_mean": z - self.drift(z, score, t, 1.0) + mu,
        }


@pytest.mark.parametrize("case", cases("mrsampler", "irsde_pieces"))
def test_pieces(case):
    pieces = Pieces(case)
    found = [pieces.at(torch.tensor(float(t), dtype=torch.float64)) for t in pieces.meta["t"]]
    recorded = {name[5:]: tensor for name, tensor in pieces.tensors.items() if name.startswith("at_t/")}
    assert recorded.keys() == found[0].keys()
    for name, wanted in recorded.items():
        for ours, theirs in zip(found, wanted, strict=True):
            # The official float64 variance at t = 1 is a difference of numbers near 1, and clamped.
            assert error(ours[name], theirs) < tolerance(pieces.tensors) or (ours[name] - theirs).abs().max() < 1e-11, (
                name
            )


@pytest.mark.parametrize("case", cases("mrsampler", "irsde_pieces"))
def test_chains_of_pieces(case):
    pieces = Pieces(case)
    tensors, mu = pieces.tensors, pieces.mu
    z = tensors["forward/states"][0] - mu
    for t, (eps, wanted) in enumerate(zip(tensors["forward/noise"], tensors["forward/states"][1:], strict=True), 1):
        _, _, f, g2 = pieces.scalars(torch.tensor(t), z)
        z = z + f * z + g2.sqrt() * eps.to(z)
        assert error(z + mu, wanted) < tolerance(pieces.tensors)
    states, z = [pieces.z], pieces.z
    for t in range(pieces.process.steps, 0, -1):
        z = pieces.optimum(z, pieces.z0, torch.tensor(t))
        states.append(z)
    assert error(torch.stack(states[::10]) + mu, tensors["optimal_reverse/states"]) < tolerance(pieces.tensors)
    assert error(z + mu, tensors["optimal_reverse/final"]) < tolerance(pieces.tensors)


@pytest.mark.parametrize("case", cases("mrsampler", "irsde_pieces"))
def test_training_step(case):
    pieces = Pieces(case)
    tensors, mu = pieces.tensors, pieces.mu
    t = tensors["train/timesteps"].reshape(-1)
    z = pieces.process.marginal(pieces.z0, t.double(), tensors["train/noise_001"].to(mu))
    network = pieces.network(z, t)
    expectation = z - pieces.drift(z, -network / pieces.scalars(t, z)[1], t, 1.0)
    optimum = pieces.optimum(z, pieces.z0, t)
    found = {
        "states": z + mu,
        "network_noise": network,
        "expectation": expectation + mu,
        "optimum": optimum + mu,
        "loss_l1": (expectation - optimum).abs().mean(),
        "loss_l2": (expectation - optimum).square().mean(),
    }
    for name, ours in found.items():
        assert error(ours, tensors[f"train/{name}"]) < tolerance(pieces.tensors), name


def test_ml_noise_undoes_the_bias_of_the_maximum_likelihood_loss():
    """The output at which one Euler step lands on the posterior mean, read as `ml_noise`, is the clean state again."""
    process = irsde_process()
    t = torch.arange(1, 101, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    z0, eps = torch.randn(2, 100, 3, generator=generator, dtype=torch.float64)
    z = process.marginal(z0, t, eps)
    (alpha, sigma), (f, g2) = process.alpha_sigma(t), process.drift_diffusion(t)
    optimum = process.bridge(z, z0, t, t - 1, tau=1.0, eps=torch.zeros_like(z))
    output = expand(sigma / g2, z) * (expand(1 - f, z) * z - optimum)
    skip, out = prediction.ml_noise(process).affine(t, alpha, sigma)
    torch.testing.assert_close(expand(skip, z) * z + expand(out, z) * output, z0, rtol=0, atol=1e-9)
    # eps = k2 (F + k1 z): the numbers of research/mr-sampler.md 1.7
    k2 = -out * alpha / sigma
    k1 = (1 - alpha * skip) / (sigma * k2)
    assert k1[[49, 99]].tolist() == pytest.approx([0.0637664678, 0.1374121467], abs=5e-11)
    assert k2[[49, 99]].tolist() == pytest.approx([0.9995374833, 0.9981972011], abs=5e-11)


@pytest.mark.parametrize(
    ("order", "tau", "steps", "true", "raw"),
    [
        (1, 0.0, 10, 0.0358, 0.0424),
        (1, 0.0, 100, 0.0482, 0.0536),
        (2, 0.0, 20, 0.0493, 0.0539),
        (2, 0.0, 50, 0.0504, 0.0556),
        (2, 0.0, 100, 0.0500, 0.0552),
        (2, 1.0, 20, 0.0528, 0.0528),
        (2, 1.0, 100, 0.0512, 0.0512),
    ],
)
def test_samples_from_a_network_trained_by_maximum_likelihood(order, tau, steps, true, raw):
    """Standard deviation of the samples for Gaussian data of 0.05: the table of research/mr-sampler.md 1.7.

    Everything is linear: each of the steps + 1 draws is followed by itself, and the variances add.
    """
    process, variance = irsde_process(), 0.05**2

    def noise_of(z, t):
        alpha, sigma = process.alpha_sigma(t)
        return z * sigma / (alpha**2 * variance + sigma**2)

    def network(z, t):
        alpha, sigma = process.alpha_sigma(t)
        f, g2 = process.drift_diffusion(t)
        z0 = (z - sigma * noise_of(z, t)) / alpha
        optimum = process.bridge(z, z0, t, t - 1, tau=1.0, eps=torch.zeros_like(z))
        return sigma / g2 * ((1 - f) * z - optimum)

    def spread(output, meaning):
        def denoise(z, t):
            skip, out = meaning.affine(t, *process.alpha_sigma(t))
            return skip * z + out * output(z, t)

        draws = torch.eye(steps + 1, dtype=torch.float64)
        grid = times.uniform(process, steps)
        z = draws[0] * process.alpha_sigma(grid[0])[1]
        for z in trajectory(denoise, process, z, grid, Exponential(order, tau), Replay(draws[1:])):  # noqa: B007, B020
            pass
        return float(z.norm())

    exact = spread(noise_of, prediction.noise)
    assert exact == pytest.approx(true, rel=6e-3)  # the table is from random samples
    assert spread(network, prediction.noise) == pytest.approx(raw, rel=6e-3)
    assert spread(network, prediction.ml_noise(process)) == pytest.approx(exact, rel=1e-9)
