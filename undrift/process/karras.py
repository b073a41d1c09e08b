"""The process of Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al. 2022)."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .base import Process

__all__ = ["EDM"]


@final
@dataclass(frozen=True)
class EDM(Process):
    r"""alpha = 1, sigma = t: time is the noise level itself (arXiv 2206.00364). Needs 0 < t_min < t_max."""

    t_min: float = 0.002
    t_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.t_min < self.t_max:
            raise ValueError(f"EDM({self.t_min}, {self.t_max}): need 0 < t_min < t_max")

    @property
    def t_clean(self) -> float:
        return 0.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), t
