r"""What NCSN++, DDPM++ and DDPM are made of (Song et al. 2021, arXiv 2011.13456; Ho et al. 2020, arXiv 2006.11239).

A residual block is r (shortcut(S x) + W1 drop act norm(W0 S act norm(x) + V e)), with e the activated embedding of the
time, S a change of resolution or nothing, and r = 1/sqrt(2) where skips are rescaled. Images are (B, C, H, W),
channels-last by preference: attention and 1 x 1 convolutions are then views and single products.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fir
from .student import Guidance

__all__ = [
    "ACTIVATIONS",
    "Attention",
    "Embedding",
    "LearntResample",
    "Resample",
    "ResidualBlock",
    "Style",
    "convolution",
    "fourier",
    "positional",
]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "swish": F.silu,
    "elu": F.elu,
    "relu": F.relu,
    "lrelu": lambda x: F.leaky_relu(x, 0.2),
}


class GroupNorm(nn.GroupNorm):
    """Group normalisation, of bfloat16 in float32 on a CPU, where that takes half the time."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.bfloat16 and x.device.type == "cpu":
            return super().forward(x.float()).to(x.dtype)
        return super().forward(x)


L = TypeVar("L", nn.Linear, nn.Conv2d)
Way: TypeAlias = Literal["down", "up"]


