"""The image towers of DA-CLIP, with the tensors of the released file: CLIP's own, and a copy that controls it.

The copy sees the same picture. Its pooled output tells the degradation; a linear layer of each of its blocks is added
behind a block of CLIP's tower, the last one's behind the first, so that the content is told as if undamaged.
Sources: DA-CLIP (Luo et al. 2023, arXiv 2310.01018), CLIP (Radford et al. 2021, arXiv 2103.00020).
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ControlledCLIP"]

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's pictures


class Layer(nn.Module):
    """Self-attention and two linear layers around a GELU, each normalised before and added, of tokens (B, N, C)."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        layers = [("c_fc", nn.Linear(width, inner)), ("gelu", nn.GELU()), ("c_proj", nn.Linear(inner, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        result: Tensor = x + self.mlp(self.ln_2(x))
        return result


class Layers(nn.Module):
    """Blocks in a row; behind the i-th, the i-th of `control` is added."""

    def __init__(self, width: int, layers: int, heads: int, inner: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Layer(width, heads, inner) for _ in range(layers))

    def forward(self, x: Tensor, control: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        for block, more in zip(self.resblocks, control, strict=True):
            x = block(x) + more
        return x, []


class Controlling(nn.Module):
    """Blocks in a row, and a linear layer of what each returns."""

    def __init__(self, width: int, layers: int, heads: int, inner: int) -> None:
        super().__init__()
        self.transformer = Layers(width, layers, heads, inner)
        self.zero_modules = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x: Tensor, control: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        hidden = []
        for block, linear in zip(self.transformer.resblocks, self.zero_modules, strict=True):
            x = block(x)
            hidden.append(linear(x))
        return x, hidden


class Tower(nn.Module):
    """A vision transformer: square pictures (B, 3, S, S) -> (B, embedding), and what its blocks hand over."""

    def __init__(self, width: int, patch: int, tokens: int, embedding: int, blocks: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(tokens, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = blocks
        self.proj = nn.Parameter(torch.zeros(width, embedding))

    def forward(self, x: Tensor, control: Sequence[Tensor] = ()) -> tuple[Tensor, list[Tensor]]:
        patches = self.conv1(x).flatten(2).mT
        tokens = torch.cat([self.class_embedding.expand(len(x), 1, -1), patches], dim=1)
        last, hidden = self.transformer(self.ln_pre(tokens + self.positional_embedding), control)
        return self.ln_post(last[:, 0]) @ self.proj, hidden


class ControlledCLIP(nn.Module):
    """Photographs (B, 3, H, W) in [0, 1], any size -> (image context, degradation context), each (B, embedding).

    Arguments:
        width, layers, heads, inner: of the towers; inner is the width between a block's two linear layers.
        patch, side: of a patch and of the square picture that the towers see, in pixels.
        embedding: numbers in a context.
    """

    def __init__(
        self,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        inner: int = 3072,
        patch: int = 32,
        side: int = 224,
        embedding: int = 512,
    ) -> None:
        super().__init__()
        self.side, tokens = side, (side // patch) ** 2 + 1
        shape: tuple[Any, ...] = (width, layers, heads, inner)
        self.visual = Tower(width, patch, tokens, embedding, Layers(*shape))
        self.visual_control = Tower(width, patch, tokens, embedding, Controlling(*shape))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        picture = self.picture(x)
        degradation, hidden = self.visual_control(picture)
        content, _ = self.visual(picture, hidden[::-1])
        return content, degradation

    def picture(self, x: Tensor) -> Tensor:
        """The middle square of photographs, its side `side`, in CLIP's own colours."""
        height, width = x.shape[-2:]
        short = min(height, width)
        size = [max(self.side, int(self.side * length / short)) for length in (height, width)]
        x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (round((length - self.side) / 2) for length in size)
        x = x[..., top : top + self.side, left : left + self.side]
        mean, deviation = (torch.tensor(v, dtype=x.dtype, device=x.device)[:, None, None] for v in (MEAN, DEVIATION))
        return (x - mean) / deviation
