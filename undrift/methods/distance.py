r"""How far a student's estimates are from their target: rules distance(draws (K, B, ...), target (B, ...)) -> (B,).

K = `draws` estimates of the same samples: one, but two for a proper score of a student that is random.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor

__all__ = ["Distance", "ElementHuber", "Energy", "PseudoHuber", "Squared"]


class Distance(ABC):
    """What an error counts, per sample; 0 for a perfect deterministic student."""

    draws: int = 1

    @abstractmethod
    def __call__(self, draws: Tensor, target: Tensor) -> Tensor:
        """(K, B, ...), (B, ...) -> (B,)."""


@final
@dataclass(frozen=True)
class Squared(Distance):
    """mean (f - y)^2 over the elements of a sample. With a stochastic teacher its minimiser is the mean of y."""

    def __call__(self, draws: Tensor, target: Tensor) -> Tensor:
        error: Tensor = (draws[0] - target).square().flatten(1).mean(1)
        return error


@final
@dataclass(frozen=True)
class PseudoHuber(Distance):
    """sqrt(|f - y|^2 + c^2) - c, with |.| over a whole sample of d elements and c = `factor` sqrt(d).

    Song & Dhariwal, "Improved Techniques for Training Consistency Models", 2023, arXiv 2310.14189.
    """

    factor: float = 0.00054

    def __post_init__(self) -> None:
        _positive("PseudoHuber factor", self.factor)

    def __call__(self, draws: Tensor, target: Tensor) -> Tensor:
        error = (draws[0] - target).flatten(1)
        c = self.factor * error.shape[1] ** 0.5
        length: Tensor = (error.square().sum(1) + c**2).sqrt() - c
        return length


@final
@dataclass(frozen=True)
class ElementHuber(Distance):
    """mean sqrt((f - y)^2 + c^2) - c, element by element: the "huber" of latent consistency training scripts."""

    c: float = 0.001

    def __post_init__(self) -> None:
        _positive("ElementHuber c", self.c)

    def __call__(self, draws: Tensor, target: Tensor) -> Tensor:
        return ((draws[0] - target).square() + self.c**2).sqrt().flatten(1).mean(1) - self.c


@final
@dataclass(frozen=True)
class Energy(Distance):
    r"""The energy score of two independent draws f_1, f_2 of a student with a noise input, over sqrt(d):

        1/2 |f_1 - y| + 1/2 |f_2 - y| - 1/2 |f_1 - f_2|,

    strictly proper: minimal in expectation if and only if f has the law of y, not only its mean (Gneiting & Raftery
    2007; for denoisers, De Bortoli et al., "Distributional Diffusion Models with Scoring Rules", 2025, 2502.02483).
    """

    draws: int = 2

    def __post_init__(self) -> None:
        if self.draws != 2:
            raise ValueError(f"Energy draws = {self.draws}: the score is written for 2")

    def __call__(self, draws: Tensor, target: Tensor) -> Tensor:
        one, two = draws
        score = _norm(one - target) + _norm(two - target) - _norm(one - two)
        return score / (2 * math.sqrt(target[0].numel()))


def _norm(error: Tensor) -> Tensor:
    """|error| per sample; the little constant keeps the gradient at 0 finite."""
    return (error.flatten(1).square().sum(1) + 1e-12).sqrt()


def _positive(what: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{what} = {value}: need a positive number")