@dataclass(frozen=True)
class Style:
    """What all blocks of a network share.

    Arguments:
        activation: a name of `ACTIVATIONS`.
        embedding: width of the embedding of the time; 0 for none.
        groups: of the normalisations; None for min(width // 4, 32).
        dropout: share of the features dropped before the last convolution of a block.
        rescale: whether a sum of two paths is divided by sqrt(2).
        init_scale: variance of what a branch adds at first, relative to its input; 0 means 1e-10.
    """

    activation: str = "swish"
    embedding: int = 0
    groups: int | None = None
    dropout: float = 0.0
    rescale: bool = True
    init_scale: float = 0.0

    def act(self, x: Tensor) -> Tensor:
        return ACTIVATIONS[self.activation](x)

    def norm(self, width: int) -> nn.GroupNorm:
        return GroupNorm(self.groups or max(1, min(width // 4, 32)), width, eps=1e-6)

    def merge(self, x: Tensor, h: Tensor) -> Tensor:
        return (x + h).mul_(math.sqrt(0.5)) if self.rescale else x + h


def scaled(layer: L, scale: float = 1.0) -> L:
    """Weights uniform, of variance `scale` over the mean of inputs and outputs; no bias at first."""
    nn.init.xavier_uniform_(layer.weight, math.sqrt(scale or 1e-10))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def convolution(inputs: int, outputs: int, size: int = 3, scale: float = 1.0) -> nn.Conv2d:
    return scaled(nn.Conv2d(inputs, outputs, size, padding=size // 2), scale)


def positional(c: Tensor, width: int) -> Tensor:
    """[sin, cos](c / 10000^(k / (n - 1))), k = 0 .. n-1, n = width // 2; (B,) -> (B, width), odd widths end in 0."""
    half = width // 2
    powers = torch.arange(half, dtype=c.dtype, device=c.device) / (half - 1)
    return F.pad(sinusoids(c[:, None] * torch.exp(-math.log(10000) * powers)), (0, width % 2))


def fourier(c: Tensor, frequencies: Tensor) -> Tensor:
    """[sin, cos](2 pi W log c) for frequencies W (n,), (B,) -> (B, 2n)."""
    return sinusoids(2 * math.pi * c.log()[:, None] * frequencies.to(c.dtype))


def sinusoids(angles: Tensor) -> Tensor:
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Embedding(nn.Module):
    """c (B,), and a class, -> (B, 4 width), two linear layers behind sines and cosines; None where there is neither.

    Arguments:
        kind: "fourier" takes sines of 2 pi W log c for fixed random W ~ N(0, scale^2), "positional" those of c itself.
        conditional: whether the network is told c at all.
        classes: K; class K means none. An embedding of the class is added to that of c.
        guided: whether one of the guidance scale is added too.
    """

    frequencies: Tensor

    def __init__(
        self, width: int, kind: str, scale: float, conditional: bool, classes: int, style: Style, guided: bool = False
    ) -> None:
        super().__init__()
        self.width, self.kind, self.conditional, self.style = width, kind, conditional, style
        if conditional:
            inputs = 2 * width if kind == "fourier" else width
            if kind == "fourier":
                self.register_buffer("frequencies", scale * torch.randn(width))
            self.first = scaled(nn.Linear(inputs, 4 * width))
            self.second = scaled(nn.Linear(4 * width, 4 * width))
        self.classes = nn.Embedding(classes + 1, 4 * width) if classes else None
        self.guidance = Guidance(4 * width) if guided else None

    def forward(self, c: Tensor, label: Tensor | None, guidance: Tensor | None = None) -> Tensor | None:
        e: Tensor | None = None
        if self.conditional:
            weight = self.first.weight
            # Angles reach the thousands: half precision would lose them.
            c = c.to(torch.promote_types(c.dtype if c.is_floating_point() else weight.dtype, torch.float32))
            waves = fourier(c, self.frequencies) if self.kind == "fourier" else positional(c, self.width)
            e = self.second(self.style.act(self.first(waves.to(weight.dtype))))
        if self.classes is not None:
            known = self.classes(label)
            e = known if e is None else e + known
        if self.guidance is not None and guidance is not None and e is not None:
            e = e + self.guidance(guidance)
        return None if e is None else self.style.act(e)


class Resample(nn.Module):
    """A change of resolution by two without weights; see `fir`."""

    def __init__(self, way: Way, taps: Sequence[float]) -> None:
        super().__init__()
        self.way, self.taps = way, tuple(taps)

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        return fir.up(x, self.taps) if self.way == "up" else fir.down(x, self.taps)


class LearntResample(nn.Module):
    """A change of resolution by two that is also a 3 x 3 convolution."""

    def __init__(self, way: Way, inputs: int, outputs: int, taps: Sequence[float]) -> None:
        super().__init__()
        self.way, self.taps, self.layer = way, tuple(taps), convolution(inputs, outputs)

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        move = fir.convolve_up if self.way == "up" else fir.convolve_down
        return move(x, self.layer.weight, self.layer.bias, self.taps)


class ResidualBlock(nn.Module):
    """The block of the module's docstring, `inputs` -> `outputs` channels."""

    unit = True  # gathered, or computed again, as one; see `training.sharding`

    def __init__(self, inputs: int, outputs: int, style: Style, resample: Resample | None = None) -> None:
        super().__init__()
        self.style, self.resample = style, resample
        self.norm0 = style.norm(inputs)
        self.conv0 = convolution(inputs, outputs)
        self.dense = scaled(nn.Linear(style.embedding, outputs)) if style.embedding else None
        self.norm1 = style.norm(outputs)
        self.dropout = nn.Dropout(style.dropout)
        self.conv1 = convolution(outputs, outputs, scale=style.init_scale)
        self.shortcut = convolution(inputs, outputs, 1) if inputs != outputs or resample else None

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        h = self.style.act(self.norm0(x))
        h = self.conv0(h if self.resample is None else self.resample(h))
        if self.dense is not None:
            h = h + self.dense(e)[:, :, None, None]
        h = self.conv1(self.dropout(self.style.act(self.norm1(h))))
        return self.style.merge(self.past(x), h)

    def past(self, x: Tensor) -> Tensor:
        """The shortcut. Pixel by pixel, it commutes with a resampling, but for the bias, and works on the fewer."""
        if self.shortcut is None:
            return x
        if self.resample is not None and self.resample.way == "up":
            mixed: Tensor = self.resample(F.conv2d(x, self.shortcut.weight))
            assert self.shortcut.bias is not None
            return mixed + self.shortcut.bias[:, None, None].to(mixed.dtype)
        passed: Tensor = self.shortcut(x if self.resample is None else self.resample(x))
        return passed


class Attention(nn.Module):
    """r (x + W softmax(q k^T / sqrt(C)) v) over all positions of the image, one head.

    The fast kernels have first derivatives in reverse mode only; forward mode and second derivatives need
    `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)` around the call.
    """

    unit = True  # gathered, or computed again, as one; see `training.sharding`

    def __init__(self, width: int, style: Style) -> None:
        super().__init__()
        self.style = style
        self.norm = style.norm(width)
        self.query_key_value = scaled(nn.Linear(width, 3 * width), 0.1)
        self.out = scaled(nn.Linear(width, width), style.init_scale)

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        # A head of its own axis, (B, 1, HW, C), without which the fast kernels do not apply.
        query, key, value = self.query_key_value(tokens)[:, None].chunk(3, dim=-1)
        seen = self.out(F.scaled_dot_product_attention(query, key, value)[:, 0])
        return self.style.merge(x, seen.transpose(1, 2).unflatten(2, x.shape[2:]))
