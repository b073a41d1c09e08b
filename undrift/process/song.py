"""The three processes of Score-Based Generative Modeling through SDEs (Song et al. 2021, arXiv 2011.13456)."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .base import Process

__all__ = ["VE", "VP", "SubVP"]


@final
@dataclass(frozen=True)
class VE(Process):
    r"""Variance exploding SDE: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t.

    The data lie at t = -infinity, where sigma = 0. Raises ValueError unless 0 < sigma_min < sigma_max.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 1e-5
    t_max: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"VE({self.sigma_min}, {self.sigma_max}): need 0 < sigma_min < sigma_max")
        if not self.t_min < self.t_max:
            raise ValueError(f"VE on [{self.t_min}, {self.t_max}]: need t_min < t_max")

    @property
    def t_clean(self) -> float:
        return -torch.inf

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.sigma_min * (self.sigma_max / self.sigma_min) ** t


def _half_integral(t: Tensor, beta_min: float, beta_max: float) -> Tensor:
    """-log alpha = 1/2 int_0^t beta, beta = beta_min + t (beta_max - beta_min)."""
    return t * beta_min / 2 + t**2 * (beta_max - beta_min) / 4


def _check(beta_min: float, beta_max: float, t_min: float, t_max: float) -> None:
    if not (0 <= beta_min <= beta_max and beta_max > 0):
        raise ValueError(f"beta range [{beta_min}, {beta_max}]: need 0 <= beta_min <= beta_max, beta_max > 0")
    if not 0 < t_min < t_max:
        raise ValueError(f"times [{t_min}, {t_max}]: need 0 < t_min < t_max")


@final
@dataclass(frozen=True)
class VP(Process):
    r"""Variance preserving SDE: alpha = exp(-1/2 int beta), sigma = sqrt(1 - alpha^2), beta linear in t."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-5
    t_max: float = 1.0

    def __post_init__(self) -> None:
        _check(self.beta_min, self.beta_max, self.t_min, self.t_max)

    @property
    def t_clean(self) -> float:
        return 0.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        half = _half_integral(t, self.beta_min, self.beta_max)
        return torch.exp(-half), torch.sqrt(-torch.expm1(-2 * half))


@final
@dataclass(frozen=True)
class SubVP(Process):
    r"""Sub-variance-preserving SDE: alpha = exp(-1/2 int beta), sigma = 1 - alpha^2, beta linear in t."""

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-5
    t_max: float = 1.0

    def __post_init__(self) -> None:
        _check(self.beta_min, self.beta_max, self.t_min, self.t_max)

    @property
    def t_clean(self) -> float:
        return 0.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        half = _half_integral(t, self.beta_min, self.beta_max)
        return torch.exp(-half), -torch.expm1(-2 * half)
