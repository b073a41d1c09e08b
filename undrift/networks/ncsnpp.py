r"""NCSN++, DDPM++ and DDPM: the networks of "Score-Based Generative Modeling through SDEs" (arXiv 2011.13456).

A U-Net F(z, c) of residual blocks with attention at some levels and in the middle. On the way down every block's output
is kept, on the way up the blocks take them back. NCSN++ lets a pyramid of the image itself into each level on the
way down, and may add up the output from every level on the way up. `NCSNpp()` is the network of the CIFAR-10
VE models; `ddpmpp` and `ddpm` make the other two of the same class.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fir
from .blocks import ACTIVATIONS, Attention, Embedding, LearntResample, Resample, ResidualBlock, Style, convolution
from .student import check_inputs, noise_layer

__all__ = ["Head", "InputResidual", "InputSkip", "NCSNpp", "OutputResidual", "OutputSkip", "ddpm", "ddpmpp"]

Pyramid: TypeAlias = Literal["none", "skip", "residual"]


class InputSkip(nn.Module):
    """The image, halved, through a 1 x 1 convolution to `width` channels, is added to h or laid before it."""

    def __init__(self, channels: int, width: int, combine: str, taps: Sequence[float]) -> None:
        super().__init__()
        self.cat, self.taps = combine == "cat", tuple(taps)
        self.layer = convolution(channels, width, 1)

    def forward(self, pyramid: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        pyramid = fir.down(pyramid, self.taps)
        seen = self.layer(pyramid)
        return pyramid, torch.cat([seen, h], dim=1) if self.cat else seen + h


class InputResidual(nn.Module):
    """The pyramid, halved by a convolution, becomes the residual sum with h, and h becomes the pyramid."""

    def __init__(self, inputs: int, width: int, taps: Sequence[float], style: Style) -> None:
        super().__init__()
        self.style, self.layer = style, LearntResample("down", inputs, width, taps)

    def forward(self, pyramid: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.style.merge(self.layer(pyramid), h)
        return h, h


class Head(nn.Module):
    """conv(act(norm(h)))."""

    def __init__(self, width: int, outputs: int, style: Style, scale: float = 1.0) -> None:
        super().__init__()
        self.style, self.norm = style, style.norm(width)
        self.layer = convolution(width, outputs, scale=scale)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.layer(self.style.act(self.norm(h)))
        return out


class OutputSkip(nn.Module):
    """The pyramid, doubled, plus this level's image; the lowest level begins it."""

    def __init__(self, width: int, channels: int, taps: Sequence[float], style: Style) -> None:
        super().__init__()
        self.taps, self.head = tuple(taps), Head(width, channels, style, style.init_scale)

    def forward(self, pyramid: Tensor | None, h: Tensor) -> tuple[Tensor, Tensor]:
        own: Tensor = self.head(h)
        return own if pyramid is None else fir.up(pyramid, self.taps) + own, h


class OutputResidual(nn.Module):
    """The pyramid, doubled by a convolution, plus h, becomes both; at the lowest level (`inputs` 0) it is made of h."""

    def __init__(self, inputs: int, width: int, taps: Sequence[float], style: Style) -> None:
        super().__init__()
        self.style = style
        self.head = None if inputs else Head(width, width, style)
        self.layer = LearntResample("up", inputs, width, taps) if inputs else None

    def forward(self, pyramid: Tensor | None, h: Tensor) -> tuple[Tensor, Tensor]:
        if self.head is not None:
            return self.head(h), h
        assert self.layer is not None
        h = self.style.merge(self.layer(pyramid), h)
        return h, h


class Down(nn.Module):
    """One level on the way down: stages of a block and perhaps attention; then a half, which meets the input."""

    def __init__(self, stages: Sequence[nn.Sequential], shrink: nn.Module | None, feed: nn.Module | None) -> None:
        super().__init__()
        self.stages, self.shrink, self.feed = nn.ModuleList(stages), shrink, feed

    def forward(self, h: Tensor, pyramid: Tensor, e: Tensor | None, kept: list[Tensor]) -> tuple[Tensor, Tensor]:
        for stage in self.stages:
            for layer in stage.children():
                h = layer(h, e)
            kept.append(h)
        if self.shrink is not None:
            h = self.shrink(h, e)
            if self.feed is not None:
                pyramid, h = self.feed(pyramid, h)
            kept.append(h)
        return h, pyramid


