"""Image x (given the observation y, or None) <-> diffusion coordinates z: the only place that knows ranges and means.

Mean reversion is a coordinate: with z = x - y a process that decays to 0 is one that decays to y.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

from torch import Tensor, nn

__all__ = ["Autoencoder", "Codec", "Latent", "Noisy", "ObservedLatent", "Pixels", "Residual", "Space"]


class Space(ABC):
    """An invertible map between images (B, C, H, W) in [0, 1] and states of the same batch."""

    @abstractmethod
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The state z of the image x, given the observation y."""

    @abstractmethod
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The image x of the state z, given the observation y; not clipped."""

    def observed(self, y: Tensor) -> tuple[Tensor, "Space"]:
        """The observation y as networks see it, and the space of states given it; y itself unless coded."""
        return y, self

    def begins(self, y: Tensor) -> Tensor | None:
        """The state at which the process begins, where the observation y is one; None for a draw of the prior."""
        return None


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


@final
@dataclass(frozen=True)
class Noisy(Space):
    """z = x, in [0, 1], where the observation is an image with noise: the state at which the process begins."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z

    def begins(self, y: Tensor) -> Tensor | None:
        return y


class Autoencoder(Protocol):
    """A network between images and codes, whose decoder may also want features of an encoded image."""

    def encode(self, x: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Images (B, C, H, W) -> codes (B, L, H', W') and features."""

    def decode(self, code: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Codes, and the features that came with codes of that size -> images, at least as large as those encoded."""


@final
@dataclass(frozen=True)
class ObservedLatent(Space):
    """Codes of images, decoded with the observation beside them, as in Refusion (Luo et al. 2023, arXiv 2304.08291).

    The decoder is given the features of the *observation's* encoding, so the observation is always needed. For a whole
    trajectory, `observed` encodes it once.

    Arguments:
        autoencoder: the network between images and codes, e.g. `networks.LatentUNet`.
        space: the coordinates of codes, e.g. `Residual`.
    """

    autoencoder: Autoencoder
    space: Space = Residual()

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        code, given = self.observed(_given(y))
        return given.encode(self.autoencoder.encode(x)[0], code)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        code, given = self.observed(_given(y))
        return given.decode(z, code)

    def observed(self, y: Tensor) -> tuple[Tensor, Space]:
        if isinstance(self.autoencoder, nn.Module):
            self.autoencoder.to(y.device)
        code, features = self.autoencoder.encode(y)
        return code, _Decoding(self.autoencoder, self.space, tuple(features), (y.shape[-2], y.shape[-1]))


@final
@dataclass(frozen=True)
class _Decoding(Space):
    """States between codes; the image of one, given the features and the size of the observation."""

    autoencoder: Autoencoder
    space: Space
    features: tuple[Tensor, ...]
    size: tuple[int, int]

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Of a code x, given the code y."""
        return self.space.encode(x, y)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        height, width = self.size
        return self.autoencoder.decode(self.space.decode(z, y), self.features)[..., :height, :width]

    def begins(self, y: Tensor) -> Tensor | None:
        return self.space.begins(y)


def _given(y: Tensor | None) -> Tensor:
    if y is None:
        raise ValueError(
            "a space of residuals or codes needs the observation: give y, the degraded images (B, C, H, W)"
        )
    return y
