r"""How far a student's estimates are from their target: rules distance(draws (K, B, ...), target (B, ...)) -> (B,).

K = `draws` estimates of the same samples: one, but two for a proper score of a student that is random.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

__all__ = ["Distance", "ElementHuber", "Energy", "Perceptual", "PseudoHuber", "Squared"]

SEES_NOTHING = "distance perceptual: needs features of a generator's network that shows them, UNet or NCSNpp"


class Distance(ABC):
    """What an error counts, per sample; 0 for a perfect deterministic student.

    `of_images` says that it knows images only: at a noisy end of a segment `Scott` gives it not the states but what
    they say of the data, see `solvers.implied_estimate`.
    """

    draws: int = 1
    of_images: ClassVar[bool] = False

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
class Perceptual(Distance):
    r"""sqrt(pixels |f - y|^2/d + sum_l |u_l(f) - u_l(y)|^2/n_l + c^2) - c, in the maps phi_l of a frozen network,

    u_l = phi_l / sqrt(mean over channels of phi_l^2 + c^2), d and n_l elements, c = 0.001.

    The learned distance of "The unreasonable effectiveness of deep features" (Zhang et al. 2018, arXiv 1801.03924), as
    consistency distillation was first done by (Song et al. 2023, arXiv 2303.01469), but in the features of the
    diffusion teacher, which needs no other network and knows the images.

    Arguments:
        features: (z (B, ...), level) -> maps (B, C, ...) of clean states that the network takes for those at half
            log-SNR `level`, clipped to the process; None, as in a recipe, cannot be called.
        level: the lower, the coarser what counts: on Fashion-MNIST 1 was better than -1.
        pixels: weight of the plain squared error, > 0.
    """

    features: Callable[[Tensor, float], Sequence[Tensor]] | None = None
    level: float = 1.0
    pixels: float = 1.0
    of_images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.level):
            raise ValueError(f"Perceptual level = {self.level}: need a finite half log-SNR")
        _positive("Perceptual pixels", self.pixels)
        if not math.isfinite(self.pixels):
            raise ValueError(f"Perceptual pixels = {self.pixels}: need a finite number")

    def __call__(self, draws: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self._directions(target)
        error: Tensor = self.pixels * (draws[0] - target).square().flatten(1).mean(1)
        for ours, theirs in zip(self._directions(draws[0]), wanted, strict=True):
            error = error + (ours - theirs).square().flatten(1).mean(1).to(error)
        return (error + 1e-6).sqrt() - 1e-3

    def _directions(self, z: Tensor) -> list[Tensor]:
        if self.features is None:
            raise ValueError(SEES_NOTHING)
        return [phi / (phi.square().mean(1, keepdim=True) + 1e-6).sqrt() for phi in self.features(z, self.level)]


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
