"""Image x (given the observation y, or None) <-> diffusion coordinates z: the only place that knows ranges and means.

Mean reversion is a coordinate: with z = x - y a process that decays to 0 is one that decays to y.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, final

from torch import Tensor

__all__ = ["Codec", "Latent", "Pixels", "Residual", "Space"]


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


class Codec(Protocol):
    """A pair of networks between images in [-1, 1] (B, C, H, W) and codes (B, c, h, w)."""

    def encode(self, x: Tensor) -> Tensor: ...

    def decode(self, code: Tensor) -> Tensor: ...


@final
@dataclass(frozen=True, eq=False)
class Latent(Space):
    r"""z = scale (encode(2 x - 1) - shift): diffusion on the codes of an autoencoder. The observation plays no part.

    Source: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al. 2022, arXiv 2112.10752),
    appendix G.

    Arguments:
        codec: the autoencoder; `decode` inverts its `encode` as far as it was trained to.
        scale, shift: bring its codes to mean 0 and deviation 1.

    Raises ValueError unless scale > 0.
    """

    codec: Codec
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"Latent scale = {self.scale}: need a positive number, 1 / deviation of the codes")

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (self.codec.encode(2 * x - 1) - self.shift) * self.scale

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return (self.codec.decode(z / self.scale + self.shift) + 1) / 2


def _given(y: Tensor | None) -> Tensor:
    if y is None:
        raise ValueError("a Residual space needs the observation: give y, the degraded images (B, C, H, W)")
    return y
