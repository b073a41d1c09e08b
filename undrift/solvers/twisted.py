r"""Twisted sequential Monte Carlo: exact samples given an observation, for any prior, as particles and steps grow.

A guidance is the exact conditional estimate for few priors. Here it only proposes: each sample carries particles that
the guided bridge moves, z_s ~ r(z_s | z_t), and whose weights put right what it gets wrong,

    w <- w p(z_s | z_t) q_s(z_s) / (r(z_s | z_t) q_t(z_t)),    log p/r = -eps.u - |u|^2/2,   u = (mu_r - mu_p)/std,

with p the bridge of the unguided estimate and q_t(z) the guidance's idea of p(y | z_t = z), exact as sigma -> 0.
Source: Practical and Asymptotically Exact Conditional Sampling in Diffusion Models (Wu et al. 2023, arXiv 2306.17775).
"""

from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..noise import Noise
from ..process import Process
from .base import Solver, State

__all__ = ["Twist", "Twisted"]


class Twist(Protocol):
    """What proposes and judges: `undrift.guidance.Posterior`."""

    def twist(self, denoise: Denoise, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The estimates of z_0 without and with the observation (B, ...), and log q_t(z) + any constant (B,)."""


@final
@dataclass(frozen=True)
class Twisted(Solver):
    """One step of every particle, then resampling where half of them have lost their weight.

    The state that is yielded is one particle per sample, drawn by weight. Sample i depends on its own particles only.
    `denoise` is the estimate WITHOUT the observation. A step costs `particles` guided calls. Needs a `Noise` that
    gives a new draw at each call: not `Brownian`.

    Arguments:
        guidance: the observation.
        particles: per sample; the bias of what is drawn falls as 1 / particles.
        tau: stochasticity of the bridge, > 0.
    """

    guidance: Twist
    particles: int = 16
    tau: float = 1.0

    def __post_init__(self) -> None:
        if self.particles < 1 or not self.tau > 0:
            raise ValueError(f"Twisted particles = {self.particles}, tau = {self.tau}: need at least 1, and tau > 0")

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        swarm, weight = state or (self._judged(denoise, [z] * self.particles, t), z.new_zeros(self.particles, len(z)))
        moved, gains = [], []
        for particle, mean, guided, log_q in swarm:
            eps = noise(z, t, s)
            zero = torch.zeros_like(z)
            std = process.bridge(zero, zero, t, s, self.tau, torch.ones_like(z))
            u = process.bridge(zero, guided - mean, t, s, self.tau, zero) / torch.where(std > 0, std, torch.inf)
            moved.append(process.bridge(particle, guided, t, s, self.tau, eps))
            gains.append(-(eps * u + u**2 / 2).double().flatten(1).sum(1) - log_q)
        weight = weight.double()
        last = bool((process.alpha_sigma(s)[1] == 0).all())  # there is no noise left to guide, nor to judge by
        if not last:
            swarm = self._judged(denoise, moved, s)
            weight = weight + torch.stack([gain + log_q for gain, (*_, log_q) in zip(gains, swarm, strict=True)])
        share = weight.softmax(0)
        at = torch.special.ndtr(noise(z, s, s).double().flatten(1)[:, 0])  # uniform, one per sample
        out = _take(torch.stack(moved), _systematic(share, at[None]))[0]
        if last:
            return out, ()
        poor = share.square().sum(0) * self.particles > 2
        even = (torch.arange(self.particles)[:, None] + at.cpu()) / self.particles
        keep = torch.arange(self.particles, device=z.device)[:, None].expand_as(share)
        index = torch.where(poor, _systematic(share, even.to(share)), keep)
        parts = (_take(torch.stack(part), index).unbind(0) for part in zip(*swarm, strict=True))
        return out, (list(zip(*parts, strict=True)), torch.where(poor, 0.0, weight))

    def _judged(self, denoise: Denoise, particles: list[Tensor], t: Tensor) -> list[tuple[Tensor, ...]]:
        return [(z, *self.guidance.twist(denoise, z, t)) for z in particles]


def _systematic(share: Tensor, points: Tensor) -> Tensor:
    """The indices (n, B) at which the cumulative shares (P, B) pass `points` (n, B) in [0, 1)."""
    return (share.cumsum(0)[None] <= points[:, None]).sum(1).clamp(max=len(share) - 1)


def _take(swarm: Tensor, index: Tensor) -> Tensor:
    """swarm (P, B, ...) at index (n, B) -> (n, B, ...)."""
    return swarm[index, torch.arange(swarm.shape[1], device=swarm.device)]
