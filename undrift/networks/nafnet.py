"""Refusion's NAFNet F(z, c, image), with the tensors of the released files.

A U-Net of blocks without activations, x + beta A(x) + gamma B(x), whose halves multiply each other instead. Sources:
Refusion (Luo et al. 2023, arXiv 2304.08291), NAFNet (Chen et al. 2022, arXiv 2204.04676).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .irsde_parts import ChannelNorm, Sinusoid, padded

__all__ = ["NAFNet"]


class Gate(nn.Module):
    """a b, the two halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return a * b


class NAFBlock(nn.Module):
    """Convolutions with channel attention, then a layer per pixel; both shifted and scaled by the embedding."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Gate(), nn.Linear(embedding // 2, 4 * width))
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1))
        self.gate = Gate()
        self.conv4 = nn.Conv2d(width, 2 * width, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.norm1, self.norm2 = ChannelNorm(width), ChannelNorm(width)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift, scale, shift2, scale2 = self.mlp(embedding)[:, :, None, None].chunk(4, dim=1)
        h = self.gate(self.conv2(self.conv1(self.norm1(x) * (scale + 1) + shift)))
        x = x + self.conv3(h * self.sca(h)) * self.beta
        h = self.gate(self.conv4(self.norm2(x) * (scale2 + 1) + shift2))
        result: Tensor = x + self.conv5(h) * self.gamma
        return result


class NAFNet(nn.Module):
    """F(z (B, C, H, W), c (B,), image (B, D, H, W)) -> (B, C, H, W), any size; missing rows and columns are zero.

    Arguments:
        width: channels of the first level; an even number >= 4.
        encoders, decoders: blocks per level, on the way down from the finest and on the way up to it.
        middle: blocks at the lowest resolution.
        in_channels, cond_channels: of the state and of the observed image (or of their latent codes).
        long_skip: whether the features of the input are added before the output, as for latent codes of haze.

    Raises ValueError for a different number of encoders and decoders.
    """

    def __init__(
        self,
        width: int = 64,
        encoders: Sequence[int] = (1, 1, 1, 28),
        decoders: Sequence[int] = (1, 1, 1, 1),
        middle: int = 1,
        in_channels: int = 3,
        cond_channels: int = 3,
        long_skip: bool = False,
    ) -> None:
        super().__init__()
        if not encoders or len(encoders) != len(decoders):
            raise ValueError(f"encoders {tuple(encoders)} and decoders {tuple(decoders)}: need as many, at least one")
        self.arguments: dict[str, Any] = {
            "width": width,
            "encoders": tuple(encoders),
            "decoders": tuple(decoders),
            "middle": middle,
            "in_channels": in_channels,
            "cond_channels": cond_channels,
            "long_skip": long_skip,
        }
        embedding, self.multiple, self.long_skip = 4 * width, 2 ** len(encoders), long_skip
        self.time_mlp = nn.Sequential(
            Sinusoid(width), nn.Linear(width, 2 * embedding), Gate(), nn.Linear(embedding, embedding)
        )
        self.intro = nn.Conv2d(in_channels + cond_channels, width, 3, padding=1)
        self.ending = nn.Conv2d(width, in_channels, 3, padding=1)
        channels = [width * 2**level for level in range(len(encoders) + 1)]

        def blocks(count: int, wide: int) -> nn.ModuleList:
            return nn.ModuleList(NAFBlock(wide, embedding) for _ in range(count))

        self.encoders = nn.ModuleList(map(blocks, encoders, channels[:-1]))
        self.decoders = nn.ModuleList(map(blocks, decoders, channels[-2::-1]))
        self.middle_blks = blocks(middle, channels[-1])
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse, 4 * fine, 1, bias=False), nn.PixelShuffle(2))
            for coarse, fine in pairwise(channels[::-1])
        )
        self.downs = nn.ModuleList(nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in pairwise(channels))

    def forward(self, z: Tensor, c: Tensor, image: Tensor | None = None) -> Tensor:
        """c is the index of the time."""
        height, width = z.shape[2:]
        if self.arguments["cond_channels"]:
            if image is None:
                raise ValueError("image is missing: this network sees the observation; give image=y")
            z = torch.cat([z, image], dim=1)
        embedding = self.time_mlp(c)
        first = x = self.intro(padded(z, self.multiple, "constant"))
        skips = []
        for blocks, down in zip(self.encoders, self.downs, strict=True):
            x = _through(blocks, x, embedding)
            skips.append(x)
            x = down(x)
        x = _through(self.middle_blks, x, embedding)
        for blocks, up in zip(self.decoders, self.ups, strict=True):
            x = _through(blocks, up(x) + skips.pop(), embedding)
        out: Tensor = self.ending(x + first if self.long_skip else x)[..., :height, :width]
        return out


def _through(blocks: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
    for block in blocks:  # type: ignore[attr-defined]
        x = block(x, embedding)
    return x
