"""A small U-Net to restore and to generate: F(z, c, image, label), any image size, made for two CPU cores.

The state z and the observed image come in by paths of their own, folded `fold` x `fold` pixels into channels, so
that no convolution ever runs at full resolution. Each level halves the resolution again. A block is

    x + g W2 silu((1 + a) W1 norm(x) + b),    (a, b) = affine(e),    e = embedding(c) + glance(image),

two dense 3 x 3 convolutions, fast on a CPU. Which of ten degradations it meets the network sees at a `Glance`; levels
with `Context` also scale each channel by the mean of all channels, for haze and darkness are properties of the
whole photograph.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .deblur import Deblur
from .student import Guidance, check_inputs, noise_layer

__all__ = ["UNet"]


class Fourier(nn.Module):
    """Sines and cosines of c at fixed frequencies, then two linear layers: (B,) -> (B, width).

    c is clamped to [-12, 12], so that the ends of a schedule (sigma = 0 or alpha = 0) stay finite.
    """

    frequencies: Tensor

    def __init__(self, width: int, terms: int = 16) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(math.log(0.1), math.log(3.0), terms))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * terms, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, c: Tensor) -> Tensor:
        angles = c.to(self.frequencies.dtype).clamp(-12, 12)[:, None] * self.frequencies
        embedded: Tensor = self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))
        return embedded


class Context(nn.Module):
    """2 h sigmoid(W mean(h)): channel attention (cf. NAFNet, Chen et al. 2022, arXiv 2204.04676).

    The mean is taken over windows of at most `window` positions a side, slid to stay inside the image: crops
    no larger than the window see their global mean, so a large photograph meets the statistics of training
    (TLC, 2021, arXiv 2112.04491). A window of 0 means the whole image at every size.
    """

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.mix = convolution(width, width, 1)

    def forward(self, h: Tensor) -> Tensor:
        gate: Tensor = self.mix(self.mean(h))
        return h * (2 * torch.sigmoid(gate))

    def mean(self, h: Tensor) -> Tensor:
        height, width = h.shape[-2:]
        if self.window == 0 or max(height, width) <= self.window:
            return h.mean((2, 3), keepdim=True)
        rows, columns = min(self.window, height), min(self.window, width)
        means = F.avg_pool2d(h, (rows, columns), stride=1)
        return pad(means, (columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel; a view and one kernel in channels-last memory."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """x + g W2 silu((1 + a) W1 x + b), with (a, b) affine in the embedding of c; shape-preserving."""

    unit = True  # gathered, or computed again, as one; see `training.sharding`

    def __init__(self, width: int, embedding: int, context: bool, window: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.first = convolution(width, width, 3)
        self.modulation = nn.Linear(embedding, 2 * width)
        self.context = Context(width, window) if context else nn.Identity()
        self.second = convolution(width, width, 3)
        # The sum of many branches stays near the variance of its input when each starts small.
        self.gain = nn.Parameter(torch.full((width, 1, 1), 0.3))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.first(self.norm(x)) * (1 + scale) + shift)
        branch: Tensor = self.second(self.context(h)) * self.gain
        return x + branch


class Gated(nn.Module):
    """(1 + a) W z sigmoid(-c) + (1 + b) V image + d, with a, b, d affine in the embedding: how the inputs come in.

    Of the state only what c = log(sigma / alpha) says is not noise: without the gate, noise of unit variance covers
    the image in every early feature. The image as the embedding asks: a dark one brighter, a hazy one with contrast.
    """

    def __init__(self, state: int, seen: int, width: int, embedding: int) -> None:
        super().__init__()
        self.state = convolution(state, width, 3)
        self.seen = convolution(seen, width, 3) if seen else None
        self.modulation = nn.Linear(embedding, 3 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, state: Tensor, seen: Tensor | None, c: Tensor, embedding: Tensor) -> Tensor:
        a, b, d = self.modulation(embedding)[:, :, None, None].chunk(3, dim=1)
        gate = torch.sigmoid(-c.clamp(-12, 12))[:, None, None, None]
        x: Tensor = self.state(state) * (gate * (1 + a)).to(state.dtype) + d
        return x if self.seen is None or seen is None else x + self.seen(seen) * (1 + b)


class Glance(nn.Module):
    """What kind of image is this: a few strided convolutions, their mean over the image, (B, C, H, W) -> (B, width).

    Added to the embedding of c, it modulates every block: ten tasks in one network are learnt an order of magnitude
    faster when each block is told which one it sees (cf. DA-CLIP, Luo et al. 2023, arXiv 2310.01018).
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        sizes = (inputs, width // 4, width // 2, width)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(sizes))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.silu(layer(x))
        seen: Tensor = self.out(x.mean((2, 3)))
        return seen


class Level(nn.ModuleList):
    """The blocks of one resolution, in a row."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self:
            x = block(x, embedding)
        return x


class UNet(nn.Module):
    """F(z, c, image): a raw network for `Denoiser`, of no particular process, prediction or space.

    Ronneberger et al., "U-Net", 2015, arXiv 1505.04597, with additive skips; the block is described above.

    Args:
        channels: width of each level, finest first; the first works at 1/fold of the resolution.
        blocks: blocks per level, on the way down; the way up repeats all but the last.
        in_channels: channels of z and of the output.
        cond_channels: channels of the condition `image`; 0 for none.
        fold: pixels folded into channels along each side before the first convolution.
        embedding: width of the embedding of c.
        context: number of coarsest levels with `Context`; with 0 the image as a whole is seen by `Glance` alone.
        window: side, in pixels, of the area over which `Context` averages; 0 for the whole image.
        classes: number K of classes that `label` may name; 0 for a network without classes.
        guided: whether `guidance`, a scale of guidance to imitate, is an input; see `student`.
        noise_channels: channels of the random input `noise` of a student; 0 for none.
        deblur: width of a `Deblur`, whose change of the condition is seen beside it; 0 for none.

    Raises:
        ValueError: for sizes that do not fit together, and for a condition that is missing or unwanted.
    """

    decoder = ("grow", "ups")  # the modules of the way up

    def __init__(
        self,
        channels: Sequence[int] = (48, 96, 128, 160),
        blocks: Sequence[int] = (1, 2, 2, 2),
        in_channels: int = 3,
        cond_channels: int = 3,
        fold: int = 2,
        embedding: int = 128,
        context: int = 2,
        window: int = 0,
        classes: int = 0,
        guided: bool = False,
        noise_channels: int = 0,
        deblur: int = 0,
    ) -> None:
        super().__init__()
        channels, blocks = tuple(channels), tuple(blocks)
        if not channels or len(channels) != len(blocks) or min(channels + blocks) < 1:
            raise ValueError(f"channels {channels} and blocks {blocks}: give one of each per level, all at least 1")
        if not 0 <= context <= len(channels):
            raise ValueError(f"context {context}: expected a number of levels from 0 to {len(channels)}")
        for name, value, least in (
            ("in_channels", in_channels, 1),
            ("cond_channels", cond_channels, 0),
            ("fold", fold, 1),
            ("embedding", embedding, 1),
            ("window", window, 0),
            ("classes", classes, 0),
            ("noise_channels", noise_channels, 0),
            ("deblur", deblur, 0),
        ):
            if value < least:
                raise ValueError(f"{name} {value}: expected an integer of at least {least}")
        if deblur and not cond_channels:
            raise ValueError(f"deblur {deblur}: without a condition, cond_channels 0, there is nothing to see")
        # What a checkpoint's model.json stores: UNet(**arguments) has the same shape.
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "blocks": blocks,
            "in_channels": in_channels,
            "cond_channels": cond_channels,
            "fold": fold,
            "embedding": embedding,
            "context": context,
            "window": window,
            "classes": classes,
            "guided": guided,
            "noise_channels": noise_channels,
            "deblur": deblur,
        }
        self.cond_channels, self.noise_channels, self.fold = cond_channels, noise_channels, fold
        self.feature_channels = channels[::-1]  # what `Critic` needs to know of a trunk, beside `decoder`
        self.stride = fold * 2 ** (len(channels) - 1)

        def level(depth: int) -> Level:
            wide = depth >= len(channels) - context
            side = math.ceil(window / (fold * 2**depth))
            return Level(Block(channels[depth], embedding, wide, side) for _ in range(blocks[depth]))

        state, seen = in_channels * fold**2, cond_channels * fold**2 * (2 if deblur else 1)
        steps = range(len(channels) - 1)
        self.embed = Fourier(embedding)
        # The last row is "no class": what a guided sampler compares with (arXiv 2207.12598).
        self.classes = nn.Embedding(classes + 1, embedding) if classes else None
        self.deblur = Deblur(deblur) if deblur else None
        self.glance = Glance(seen, embedding) if seen else None
        self.enter = Gated(state, seen, channels[0], embedding)
        self.downs = nn.ModuleList(level(depth) for depth in range(len(channels)))
        self.shrink = nn.ModuleList(convolution(channels[i], channels[i + 1], 2, stride=2) for i in steps)
        self.grow = nn.ModuleList(convolution(channels[i + 1], 4 * channels[i], 1) for i in steps)
        self.ups = nn.ModuleList(level(depth) for depth in steps)
        self.leave = convolution(channels[0], state, 3)
        # A linear path past the U: fine detail need not squeeze through the first level.
        self.past = Gated(state, seen, state, embedding)
        with torch.no_grad():  # nearly 0 at first: the mean of the residual of a task yet unknown
            for layer in (self.leave, self.past.state, self.past.seen):
                if layer is not None:
                    layer.weight.mul_(0.05)
        self.guidance = Guidance(embedding) if guided else None
        self.noise = noise_layer(noise_channels * fold**2, channels[0]) if noise_channels else None

    def forward(
        self,
        z: Tensor,
        c: Tensor,
        image: Tensor | None = None,
        label: Tensor | None = None,
        guidance: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """z (B, C, H, W) of about unit scale, c (B,), image (B, K, H, W) in [0, 1] -> (B, C, H, W).

        label (B,), integers in 0 .. classes; `classes` itself, or None, is "no class". guidance (B,) or (), a scale
        as in `guidance.ClassifierFree`; 1, or None, is no guidance. noise (B, noise_channels, H, W), standard normal.
        """
        check_inputs(z, self.guidance is not None, self.noise_channels, guidance, noise)
        height, width = z.shape[-2:]
        inputs = self.inputs(z, c, image, label, guidance)
        (x,) = deque(self.climb(*inputs, noise), maxlen=1)  # the finest
        out = self.leave(x) + self.past(*inputs)
        return F.pixel_shuffle(out, self.fold)[..., :height, :width]

    def features(
        self,
        z: Tensor,
        c: Tensor,
        image: Tensor | None = None,
        label: Tensor | None = None,
        guidance: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """What `forward` computes on its way up, a map per level, coarse to fine: (B, feature_channels[i], h, w).

        Their size is that of the filled image: level 0 has 1/fold of its resolution, each further one half of that.
        """
        check_inputs(z, self.guidance is not None, self.noise_channels, guidance, noise)
        return tuple(self.climb(*self.inputs(z, c, image, label, guidance), noise))

    def inputs(
        self, z: Tensor, c: Tensor, image: Tensor | None, label: Tensor | None, guidance: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """The state and the image, folded; c; the embedding: what `Gated` takes."""
        if (image is None) != (self.cond_channels == 0):
            wanted = "no image" if self.cond_channels == 0 else "image=<the observed image>"
            raise ValueError(f"cond_channels is {self.cond_channels}: call the network with {wanted}")
        state = self.folded(z)
        seen = None if image is None else self.seen(image.to(z.dtype))
        embedding = self.embed(c)
        if self.classes is not None:
            none = self.classes.num_embeddings - 1
            embedding = embedding + self.classes(torch.full_like(c, none, dtype=torch.long) if label is None else label)
        elif label is not None:
            raise ValueError("label given to a network without classes: leave it out, or build it with classes=K")
        if self.glance is not None and seen is not None:
            embedding = embedding + self.glance(seen)
        if self.guidance is not None and guidance is not None:
            embedding = embedding + self.guidance(guidance)
        return state, seen, c, embedding

    def seen(self, image: Tensor) -> Tensor:
        """The condition, folded, and what deblurring would change."""
        own = self.folded(2 * image - 1)
        if self.deblur is None:
            return own
        fixed = image.detach()  # no gradient passes through an estimate of the blur
        return torch.cat([own, self.folded(2 * (self.deblur(fixed) - fixed))], 1)

    def climb(
        self, state: Tensor, seen: Tensor | None, c: Tensor, embedding: Tensor, noise: Tensor | None
    ) -> Iterator[Tensor]:
        """The feature maps of the way up, from the bottom of the U."""
        x, skips = self.enter(state, seen, c, embedding), []
        if self.noise is not None and noise is not None:
            x = x + self.noise(self.folded(noise))
        for depth, blocks in enumerate(self.downs):
            if depth:
                skips.append(x)
                x = self.shrink[depth - 1](x)
            x = blocks(x, embedding)
        yield x
        for grow, blocks in zip(reversed(self.grow), reversed(self.ups), strict=True):
            x = blocks(skips.pop() + F.pixel_shuffle(grow(x), 2), embedding)
            yield x

    def folded(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(self.fill(x), self.fold)

    def fill(self, x: Tensor) -> Tensor:
        """Repeat the last row and column up to a multiple of the stride."""
        height, width = x.shape[-2:]
        return pad(x, 0, -width % self.stride, 0, -height % self.stride)


def pad(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    return F.pad(x, (left, right, top, bottom), mode="replicate") if left + right + top + bottom else x


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the variance of white input (torch's default loses two thirds of it)."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2 if stride == 1 else 0)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
