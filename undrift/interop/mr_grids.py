"""The time grids of the official MR Sampler, decreasing, float64; rounding and all.

| grid | times |
|---|---|
| `linspace` | even from `top` to 0 |
| `leading` | multiples of `top` // (N + 1) down from N times it, plus `offset`: starts below T |
| `trailing` | from `top` in steps of T / (N + 1), short of 0; sometimes with one more at 1e-14 |
| `karras-t` | the power grid from T to 1 |
| `karras-n` | the power grid in sigma / alpha, whole range |
| `linear-lambda` | even in lambda, from `lambda_min` or the least |

`top` is T less the number of indices whose lambda is below `lambda_min`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

import torch
from torch import Tensor

from ..process import MeanReverting, Process
from ..process.table import interpolate

__all__ = ["Interpolated", "TimeSchedule", "grid"]

TimeSchedule = Literal["linspace", "leading", "trailing", "karras-n", "karras-t", "linear-lambda"]


@final
@dataclass(frozen=True)
class Interpolated(Process):
    """`path` at its integer times; alpha and sigma separately linear in between."""

    path: MeanReverting

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return 0.0

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.path.t_max

    def nodes(self) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, sigma and lambda at 0..T, each (T + 1,)."""
        return _nodes(self.path)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma, _ = self.nodes()
        return interpolate(alpha, t), interpolate(sigma, t)


@lru_cache(maxsize=32)
def _nodes(path: MeanReverting) -> tuple[Tensor, Tensor, Tensor]:
    alpha, sigma = path.alpha_sigma(torch.arange(path.steps + 1, dtype=torch.float64))
    return alpha, sigma, alpha.log() - sigma.log()


def grid(
    process: Interpolated, schedule: TimeSchedule, steps: int, lambda_min: float, offset: int, rho: float
) -> Tensor:
    """The grid of N = `steps`, (N + 1,) or near. ValueError for an unknown schedule."""
    last = process.path.steps
    alpha, sigma, lam = process.nodes()
    top = last - int((lam < lambda_min).sum())
    if schedule == "linspace":
        return _even(top, 0, steps)
    if schedule == "leading":
        return _even(steps, 0, steps) * (top // (steps + 1)) + offset
    if schedule == "trailing":
        return torch.arange(top, 0, -last / (steps + 1), dtype=torch.float64)
    if schedule == "karras-t":
        return _power(last, 1, steps, rho)
    if schedule == "karras-n":
        ratio = sigma / alpha
        return _inverse(ratio, _power(float(ratio[-1]), float(ratio[0]), steps, rho))
    if schedule == "linear-lambda":
        return _inverse(-lam, -_even(max(float(lam[-1]), lambda_min), float(lam[0]), steps))
    raise ValueError(
        f"time_schedule {schedule!r}: choose 'linspace', 'leading', 'trailing', 'karras-n', 'karras-t' or "
        "'linear-lambda'"
    )


def _even(high: float, low: float, steps: int) -> Tensor:
    return torch.linspace(high, low, steps + 1, dtype=torch.float64)


def _power(high: float, low: float, steps: int, rho: float) -> Tensor:
    return _even(high ** (1 / rho), low ** (1 / rho), steps) ** rho


def _inverse(values: Tensor, at: Tensor) -> Tensor:
    """The position with interpolate(values, position) = at, for increasing values (n,); the end pieces extrapolate."""
    left = (torch.searchsorted(values, at) - 1).clamp(0, len(values) - 2)
    return left + (at - values[left]) / (values[left + 1] - values[left])
