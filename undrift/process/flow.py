"""Rectified flow (Flow Straight and Fast, Liu et al. 2022, arXiv 2209.03003; Lipman et al. 2022, arXiv 2210.02747)."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from .base import Process

__all__ = ["Flow"]


@final
@dataclass(frozen=True)
class Flow(Process):
    r"""alpha = 1 - t, sigma = t: the straight path from data to noise; alpha = 0, pure noise, at t = 1."""

    t_min: float = 1e-3
    t_max: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.t_min < self.t_max <= 1:
            raise ValueError(f"Flow({self.t_min}, {self.t_max}): need 0 < t_min < t_max <= 1")

    @property
    def t_clean(self) -> float:
        return 0.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t
