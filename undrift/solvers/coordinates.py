r"""Coordinates of the probability-flow ODE dz/dt = f z - g^2/2 score: a variable x and a scaled state u = z / k, with

    du/dx = a u + b z_0(k u, t(x)).

| coordinates | x | k | a | b |
|---|---|---|---|---|
| `Time` | t | 1 | f + g^2/(2 sigma^2) | -alpha g^2/(2 sigma^2) |
| `Angle` | atan(sigma/alpha) | sqrt(alpha^2 + sigma^2) | alpha/sigma | -k/sigma |

In the angle every path is the same quarter circle u = cos(x) z_0 + sin(x) eps: it ends at x = pi/2 where alpha = 0,
and the corners of a discrete schedule are gone. Hence log p(z) = log p(u) - D log k, and the divergence of the
right-hand side is a D + b k tr(dz_0/dz).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, final

import torch
from torch import Tensor

from ..process import Process

__all__ = ["Angle", "Coordinates", "Rate", "Time", "time_at"]


class Rate(NamedTuple):
    """k, a and b of du/dx = a u + b z_0(k u, t), float64, of the shape of t."""

    k: Tensor
    a: Tensor
    b: Tensor


class Coordinates(ABC):
    """A variable and a scale; all float64, shapes of the argument."""

    @abstractmethod
    def variable(self, process: Process, t: Tensor) -> Tensor:
        """x at time t."""

    @abstractmethod
    def time(self, process: Process, x: Tensor) -> Tensor:
        """The time t in [t_min, t_max] at x."""

    @abstractmethod
    def rate(self, process: Process, t: Tensor) -> Rate:
        """The coefficients at time t."""


@final
@dataclass(frozen=True)
class Time(Coordinates):
    """t itself, and the unscaled state: what Song et al. (2021, arXiv 2011.13456) integrate. Needs alpha > 0."""

    def variable(self, process: Process, t: Tensor) -> Tensor:
        return t

    def time(self, process: Process, x: Tensor) -> Tensor:
        return x

    def rate(self, process: Process, t: Tensor) -> Rate:
        alpha, sigma = process.alpha_sigma(t)
        f, g2 = process.drift_diffusion(t)
        pull = g2 / (2 * sigma**2)
        return Rate(torch.ones_like(t), f + pull, -alpha * pull)


@final
@dataclass(frozen=True)
class Angle(Coordinates):
    """The angle of Progressive Distillation (Salimans & Ho 2022, arXiv 2202.00512), du/dx its velocity, on any path."""

    def variable(self, process: Process, t: Tensor) -> Tensor:
        alpha, sigma = process.alpha_sigma(t)
        return torch.atan2(sigma, alpha)

    def time(self, process: Process, x: Tensor) -> Tensor:
        return time_at(process, -x.tan().log())

    def rate(self, process: Process, t: Tensor) -> Rate:
        alpha, sigma = process.alpha_sigma(t)
        k = torch.hypot(alpha, sigma)
        return Rate(k, alpha / sigma, -k / sigma)


def time_at(process: Process, lam: Tensor) -> Tensor:
    """`process.time` to float64 rounding, ten times faster: what an integrator asks for at every step.

    From a table in lambda, then false position (Illinois) inside its interval, which also stands the corners of a
    schedule. Outside the range of lambda the nearer end.
    """
    knots, times = _table(process)
    i = torch.searchsorted(knots, lam.contiguous()).clamp(1, len(knots) - 1)
    a, b = times[i - 1], times[i]  # noisier, cleaner
    f_a, f_b = process.half_log_snr(a) - lam, process.half_log_snr(b) - lam
    f_a, f_b = f_a.clamp(max=0.0, min=-1e300), f_b.clamp(min=0.0)
    c, side = a, torch.zeros_like(lam)
    for _ in range(60):
        share = torch.where(f_b > f_a, f_a / (f_a - f_b), 0.0)
        c = a + share * (b - a)
        f = process.half_log_snr(c) - lam
        tight = (a - b).abs() <= 4e-16 * a.abs()  # where lambda is too steep for f to be small
        if bool(((f.abs() <= 4e-16 * (1 + lam.abs())) | tight | (c == a) | (c == b)).all()):
            break
        low = f < 0
        # The end that stays twice weighs half, so that neither stays for long.
        f_a, f_b = (
            torch.where(low, f, torch.where(side > 0, f_a / 2, f_a)),
            torch.where(low, torch.where(side < 0, f_b / 2, f_b), f),
        )
        a, b = torch.where(low, c, a), torch.where(low, b, c)
        side = torch.where(low, -1.0, 1.0)
    return torch.where(lam < knots[0], process.t_max, torch.where(lam >= knots[-1], process.t_min, c))


@lru_cache(maxsize=32)
def _table(process: Process) -> tuple[Tensor, Tensor]:
    """lambda, increasing, and its times."""
    ends = process.half_log_snr(torch.tensor([process.t_max, process.t_min], dtype=torch.float64))
    low, high = ends.clamp(-37.0, 37.0).tolist()  # e^-37 is below rounding
    knots = torch.linspace(low, high, 1024, dtype=torch.float64)
    times = process.time(knots)
    return process.half_log_snr(times).clamp(-37.0, 37.0).cummax(0).values, times
