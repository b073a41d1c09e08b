r"""Linear observations y = A z_0 + std eps of a state: what `Posterior` conditions on.

| operator | A | adjoint and (c A A^T + s)^-1 |
|---|---|---|
| `Mask(keep)` | inpainting: the kept entries | closed |
| `Channels(weights)` | channels mixed: grey, luma, one colour | closed |
| `Downsample(factor)` | means of blocks: super-resolution | closed |
| `Degraded(linear)` | any linear degradation, e.g. `degradations.optics.Blur` | by conjugate gradients |

Everything is in the coordinates of the state. Those of `Pixels` are z = 2 x - 1: an image y of values in [0, 1]
becomes `operator.observe(y)`, and noise of standard deviation s in [0, 1] has 2 s here.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..degradations.base import Linear
from ..tensor import expand
from .conjugate import conjugate_gradient

__all__ = ["LUMA", "Channels", "Degraded", "Downsample", "Mask", "Operator", "colour_rotation"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Operator(ABC):
    """y = A z, z (B, ...) -> y (B, ...), with <A z, v> = <z, A^T v>.

    `offset` is what an affine degradation adds to images in [0, 1]; only `observe` knows of it.
    """

    offset: Tensor | float = 0.0

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """A z."""

    @abstractmethod
    def adjoint(self, v: Tensor) -> Tensor:
        """A^T v."""

    @abstractmethod
    def solve(self, r: Tensor, c: Tensor, s: Tensor) -> Tensor:
        """(c A A^T + s)^-1 r for c, s >= 0, () or (B,); the pseudo-inverse where s = 0."""

    @final
    def observe(self, y: Tensor) -> Tensor:
        """2 (y - offset) - A 1: A z for z = 2 x - 1, of an observed image y = A x + offset, x in [0, 1]."""
        return 2 * (y - torch.as_tensor(self.offset).to(y)) - self.forward(torch.ones_like(self.adjoint(y)))


def _divide(r: Tensor, by: Tensor) -> Tensor:
    """r / by, 0 where by = 0: what A never sees has no say."""
    return torch.where(by > 0, r / torch.where(by > 0, by, 1.0), 0.0)


@final
@dataclass(frozen=True, eq=False)
class Mask(Operator):
    """Inpainting: y = keep z. keep broadcasts against z, 1 (or True) where known, 0 elsewhere; y is 0 there."""

    keep: Tensor

    def forward(self, z: Tensor) -> Tensor:
        return self.keep.to(z) * z

    def adjoint(self, v: Tensor) -> Tensor:
        return self.forward(v)

    def solve(self, r: Tensor, c: Tensor, s: Tensor) -> Tensor:
        return _divide(r, expand(c, r) * self.keep.to(r) ** 2 + expand(s, r))


@final
@dataclass(frozen=True, eq=False)
class Channels(Operator):
    """y_j = sum_i weights_ji z_i over the channels, z (B, C, ...) -> (B, K, ...). weights (K, C) of rank K."""

    weights: Tensor

    @classmethod
    def mean(cls, channels: int = 3) -> "Channels":
        """Grey as the mean of the channels, y (B, 1, H, W): colourisation, as Score SDE has it."""
        return cls(torch.full((1, channels), 1 / channels, dtype=torch.float64))

    @classmethod
    def luma(cls) -> "Channels":
        """Grey as converters from RGB have it: 0.299 R + 0.587 G + 0.114 B."""
        return cls(torch.tensor([LUMA], dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return _mix(self.weights, z)

    def adjoint(self, v: Tensor) -> Tensor:
        return _mix(self.weights.T, v)

    def solve(self, r: Tensor, c: Tensor, s: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(self.weights.double() @ self.weights.double().T)
        values = values.to(r).reshape(-1, *[1] * (r.ndim - 2))
        return _mix(vectors, _divide(_mix(vectors.T, r), expand(c, r) * values + expand(s, r)))


def _mix(weights: Tensor, z: Tensor) -> Tensor:
    if z.ndim < 2 or z.shape[1] != weights.shape[1]:
        raise ValueError(f"weights {tuple(weights.shape)} for a state {tuple(z.shape)}: need (K, C) and (B, C, ...)")
    return torch.einsum("kc,bc...->bk...", weights.to(z), z)


def colour_rotation() -> Tensor:
    """(3, 3) float64, orthonormal, columns (1,1,1)/sqrt3, (-2,1,1)/sqrt6, (0,1,-1)/sqrt2: grey and two of colour.

    `Channels(colour_rotation().T)` turns RGB into these coordinates, its adjoint back; row 0 alone observes grey.
    """
    columns = torch.tensor([[1.0, 1, 1], [-2, 1, 1], [0, 1, -1]], dtype=torch.float64)
    return F.normalize(columns).T


@final
@dataclass(frozen=True)
class Downsample(Operator):
    """Super-resolution: y is the mean of each block of factor x factor pixels, (B, C, H, W) -> (B, C, H/f, W/f)."""

    factor: int

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"Downsample factor = {self.factor}: need a whole number of at least 1")

    def forward(self, z: Tensor) -> Tensor:
        if any(side % self.factor for side in z.shape[-2:]):
            raise ValueError(f"state {tuple(z.shape)}: sides must be multiples of {self.factor}; crop or pad it")
        return F.avg_pool2d(z, self.factor)

    def adjoint(self, v: Tensor) -> Tensor:
        f = self.factor
        return v.repeat_interleave(f, -1).repeat_interleave(f, -2) / f**2

    def solve(self, r: Tensor, c: Tensor, s: Tensor) -> Tensor:
        return _divide(r, expand(c, r) / self.factor**2 + expand(s, r))


@final
@dataclass(frozen=True, eq=False)
class Degraded(Operator):
    """The linear part of a degradation, image by image; `observe` takes its offset away."""

    linear: Linear
    iterations: int = 100
    tolerance: float = 1e-6

    @property
    def offset(self) -> Tensor | float:  # type: ignore[override]
        return self.linear.offset

    def forward(self, z: Tensor) -> Tensor:
        return torch.stack([self.linear.linear(one) for one in z])

    def adjoint(self, v: Tensor) -> Tensor:
        return torch.stack([self.linear.adjoint(one) for one in v])

    def solve(self, r: Tensor, c: Tensor, s: Tensor) -> Tensor:
        def gram(v: Tensor) -> Tensor:
            return expand(c, v) * self.forward(self.adjoint(v)) + expand(s, v) * v

        return conjugate_gradient(gram, r, self.iterations, self.tolerance)
