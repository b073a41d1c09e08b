"""A small time-conditional classifier: logits of p(label | z, c), any image size, made for two CPU cores.

The blocks are those of the U-Net on its way down,

    x + g W2 silu((1 + a) W1 norm(x) + b),    (a, b) = affine(embedding(c)),

so that each knows how much of its input is noise; then the mean over the image, and one linear layer.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .unet import Block, ChannelNorm, Fourier, Level, convolution, pad

__all__ = ["Classifier"]


class Classifier(nn.Module):
    """F(z, c) -> logits, the classifier of Score SDE's appendix I (Song et al. 2021, arXiv 2011.13456), but small.

    Args:
        classes: number of classes K.
        in_channels: channels of z.
        channels: width of each level, finest first; the first works at 1/fold of the resolution.
        blocks: blocks per level.
        fold: pixels folded into channels along each side before the first convolution.
        embedding: width of the embedding of c.

    Raises:
        ValueError: for a size below 1.
    """

    def __init__(
        self,
        classes: int,
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64, 128),
        blocks: int = 1,
        fold: int = 2,
        embedding: int = 64,
    ) -> None:
        super().__init__()
        # What a checkpoint's model.json stores: Classifier(**arguments) has the same shape.
        self.arguments: dict[str, Any] = {
            "classes": classes,
            "in_channels": in_channels,
            "channels": tuple(channels),
            "blocks": blocks,
            "fold": fold,
            "embedding": embedding,
        }
        for name, value in self.arguments.items():
            if (min(value, default=0) if name == "channels" else value) < 1:
                raise ValueError(f"Classifier {name} = {value}: need whole numbers of at least 1")
        self.fold, self.stride = fold, fold * 2 ** (len(channels) - 1)
        self.embed = Fourier(embedding)
        self.enter = convolution(in_channels * fold**2, channels[0], 3)
        self.levels = nn.ModuleList(Level(Block(w, embedding, False, 0) for _ in range(blocks)) for w in channels)
        self.shrink = nn.ModuleList(convolution(a, b, 2, stride=2) for a, b in pairwise(channels))
        self.norm = ChannelNorm(channels[-1])
        self.head = nn.Linear(channels[-1], classes)

    def features(self, z: Tensor, c: Tensor) -> Tensor:
        """What the logits are linear in: z (B, C, H, W) of about unit scale, c (B,) -> (B, channels[-1])."""
        height, width = z.shape[-2:]
        filled = pad(z, 0, -width % self.stride, 0, -height % self.stride)
        x, embedding = self.enter(F.pixel_unshuffle(filled, self.fold)), self.embed(c)
        for depth, blocks in enumerate(self.levels):
            x = blocks(self.shrink[depth - 1](x) if depth else x, embedding)
        return torch.mean(F.silu(self.norm(x)), (2, 3))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z (B, C, H, W) of about unit scale, c (B,) -> logits (B, K)."""
        logits: Tensor = self.head(self.features(z, c))
        return logits
