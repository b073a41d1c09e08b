"""The U-Nets of IR-SDE, DA-CLIP and DenoisingSDE, F(z, c, image, ...), with the tensors of the released files.

Each level has two residual blocks and an attention, and both blocks hand a feature to the way up. The state z = x - mu
and the observation mu enter together. Sources: IR-SDE (Luo et al. 2023, arXiv 2301.11699), DA-CLIP (Luo et al. 2023,
arXiv 2310.01018), Photo-Realistic Image Restoration in the Wild (Luo et al. 2024, arXiv 2404.09732).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from .irsde_parts import (
    LinearAttention,
    NormedResidual,
    ResBlock,
    Sinusoid,
    SoftmaxAttention,
    SpatialTransformer,
    convolution,
    downsample,
    each_level,
    padded,
    upsample,
)

__all__ = ["IRSDEUNet", "Middle"]

Middle: TypeAlias = Literal["linear", "softmax", "transformer"]


class IRSDEUNet(nn.Module):
    """U-Net F(z (B, C, H, W), c (B,), image (B, D, H, W), contexts) -> (B, C, H, W), any size.

    Arguments:
        width: channels of the first level; an even number >= 4.
        multipliers: channels behind each level in units of `width`: (2, 4, 8, 16) of IR-SDE, (1, 2, 4, 8) of DA-CLIP.
        in_channels, cond_channels: of the state and of the observed image, 0 for a network that sees none.
        middle: the attention at the lowest resolution; DenoisingSDE has "softmax", DA-CLIP "transformer".
        transformers: levels, 0 the finest, whose attention is a transformer that sees the image context.
        context: numbers in an image context and in a degradation context; 0 where there are none.
        degradation: whether a degradation context changes the embedding of the time.
        halved: whether all levels run at half the resolution.

    Raises ValueError for values outside these ranges.
    """

    def __init__(
        self,
        width: int = 64,
        multipliers: Sequence[int] = (2, 4, 8, 16),
        in_channels: int = 3,
        cond_channels: int = 3,
        middle: Middle = "linear",
        transformers: Sequence[int] = (),
        context: int = 0,
        degradation: bool = False,
        halved: bool = False,
    ) -> None:
        super().__init__()
        depth, seeing = len(multipliers), middle == "transformer" or bool(transformers)
        if not multipliers or min(multipliers) < 1:
            raise ValueError(f"multipliers {tuple(multipliers)}: need at least one level, each of 1 or more")
        if (seeing or degradation) != (context > 0):
            raise ValueError(f"context {context}: need its size where, and only where, something sees a context")
        if not all(0 <= level < depth for level in transformers):
            raise ValueError(f"transformers {tuple(transformers)}: the levels are 0 to {depth - 1}")
        self.arguments: dict[str, Any] = {
            "width": width,
            "multipliers": tuple(multipliers),
            "in_channels": in_channels,
            "cond_channels": cond_channels,
            "middle": middle,
            "transformers": tuple(transformers),
            "context": context,
            "degradation": degradation,
            "halved": halved,
        }
        self.contexts = ({"degradation_context": context} if degradation else {}) | (
            {"image_context": context} if seeing else {}
        )
        embedding, self.multiple, self.halved = 4 * width, 2**depth, halved
        self.init_conv = convolution(in_channels + cond_channels, width, 7)
        if halved:
            self.downsample, self.upsample = downsample(width, width), upsample(width, width)
        self.time_mlp = nn.Sequential(
            Sinusoid(width), nn.Linear(width, embedding), nn.GELU(), nn.Linear(embedding, embedding)
        )
        if degradation:
            self.prompt = nn.Parameter(torch.rand(1, embedding))
            self.text_mlp = nn.Sequential(nn.Linear(context, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
            self.prompt_mlp = nn.Linear(embedding, embedding)

        def attention(channels: int, kind: Middle) -> NormedResidual:
            kinds = {"linear": LinearAttention, "softmax": SoftmaxAttention}
            made = SpatialTransformer(channels, context) if kind == "transformer" else kinds[kind](channels)
            return NormedResidual(channels, made)

        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        channels = [width, *(width * m for m in multipliers)]
        for level, (fine, coarse) in enumerate(pairwise(channels)):
            kind: Middle = "transformer" if level in transformers else "linear"
            down = [ResBlock(fine, fine, embedding), ResBlock(fine, fine, embedding), attention(fine, kind)]
            up = [ResBlock(coarse + fine, coarse, embedding) for _ in range(2)]
            leave = downsample(fine, coarse) if level < depth - 1 else convolution(fine, coarse)
            enter = upsample(coarse, fine) if level else convolution(coarse, fine)
            self.downs.append(nn.ModuleList([*down, leave]))
            self.ups.insert(0, nn.ModuleList([*up, attention(coarse, kind), enter]))
        self.mid_block1 = ResBlock(channels[-1], channels[-1], embedding)
        self.mid_attn = attention(channels[-1], middle)
        self.mid_block2 = ResBlock(channels[-1], channels[-1], embedding)
        self.final_res_block = ResBlock(2 * width, width, embedding)
        self.final_conv = nn.Conv2d(width, in_channels, 3, padding=1)

    def forward(
        self,
        z: Tensor,
        c: Tensor,
        image: Tensor | None = None,
        degradation_context: Tensor | None = None,
        image_context: Tensor | None = None,
    ) -> Tensor:
        """c is the index of the time; contexts (B, context). An image is only looked at if `cond_channels` > 0."""
        height, width = z.shape[2:]
        if self.arguments["cond_channels"]:
            if image is None:
                raise ValueError("image is missing: this network sees the observation; give image=y")
            z = torch.cat([z, image], dim=1)
        first = self.init_conv(padded(z, self.multiple))
        embedding = self.time_mlp(c)
        if "degradation_context" in self.contexts and degradation_context is not None:
            told = torch.softmax(self.text_mlp(degradation_context), dim=1) * self.prompt
            embedding = embedding + self.prompt_mlp(told)
        token = image_context[:, None] if "image_context" in self.contexts and image_context is not None else None
        x = self._levels(self.downsample(first) if self.halved else first, embedding, token)
        x = self.upsample(x) if self.halved else x
        x = self.final_res_block(torch.cat([x, first], dim=1), embedding)
        out: Tensor = self.final_conv(x)[..., :height, :width]
        return out

    def _levels(self, x: Tensor, embedding: Tensor, token: Tensor | None) -> Tensor:
        skips = []
        for block1, block2, attention, leave in each_level(self.downs):
            x = block1(x, embedding)
            skips.append(x)
            x = attention(block2(x, embedding), token)
            skips.append(x)
            x = leave(x)
        x = self.mid_block2(self.mid_attn(self.mid_block1(x, embedding), token), embedding)
        for block1, block2, attention, enter in each_level(self.ups):
            x = block1(torch.cat([x, skips.pop()], dim=1), embedding)
            x = block2(torch.cat([x, skips.pop()], dim=1), embedding)
            x = enter(attention(x, token))
        return x
