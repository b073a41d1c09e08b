"""Any discrete schedule as a process: values of ONE quantity, log alpha or lambda, linear in between."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

import torch
from torch import Tensor

from .base import Process

__all__ = ["Table", "interpolate"]


def interpolate(values: Tensor, position: Tensor) -> Tensor:
    """values (n,), linear in between, at fractional `position` (*) in [0, n-1]; the end pieces extrapolate.

    On a node the piece to its left is taken, so that the derivative there is the increment of the step
    t -> t - 1, as discrete reverse samplers use it.
    """
    left = (position.detach().ceil() - 1).clamp(0, len(values) - 2).long()
    return values[left] + (position - left) * (values[left + 1] - values[left])


@final
@dataclass(frozen=True)
class Table(Process):
    r"""A discrete schedule t = 0, 1, ..., n-1, from clean to noisy, continuous by linear interpolation.

    Arguments:
        values: the schedule, n >= 2 numbers.
        quantity: `"log_alpha"`: values are log alpha <= 0, strictly decreasing, and sigma follows from
            alpha^2 + sigma^2 / scale^2 = 1 (DDPM and diffusers schedules: half the cumulative sum of log(1 - beta));
            `"lambda"`: values are log(alpha / sigma), strictly decreasing, with the same relation.
        scale: stationary standard deviation; 1 for variance preserving schedules.

    Raises ValueError for a schedule that is too short or not monotone.
    """

    values: tuple[float, ...]
    quantity: Literal["log_alpha", "lambda"] = "log_alpha"
    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        if self.quantity not in ("log_alpha", "lambda"):
            raise ValueError(f"Table quantity {self.quantity!r}: choose 'log_alpha' or 'lambda'")
        steps = [b - a for a, b in zip(self.values, self.values[1:], strict=False)]
        if not steps or not all(step < 0 for step in steps):  # also where a value is nan
            raise ValueError(
                f"Table of {len(self.values)} values of {self.quantity}: need at least 2, strictly decreasing "
                "from the clean to the noisy end"
            )
        if self.quantity == "log_alpha" and self.values[0] > 0:
            raise ValueError(f"Table of log_alpha starting at {self.values[0]}: alpha <= 1, so log alpha <= 0")
        if not self.scale > 0:
            raise ValueError(f"Table scale = {self.scale}: need the positive stationary standard deviation")

    # The bounds follow from the table; a dataclass field would say them twice.
    # A schedule whose first entry has sigma = 0 gives the data themselves there, and its training starts one later.
    @property
    def t_min(self) -> float:  # type: ignore[override]
        return float(self._starts_clean)

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return float(len(self.values) - 1)

    @property
    def t_clean(self) -> float:
        return 0.0 if self._starts_clean else -torch.inf

    @property
    def _starts_clean(self) -> bool:
        return self.quantity == "log_alpha" and self.values[0] == 0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        clean = t == -torch.inf
        inner = interpolate(_tensor(self.values), torch.where(clean, 0.0, t))
        if self.quantity == "log_alpha":
            alpha, sigma = inner.exp(), self.scale * torch.sqrt(-torch.expm1(2 * inner))
        else:
            # alpha / sigma = e^lambda and alpha^2 + (sigma/scale)^2 = 1, so alpha^2 is a logistic function.
            shifted = 2 * (inner + torch.log(torch.tensor(self.scale, dtype=torch.float64)))
            alpha, sigma = torch.sigmoid(shifted).sqrt(), self.scale * torch.sigmoid(-shifted).sqrt()
        return torch.where(clean, 1.0, alpha), torch.where(clean, 0.0, sigma)


@lru_cache(maxsize=32)
def _tensor(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
