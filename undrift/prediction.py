r"""What a network's raw output F means, as a pair of coefficients:

    z_0 = skip z_t + out F.

| prediction | F estimates | (skip, out) |
|---|---|---|
| `data` | z_0 | (0, 1) |
| `noise` | eps | (1/alpha, -sigma/alpha) |
| `score` | grad log p | (1/alpha, sigma^2/alpha) |
| `flow` | eps - z_0 | (1/(alpha+sigma), -sigma/(alpha+sigma)) |
| `velocity(s)` | (alpha s eps - sigma z_0 / s) / k | (alpha s^2, -sigma s k)/k^2, k^2 = alpha^2 s^2 + sigma^2 |
| `ml_noise(process)` | eps, with the bias of IR-SDE's maximum-likelihood loss | see `MLNoise` |
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

__all__ = [
    "Data",
    "FlowVelocity",
    "MLNoise",
    "Noise",
    "Prediction",
    "Score",
    "Velocity",
    "data",
    "flow",
    "ml_noise",
    "noise",
    "score",
    "velocity",
]


class Prediction(ABC):
    """The meaning of a network's output: an affine pair and nothing else."""

    @abstractmethod
    def affine(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(skip, out) of z_0 = skip z_t + out F; everything float64 and of the shape of t."""

    @final
    def weight(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """1 / out^2: with it the squared error of z_0 is the plain squared error of F."""
        return self.affine(t, alpha, sigma)[1] ** -2


@final
@dataclass(frozen=True)
class Data(Prediction):
    """F = z_0 / scale; a scale near the standard deviation of the data keeps F of order one."""

    scale: float = 1.0

    def affine(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(alpha), torch.full_like(alpha, self.scale)


@final
@dataclass(frozen=True)
class Noise(Prediction):
    """F = eps (Denoising Diffusion Probabilistic Models, Ho et al. 2020, arXiv 2006.11239). Needs alpha > 0."""

    def affine(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return 1 / alpha, -sigma / alpha


@final
@dataclass(frozen=True)
class Score(Prediction):
    """F = grad log p_t(z_t) (Song et al. 2021, arXiv 2011.13456). Needs alpha > 0."""

    def affine(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return 1 / alpha, sigma**2 / alpha


@final
@dataclass(frozen=True)
class FlowVelocity(Prediction):
    """F = eps - z_0, the velocity of rectified flow (Liu et al. 2022, arXiv 2209.03003), on any path."""

    def affine(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return 1 / (alpha + sigma), -sigma / (alpha + sigma)


@final
@dataclass(frozen=True)
class Velocity(Prediction):
    """F = (alpha s eps - sigma z_0 / s) / k, of unit variance for data of standard deviation s = `scale`.

    s = 1 on a variance-preserving path is v-prediction (Salimans & Ho 2022, arXiv 2202.00512); minus F is EDM's
    preconditioned output with sigma_data = s (arXiv 2206.00364); s = lam is MR Sampler's velocity.
    """

    scale: float = 1.0

    def affine(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        k2 = (alpha * self.scale) ** 2 + sigma**2
        return alpha * self.scale**2 / k2, -sigma * self.scale / k2.sqrt()


class _Path(Protocol):
    @property
    def t_clean(self) -> float: ...

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]: ...


@final
@dataclass(frozen=True)
class MLNoise(Prediction):
    r"""The noise predictor that IR-SDE's maximum-likelihood loss produces, with its bias undone.

    That loss asks one Euler step of the reverse SDE to land on the posterior mean. With p = theta_t dt, the
    log-contraction of a training step, its optimum F is affine in the true noise, so that

        eps = (F + k1 z_t) k2,   k1 = (e^p - 1 - p)/(2p) (1 - alpha^2)/sigma,   k2 = p / sinh p.

    Arguments:
        process: the mean-reverting process of the training.
        interval: the time step of the training; 1 for IR-SDE's integer times.
    """

    process: _Path
    interval: float = 1.0

    def affine(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        earlier, _ = self.process.alpha_sigma((t - self.interval).clamp(min=self.process.t_clean))
        p = earlier.log() - alpha.log()
        small = p < 1e-4  # where e^p - 1 - p cancels, the first two terms of the series are exact to 1e-9
        safe = torch.where(small, 1.0, p)
        ratio = torch.where(small, p / 4 + p**2 / 12, (torch.expm1(safe) - safe) / (2 * safe))
        k1 = ratio * (1 - alpha**2) / sigma
        k2 = torch.where(small, 1 - p**2 / 6, safe / torch.sinh(safe))
        return (1 - sigma * k1 * k2) / alpha, -sigma * k2 / alpha


data = Data()
noise = Noise()
score = Score()
flow = FlowVelocity()
velocity = Velocity
ml_noise = MLNoise
