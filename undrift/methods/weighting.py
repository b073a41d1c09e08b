r"""How the errors of one batch make a loss: `weighting(error (B,), t, alpha, sigma) -> (B,)`, then the mean.

`error` is |z0_hat - z_0|^2 per element, one number per sample; times and coefficients are float64 (B,).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor

from ..prediction import Prediction
from ..process import Process
from ..tensor import expand

__all__ = ["Balanced", "Likelihood", "Norm", "Plain", "Raw", "Sigma2", "Weighting"]


class Weighting(ABC):
    """What each sample's error counts."""

    @abstractmethod
    def __call__(self, error: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """error (B,) and the float64 (B,) coefficients of its times -> loss (B,)."""


@final
@dataclass(frozen=True)
class Plain(Weighting):
    """The mean squared error of z_0 itself."""

    def __call__(self, error: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return error


@final
@dataclass(frozen=True)
class Raw(Weighting):
    """error / out^2: the plain squared error of the network's raw output F, whatever it predicts.

    With `prediction.noise` this is DDPM's loss, with `prediction.velocity` EDM's weighting.
    """

    prediction: Prediction

    def __call__(self, error: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return expand(self.prediction.weight(t, alpha, sigma), error) * error


@final
@dataclass(frozen=True)
class Sigma2(Weighting):
    r"""sigma^2 |score error|^2 = e^{2 lambda} error: the squared error of the noise, Score SDE's own loss.

    (Song et al. 2021, arXiv 2011.13456, section 3.3: lambda(t) = 1 / E|score of the kernel|^2.)
    """

    def __call__(self, error: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return expand((alpha / sigma) ** 2, error) * error


@final
@dataclass(frozen=True)
class Likelihood(Weighting):
    r"""g^2 |score error|^2 = g^2 alpha^2 / sigma^4 error: with uniform times, a bound of the negative log-likelihood.

    Maximum Likelihood Training of Score-Based Diffusion Models (Song, Durkan et al. 2021, arXiv 2101.09258). The same
    integral with far less spread is `density.UniformLambda` with `Sigma2`.
    """

    process: Process

    def __call__(self, error: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        g2 = self.process.drift_diffusion(t)[1]
        return expand(g2 * alpha**2 / sigma**4, error) * error


@final
@dataclass(frozen=True)
class Balanced(Weighting):
    r"""log(error + floor): every task and noise level counts by its relative error.

    EDM2 (Karras et al. 2024, arXiv 2312.02696) minimises E / e^u + u over a learnt u(t), whose optimum
    u = log E leaves log E + 1. Here the sample's own error stands for the expected one E: nothing to learn,
    and tasks are balanced as well as times. The price: its optimum is the conditional mean only where the
    posterior is symmetric (a Gaussian, say); else it leans from the mean towards the more probable side. The
    error of an image averages thousands of pixels and varies little around E, which keeps the lean small.

    Arguments:
        floor: the squared error below which a sample stops counting more; 1e-4 is 40 dB.
    """

    floor: float = 1e-4

    def __post_init__(self) -> None:
        if not self.floor > 0:
            raise ValueError(f"Balanced floor = {self.floor}: need a positive squared error, e.g. 1e-4")

    def __call__(self, error: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (error + self.floor).log()


@final
@dataclass(frozen=True)
class Norm(Weighting):
    r"""sqrt(error + floor): the norm of a sample's error, not its square.

    Every sample pulls the output with the same strength, whatever its task and noise level; squares are led by the
    largest errors, logarithms by the smallest. The minimum is the spatial median of the posterior, which for many
    pixels lies close to its mean.

    Arguments:
        floor: squared error that smooths the norm at 0.
    """

    floor: float = 1e-6

    def __post_init__(self) -> None:
        if not self.floor > 0:
            raise ValueError(f"Norm floor = {self.floor}: need a positive squared error, e.g. 1e-6")

    def __call__(self, error: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (error + self.floor).sqrt()
