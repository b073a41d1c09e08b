r"""First-order steps of the reverse SDE dz = [f z - (1 + tau^2)/2 g^2 score] dt + tau g dw, run from noise to data.

The score follows from the denoiser, score = (alpha z_0 - z) / sigma^2. A step to sigma = 0 is the denoiser's
estimate; one from alpha = 0, where f is infinite, is the bridge's.
Source: Score-Based Generative Modeling through SDEs (Song et al. 2021, arXiv 2011.13456), sections 3.3 and 4,
appendices E and F.
"""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..noise import Noise
from ..process import Process
from ..tensor import expand
from .base import Solver, State

__all__ = ["Ancestral", "EulerMaruyama", "ReverseDiffusion"]


@final
@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """Euler-Maruyama in t; tau = 1 the reverse SDE (weak order 1), tau = 0 Euler's method for the ODE."""

    tau: float = 1.0

    def __post_init__(self) -> None:
        if not self.tau >= 0:
            raise ValueError(f"EulerMaruyama tau = {self.tau}: need a number >= 0 (0 is the ODE, 1 the SDE)")

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        alpha, sigma = process.alpha_sigma(t)
        f, g2 = process.drift_diffusion(t)
        dt = s - t
        pull = -(1 + self.tau**2) / 2 * g2 * dt / sigma**2  # on alpha z_0 - z
        return _linear(
            process,
            z,
            denoise(z, t),
            t,
            s,
            noise,
            self.tau > 0,
            1 + f * dt - pull,
            pull * alpha,
            self.tau * torch.sqrt(g2 * -dt),
        ), ()


@final
@dataclass(frozen=True)
class ReverseDiffusion(Solver):
    r"""Song's reverse diffusion sampler (appendix E) with the exact transition of the forward process:

    z_s = (2 - a) z_t + G^2 score + G eps,   a = alpha_t/alpha_s,   G^2 = sigma_t^2 - a^2 sigma_s^2.
    """

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        (alpha, sigma), (a, variance) = process.alpha_sigma(t), process.transition(s, t)
        pull = variance / sigma**2
        return _linear(process, z, denoise(z, t), t, s, noise, True, 2 - a - pull, pull * alpha, variance.sqrt()), ()


@final
@dataclass(frozen=True)
class Ancestral(Solver):
    r"""Ancestral sampling: the posterior mean of z_s given z_t and z_0 = denoise(z_t), and one of two variances.

        z_s = (z_t + G^2 score) / a + std eps,

    std^2 = G^2 sigma_s^2 / sigma_t^2 for `"posterior"` (Song's VE step, DDPM's lower bound; `bridge` with tau = 1) or
    G^2 for `"forward"` (Song's VP step, DDPM's upper bound). a and G as in `ReverseDiffusion`.
    """

    variance: Literal["posterior", "forward"] = "posterior"

    def __post_init__(self) -> None:
        if self.variance not in ("posterior", "forward"):
            raise ValueError(f"Ancestral variance = {self.variance!r}: choose 'posterior' or 'forward'")

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        (alpha, sigma), (a, variance) = process.alpha_sigma(t), process.transition(s, t)
        shrunk = process.alpha_sigma(s)[1] / sigma
        std = variance.sqrt() * (shrunk if self.variance == "posterior" else 1)
        # (1 - G^2/sigma_t^2) / a, written without the difference
        carry, pull = a * shrunk**2, variance / sigma**2 * alpha / a
        return _linear(process, z, denoise(z, t), t, s, noise, True, carry, pull, std), ()


def _linear(
    process: Process,
    z: Tensor,
    z0: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Noise,
    random: bool,
    carry: Tensor,
    pull: Tensor,
    std: Tensor,
) -> Tensor:
    """carry z + pull z_0 + std eps; where alpha_t = 0 or sigma_s = 0, the limit of `Process.bridge`."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
    edge = (alpha_t == 0) | (sigma_s == 0)
    carry = torch.where(edge, 0.0 if random else sigma_s / sigma_t, carry)
    std = torch.where(edge, sigma_s if random else 0.0, std)
    out = expand(carry, z) * z + expand(torch.where(edge, alpha_s, pull), z) * z0
    return out + expand(std, z) * noise(z, t, s) if std.any() else out