class Up(nn.Module):
    """One level on the way up: blocks that take back what was kept, attention, the output of the level; a double."""

    def __init__(
        self, blocks: Sequence[nn.Module], attend: nn.Module | None, show: nn.Module | None, grow: nn.Module | None
    ) -> None:
        super().__init__()
        self.blocks, self.attend, self.show, self.grow = nn.ModuleList(blocks), attend, show, grow

    def forward(
        self, h: Tensor, pyramid: Tensor | None, e: Tensor | None, kept: list[Tensor]
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """h and the pyramid for the next level, and h before it is doubled."""
        for block in self.blocks:
            h = block(torch.cat([h, kept.pop()], dim=1), e)
        if self.attend is not None:
            h = self.attend(h)
        if self.show is not None:
            pyramid, h = self.show(pyramid, h)
        return h if self.grow is None else self.grow(h, e), pyramid, h


class NCSNpp(nn.Module):
    """F(z, c, label): a raw network for `Denoiser`, of any image size.

    Images are filled up to a multiple of 2^(levels - 1) by repeating the last row and column.

    Arguments:
        width: channels of the finest level, at least 4; those of each level are `multipliers` times as many.
        multipliers: one per level, finest first; each level halves the resolution.
        blocks: residual blocks per level on the way down; the way up has one more.
        attention: levels, counted from 0, with attention.
        in_channels: channels of z and of the output.
        classes: K for a network that is told a class 0 .. K-1, or K for none; 0 for one that is not.
        block: "biggan" changes resolution within residual blocks, "ddpm" between them.
        taps: of the filter that guards a change of resolution, (1, 3, 3, 1) in NCSN++; () for none. See `fir`.
        pyramid_in: "skip" (official name: input_skip) or "residual" or "none": how the image enters each level.
        pyramid_out: "skip" (official name: output_skip) or "residual" or "none": how levels leave for the output.
        combine: "sum" or "cat", how `pyramid_in="skip"` joins what is there.
        rescale: divide the sum of two paths by sqrt(2).
        embedding: "fourier" for sines of log c with random frequencies, c a noise level; "positional" for
            sines of c itself, c being of the order of 1000.
        fourier_scale: standard deviation of those frequencies.
        conditional: whether the network is told c.
        activation: "swish", "elu", "relu" or "lrelu".
        dropout: share of features dropped in each block.
        learnt_resample: whether a change of resolution between "ddpm" blocks is a convolution.
        groups: of the normalisations; None for min(channels // 4, 32).
        init_scale: see `blocks.Style`.
        centred: z is centred on 0; otherwise the network takes 2 z - 1, of images in [0, 1].
        scale_by_sigma: divide the output by sigma: c itself with "fourier", with "positional" entry c of a geometric
            sequence `sigmas` = (smallest, largest, how many), largest first, as discretely trained VE models do.
        sigmas: that sequence.
        guided: whether `guidance`, a scale of guidance to imitate, is an input; see `student`.
        noise_channels: channels of the random input `noise` of a student; 0 for none.

    Raises:
        ValueError: for sizes and names that do not fit, and for an input that is missing or unwanted.
    """

    decoder = ("ups",)  # the modules of the way up

    def __init__(
        self,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 4,
        attention: Sequence[int] = (1,),
        in_channels: int = 3,
        classes: int = 0,
        block: Literal["biggan", "ddpm"] = "biggan",
        taps: Sequence[float] = (1, 3, 3, 1),
        pyramid_in: Pyramid = "residual",
        pyramid_out: Pyramid = "none",
        combine: Literal["sum", "cat"] = "sum",
        rescale: bool = True,
        embedding: Literal["fourier", "positional"] = "fourier",
        fourier_scale: float = 16.0,
        conditional: bool = True,
        activation: str = "swish",
        dropout: float = 0.0,
        learnt_resample: bool = True,
        groups: int | None = None,
        init_scale: float = 0.0,
        centred: bool = True,
        scale_by_sigma: bool = False,
        sigmas: tuple[float, float, int] = (0.01, 50.0, 1000),
        guided: bool = False,
        noise_channels: int = 0,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        # What a checkpoint's model.json stores: NCSNpp(**arguments) has the same shape.
        self.arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in given.items()}
        _check(**self.arguments)
        fir.check_taps(taps)
        self.classes, self.embedding, self.centred = classes, embedding, centred
        self.scale_by_sigma, self.sigmas = scale_by_sigma, tuple(sigmas)
        self.guided, self.noise_channels = guided, noise_channels
        self.feature_channels = tuple(width * m for m in reversed(multipliers))  # for `Critic`, as is `decoder`
        self.stride = 2 ** (len(multipliers) - 1)
        told = conditional or classes > 0
        style = Style(activation, 4 * width if told else 0, groups, dropout, rescale, init_scale)

        def resized(way: Literal["down", "up"], now: int) -> nn.Module:
            if block == "biggan":
                return ResidualBlock(now, now, style, Resample(way, taps))
            return LearntResample(way, now, now, taps) if learnt_resample else Resample(way, taps)

        def fed(pyramid: int, now: int) -> nn.Module | None:
            if pyramid_in == "skip":
                return InputSkip(in_channels, now, combine, taps)
            return InputResidual(pyramid, now, taps, style) if pyramid_in == "residual" else None

        def shown(level: int, pyramid: int) -> nn.Module | None:
            if pyramid_out == "skip":
                return OutputSkip(width * multipliers[level], in_channels, taps, style)
            if pyramid_out == "residual":
                return OutputResidual(pyramid, width * multipliers[level], taps, style)
            return None

        attend = partial(Attention, style=style)
        last = len(multipliers) - 1
        self.embed = Embedding(width, embedding, fourier_scale, conditional, classes, style, guided)
        self.enter = convolution(in_channels, width)
        now, pyramid, kept = width, in_channels, [width]
        self.downs = nn.ModuleList()
        for level, multiple in enumerate(multipliers):
            stages = []
            for _ in range(blocks):
                stage: list[nn.Module] = [ResidualBlock(now, now := width * multiple, style)]
                stages.append(nn.Sequential(*stage, *([attend(now)] if level in attention else [])))
                kept.append(now)
            shrink = resized("down", now) if level < last else None
            feed = fed(pyramid, now) if level < last else None
            self.downs.append(Down(stages, shrink, feed))
            if level < last:
                pyramid = now
                now *= 2 if pyramid_in == "skip" and combine == "cat" else 1
                kept.append(now)
        self.middle = nn.ModuleList([ResidualBlock(now, now, style), attend(now), ResidualBlock(now, now, style)])
        self.ups, pyramid = nn.ModuleList(), 0
        for level in reversed(range(last + 1)):
            rise = [
                ResidualBlock(now + kept.pop(), now := width * multipliers[level], style) for _ in range(blocks + 1)
            ]
            show = shown(level, pyramid)
            self.ups.append(
                Up(rise, attend(now) if level in attention else None, show, resized("up", now) if level else None)
            )
            pyramid = now
        self.leave = Head(now, in_channels, style, init_scale) if pyramid_out != "skip" else None
        self.noise = noise_layer(noise_channels, width) if noise_channels else None

    def forward(
        self,
        z: Tensor,
        c: Tensor,
        label: Tensor | None = None,
        guidance: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """z (B, C, H, W), c (B,), label (B,) of integers -> (B, C, H, W); guidance and noise as in `UNet.forward`.

        c is what the official networks take as labels: 999 t for VP and sub-VP models (t in [0, 1]; the index i of a
        discretely trained one), sigma for VE models with the Fourier embedding, and for discretely trained VE
        models the index of sigma counted from the largest.
        """
        height, width = z.shape[-2:]
        ((h, pyramid),) = deque(self.climb(z, c, label, guidance, noise), maxlen=1)  # the finest
        out = pyramid if self.leave is None else self.leave(h)
        assert out is not None
        out = out[..., :height, :width]
        return out / self.sigma(c, out.dtype)[:, None, None, None] if self.scale_by_sigma else out

    def features(
        self,
        z: Tensor,
        c: Tensor,
        label: Tensor | None = None,
        guidance: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """What `forward` computes on its way up, a map per level, coarse to fine: (B, feature_channels[i], h, w)."""
        return tuple(h for h, _ in self.climb(z, c, label, guidance, noise))

    def climb(
        self, z: Tensor, c: Tensor, label: Tensor | None, guidance: Tensor | None, noise: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Each level of the way up, coarsest first: its features, and the pyramid so far."""
        check_inputs(z, self.guided, self.noise_channels, guidance, noise)
        if (label is None) != (self.classes == 0):
            wanted = f"label=<classes, {self.classes} for none>" if self.classes else "no label"
            raise ValueError(f"classes is {self.classes}: call the network with {wanted}")
        height, width = z.shape[-2:]
        down, right = -height % self.stride, -width % self.stride
        x = fill(z if self.centred else 2 * z - 1, down, right)
        e = self.embed(c, label, guidance)
        h = self.enter(x)
        if self.noise is not None and noise is not None:
            h = h + self.noise(fill(noise, down, right))
        kept = [h]
        pyramid: Tensor | None = x
        for level in self.downs:
            h, pyramid = level(h, pyramid, e, kept)
        for layer in self.middle:
            h = layer(h, e)
        pyramid = None
        for level in self.ups:
            h, pyramid, own = level(h, pyramid, e, kept)
            yield own, pyramid

    def sigma(self, c: Tensor, dtype: torch.dtype) -> Tensor:
        """The noise level that the output is divided by, (B,) -> (B,)."""
        if self.embedding == "fourier":
            return c.to(dtype)
        low, high, count = self.sigmas
        share = c.long().to(torch.promote_types(dtype, torch.float32)) / (count - 1)
        return (high * (low / high) ** share).to(dtype)


def fill(x: Tensor, down: int, right: int) -> Tensor:
    return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


def ddpmpp(**arguments: Any) -> NCSNpp:
    """DDPM++: no filter, no pyramid and the positional embedding; arguments of `NCSNpp`."""
    return NCSNpp(**{"taps": (), "pyramid_in": "none", "embedding": "positional", **arguments})


def ddpm(**arguments: Any) -> NCSNpp:
    """The network of DDPM (Ho et al. 2020, arXiv 2006.11239); arguments of `NCSNpp`. Widths are multiples of 32."""
    own = {"blocks": 2, "block": "ddpm", "rescale": False, "groups": 32}
    return ddpmpp(**{**own, **arguments})


def _check(**given: Any) -> None:
    """ValueError in one line for an argument that cannot be meant."""
    for name, least in (("width", 4), ("blocks", 1), ("in_channels", 1), ("classes", 0), ("noise_channels", 0)):
        if given[name] < least:
            raise ValueError(f"{name} {given[name]}: expected an integer of at least {least}")
    levels = len(given["multipliers"])
    if not levels or min(given["multipliers"]) < 1:
        raise ValueError(f"multipliers {given['multipliers']}: give one per level, all at least 1")
    if outside := [level for level in given["attention"] if level not in range(levels)]:
        raise ValueError(f"attention at level {outside[0]}: levels are 0 to {levels - 1}")
    for name, choices in (
        ("block", ("biggan", "ddpm")),
        ("pyramid_in", ("none", "skip", "residual")),
        ("pyramid_out", ("none", "skip", "residual")),
        ("combine", ("sum", "cat")),
        ("embedding", ("fourier", "positional")),
        ("activation", tuple(ACTIVATIONS)),
    ):
        if given[name] not in choices:
            raise ValueError(f"{name} {given[name]!r}: choose one of {', '.join(choices)}")
    low, high, count = given["sigmas"]
    if not (0 < low < high and count > 1):
        raise ValueError(f"sigmas {given['sigmas']}: give (smallest, largest, how many), two at least")
    if given["guided"] and not (given["conditional"] or given["classes"]):
        raise ValueError("guided with conditional=False and no classes: there is no embedding to add guidance to")
