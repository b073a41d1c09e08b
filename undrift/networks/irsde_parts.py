"""What the networks of IR-SDE, Refusion and DA-CLIP are made of; attributes are named as in the released files.

Convolutions have no bias and activations no normalisation, except where said. Attention is computed without score
matrices: linear attention as Q (K^T V), whose memory is linear in pixels, softmax attention by torch's fused kernel.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ChannelNorm",
    "LinearAttention",
    "NormedResidual",
    "ResBlock",
    "Sinusoid",
    "SoftmaxAttention",
    "SpatialTransformer",
    "convolution",
    "downsample",
    "each_level",
    "padded",
    "upsample",
]

HEADS, HEAD = 4, 32  # of the linear attention: four heads of 32 channels at every width


class Sinusoid(nn.Module):
    """[sin(c w_i), cos(c w_i)], w_i from 1 to 1e-4 in equal ratios: (B,) -> (B, width). Needs an even width >= 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 4 or width % 2:
            raise ValueError(f"width {width}: need an even number >= 4, for the sines and cosines of the time")
        self.width = width

    def forward(self, c: Tensor) -> Tensor:
        kind = torch.promote_types(c.dtype, torch.float32)  # in half precision the frequencies would be too coarse
        half = self.width // 2
        index = torch.arange(half, device=c.device, dtype=kind)
        angles = c.to(kind)[:, None] * torch.exp(index * (-math.log(10000) / (half - 1)))
        return torch.cat([angles.sin(), angles.cos()], dim=1).to(c.dtype)


class ChannelNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) g over the channels of each pixel; no shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred * (centred.square().mean(1, keepdim=True) + 1e-5).rsqrt() * self.g


class LinearAttention(nn.Module):
    """softmax_channels(Q) (softmax_pixels(K)^T V) / (sqrt(32) H W), four heads of 32 channels; shape-preserving."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_qkv = nn.Conv2d(width, 3 * HEADS * HEAD, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(HEADS * HEAD, width, 1), ChannelNorm(width))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        q, k, v = _heads(self.to_qkv(x))
        mixed = k.softmax(-1) @ (v / v.shape[-1]).mT  # (B, heads, 32, 32), whatever the image
        out = mixed.mT @ (q.softmax(-2) * HEAD**-0.5)
        result: Tensor = self.to_out(out.reshape(len(x), -1, *x.shape[2:]))
        return result


class SoftmaxAttention(nn.Module):
    """softmax(Q K^T / sqrt(32)) V over pixels, four heads of 32 channels; shape-preserving."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_qkv = nn.Conv2d(width, 3 * HEADS * HEAD, 1, bias=False)
        self.to_out = nn.Conv2d(HEADS * HEAD, width, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        q, k, v = (part.mT for part in _heads(self.to_qkv(x)))
        out = F.scaled_dot_product_attention(q, k, v).mT
        result: Tensor = self.to_out(out.reshape(len(x), -1, *x.shape[2:]))
        return result


def _heads(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3 * 4 * 32, H, W) -> three of (B, 4, 32, H W)."""
    q, k, v = qkv.flatten(2).unflatten(1, (3, HEADS, HEAD)).unbind(1)
    return q, k, v


class CrossAttention(nn.Module):
    """softmax(Q K^T / sqrt(32)) V of tokens (B, N, C), to those of a context (B, M, K) or to themselves."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        inner = self.heads * HEAD
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(context, inner, bias=False)
        self.to_v = nn.Linear(context, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        seen = x if context is None else context
        q, k, v = (
            part.unflatten(-1, (self.heads, HEAD)).transpose(1, 2)
            for part in (self.to_q(x), self.to_k(seen), self.to_v(seen))
        )
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        result: Tensor = self.to_out(out)
        return result


class GatedProjection(nn.Module):
    """a gelu(b), (a, b) linear in x."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        result: Tensor = value * F.gelu(gate)
        return result


class FeedForward(nn.Module):
    """A gated layer of four times the width, and one back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedProjection(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.net(x)
        return result


class TransformerBlock(nn.Module):
    """Attention to itself, to the context, then a feed-forward layer; each normalised before and added."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(width, width)
        self.ff = FeedForward(width)
        self.attn2 = CrossAttention(width, context)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        result: Tensor = x + self.ff(self.norm3(x))
        return result


class SpatialTransformer(nn.Module):
    """x + a transformer block on the pixels of x as tokens, which sees a context (B, M, K); shape-preserving.

    Without a context its second attention is to the pixels again, which only fits a context as wide as x.
    """

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        if width % HEAD:
            raise ValueError(f"a transformer at {width} channels: need a multiple of {HEAD}, as its heads have")
        inner = width // HEAD * HEAD
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, inner, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(inner, context)])
        self.proj_out = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        tokens = self.proj_in(self.norm(x)).flatten(2).mT
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        result: Tensor = x + self.proj_out(tokens.mT.unflatten(2, x.shape[2:]))
        return result


class Normed(nn.Module):
    """fn(norm(x))."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        self.norm = ChannelNorm(width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        result: Tensor = self.fn(self.norm(x), context)
        return result


class NormedResidual(nn.Module):
    """x + fn(norm(x)). A transformer adds its own input, so there the sum is x + norm(x) + ..., as it was trained."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = Normed(width, fn)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        result: Tensor = x + self.fn(x, context)
        return result


class Convolved(nn.Module):
    """silu((1 + scale) W x + shift), W a 3 x 3 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = convolution(inputs, outputs)

    def forward(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        x = self.proj(x)
        if modulation is not None:
            scale, shift = modulation[:, :, None, None].chunk(2, dim=1)
            x = x * (scale + 1) + shift
        return F.silu(x)


class ResBlock(nn.Module):
    """shortcut(x) + two convolutions, the first scaled and shifted by the embedding where there is one."""

    def __init__(self, inputs: int, outputs: int, embedding: int = 0) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outputs)) if embedding else None
        self.block1 = Convolved(inputs, outputs)
        self.block2 = Convolved(outputs, outputs)
        self.res_conv = convolution(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        modulation = self.mlp(embedding) if self.mlp is not None else None
        result: Tensor = self.block2(self.block1(x, modulation)) + self.res_conv(x)
        return result


def convolution(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    """The convolution of these networks, without a bias."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)


def downsample(inputs: int, outputs: int) -> nn.Conv2d:
    """Half the resolution by a 4 x 4 convolution."""
    return nn.Conv2d(inputs, outputs, 4, 2, 1)


def upsample(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the resolution: each pixel repeated, then a 3 x 3 convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(inputs, outputs, 3, padding=1))


def each_level(levels: nn.ModuleList) -> Iterator[tuple[nn.Module, nn.Module, nn.Module, nn.Module]]:
    """(first block, second block, attention, change of resolution) of every level, in order."""
    for level in levels:
        block1, block2, attention, change = level.children()
        yield block1, block2, attention, change


def padded(x: Tensor, multiple: int, mode: str = "reflect") -> Tensor:
    """x (B, C, H, W), lengthened at the right and at the bottom to multiples.

    Where an image is too small to be reflected, which the official networks refuse, its border is repeated.
    """
    below, right = -x.shape[2] % multiple, -x.shape[3] % multiple
    if mode == "reflect" and (below >= x.shape[2] or right >= x.shape[3]):
        mode = "replicate"
    return F.pad(x, (0, right, 0, below), mode) if below or right else x
