"""Image x (given the observation y, or None) <-> diffusion coordinates z: the only place that knows ranges and means.

Mean reversion is a coordinate: with z = x - y a process that decays to 0 is one that decays to y.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor

__all__ = ["Pixels", "Residual", "Space"]


class Space(ABC):
    """An invertible map between images (B, C, H, W) in [0, 1] and states of the same batch."""

    @abstractmethod
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The state z of the image x, given the observation y."""

    @abstractmethod
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The image x of the state z, given the observation y; not clipped."""


@final
@dataclass(frozen=True)
class Pixels(Space):
    """z = 2 x - 1: images in [-1, 1], as generators are trained. The observation plays no part.

    Arguments:
        centred: False for z = x, in [0, 1], as Score SDE trains on VE.
    """

    centred: bool = True

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return 2 * x - 1 if self.centred else x

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return (z + 1) / 2 if self.centred else z


@final
@dataclass(frozen=True)
class Residual(Space):
    """z = x - y: mean reversion to the observation y. Raises ValueError without one."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x - _given(y)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z + _given(y)


def _given(y: Tensor | None) -> Tensor:
    if y is None:
        raise ValueError("a Residual space needs the observation: give y, the degraded images (B, C, H, W)")
    return y
