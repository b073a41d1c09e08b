"""What happens to a photograph: `draw` is random, the operator it returns is not.

    operator = degradation.draw(shape, generator)       all randomness, from this generator only
    y = operator(x)                                     x, y (C, H, W), light in [0, 1]

The same seed gives the same bits. An operator is tied to the (C, H, W) it was drawn for and follows the dtype
and device of `x`. The linear ones know their adjoint, which is what guidance by a known degradation needs.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor

__all__ = ["Degradation", "Diagonal", "Linear", "Operator", "Range", "Shape", "check_range", "veil"]

Shape = tuple[int, int, int]  # C, H, W
Range = tuple[float, float]  # the low and the high end of a uniform draw


class Operator(ABC):
    """One drawn degradation, y = operator(x): (C, H, W) -> (C, H, W), deterministic."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor: ...


class Linear(Operator):
    """y = A x + offset, with <A x, v> = <x, A^T v>.

    A subclass writes `linear` only: the adjoint is its vector-Jacobian product, so the two cannot disagree.
    Nothing is clipped here.
    """

    offset: Tensor | float = 0.0

    @abstractmethod
    def linear(self, x: Tensor) -> Tensor:
        """A x, (C, H, W) -> (C, H, W)."""

    @final
    def __call__(self, x: Tensor) -> Tensor:
        return self.linear(x) + torch.as_tensor(self.offset, dtype=x.dtype, device=x.device)

    @final
    def adjoint(self, v: Tensor) -> Tensor:
        """A^T v, (C, H, W) -> (C, H, W)."""
        pull = torch.func.vjp(self.linear, torch.zeros_like(v))[1]
        (result,) = pull(v)
        return cast(Tensor, result)


@final
@dataclass(frozen=True, eq=False)
class Diagonal(Linear):
    """y = gain * x + offset, pixel by pixel; both broadcast against (C, H, W)."""

    gain: Tensor
    offset: Tensor | float = 0.0

    def linear(self, x: Tensor) -> Tensor:
        return self.gain.to(x) * x


def veil(transmission: Tensor, light: Tensor | float) -> Diagonal:
    """y = t x + (1 - t) light: the scene seen through something of its own colour, be it haze or paint."""
    return Diagonal(transmission, (1 - transmission) * light)


class Degradation(ABC):
    """A law over operators. Subclasses are frozen dataclasses whose fields are ranges of strength."""

    @abstractmethod
    def draw(self, shape: Shape, generator: torch.Generator) -> Operator:
        """One operator for images of `shape` (C, H, W); every H, W >= 1 will do."""

    @final
    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The degraded `x` (C, H, W), in [0, 1]. Raises ValueError unless x is one floating image."""
        if x.ndim != 3 or not x.numel() or not x.is_floating_point():
            raise ValueError(
                f"image {tuple(x.shape)} of {x.dtype}: expected (C, H, W) floats; pass one image in [0, 1]"
            )
        channels, height, width = x.shape
        return self.draw((channels, height, width), generator)(x).clamp(0, 1)


def check_range(name: str, value: Range, low: float, high: float) -> None:
    """Raise ValueError unless low <= value[0] <= value[1] <= high."""
    if not low <= value[0] <= value[1] <= high:
        raise ValueError(f"{name} {value}: expected (low, high) with {low:g} <= low <= high <= {high:g}")
