"""Refusion's network between images and latent codes, with the tensors of the released files.

Its decoder is also given the features of the encoder of the *observed* image, so that a code holds only what restoring
changes. Source: Refusion (Luo et al. 2023, arXiv 2304.08291).
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .irsde_parts import (
    LinearAttention,
    NormedResidual,
    ResBlock,
    convolution,
    downsample,
    each_level,
    padded,
    upsample,
)

__all__ = ["LatentUNet"]


class LatentUNet(nn.Module):
    """Images (B, C, H, W) <-> codes (B, latent, H' / f, W' / f), f = 2^(levels - 1), H' and W' padded.

    Arguments:
        width: channels of the first level.
        multipliers: channels behind each level in units of `width`.
        latent: channels of a code.
        in_channels: of the images.

    Raises ValueError for no levels.
    """

    def __init__(
        self, width: int = 8, multipliers: Sequence[int] = (4, 8, 8, 16), latent: int = 8, in_channels: int = 3
    ) -> None:
        super().__init__()
        if not multipliers or min(multipliers) < 1:
            raise ValueError(f"multipliers {tuple(multipliers)}: need at least one level, each of 1 or more")
        self.arguments: dict[str, Any] = {
            "width": width,
            "multipliers": tuple(multipliers),
            "latent": latent,
            "in_channels": in_channels,
        }
        depth = len(multipliers)
        self.multiple = 2**depth
        self.init_conv = convolution(in_channels, width)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels = [width, *(width * m for m in multipliers)]

        def attention(wide: int, level: int) -> nn.Module:
            return NormedResidual(wide, LinearAttention(wide)) if level == depth - 1 else nn.Identity()

        for level, (fine, coarse) in enumerate(itertools.pairwise(channels)):
            leave = downsample(fine, coarse) if level < depth - 1 else convolution(fine, coarse)
            enter = upsample(coarse, fine) if level else convolution(coarse, fine)
            down = [ResBlock(fine, fine), ResBlock(fine, fine), attention(fine, level), leave]
            up = [ResBlock(coarse + fine, coarse), ResBlock(coarse + fine, coarse), attention(coarse, level), enter]
            self.encoder.append(nn.ModuleList(down))
            self.decoder.insert(0, nn.ModuleList(up))
        self.latent_conv = convolution(channels[-1], latent, 1)
        self.post_latent_conv = convolution(latent, channels[-1], 1)
        self.final_conv = nn.Conv2d(width, in_channels, 3, padding=1)

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The code of images (B, C, H, W), and their features from the finest on, which `decode` wants."""
        x = self.init_conv(padded(x, self.multiple))
        features = [x]
        for block1, block2, attention, leave in each_level(self.encoder):
            x = block1(x)
            features.append(x)
            x = attention(block2(x))
            features.append(x)
            x = leave(x)
        return self.latent_conv(x), features

    def decode(self, code: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Images of a padded size, of codes and of features that came with codes of that size."""
        x, left = self.post_latent_conv(code), list(features)
        for block1, block2, attention, enter in each_level(self.decoder):
            x = block1(torch.cat([x, left.pop()], dim=1))
            x = block2(torch.cat([x, left.pop()], dim=1))
            x = enter(attention(x))
        out: Tensor = self.final_conv(x + left[0])
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), through their codes and back."""
        height, width = x.shape[2:]
        return self.decode(*self.encode(x))[..., :height, :width]
