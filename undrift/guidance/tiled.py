"""Large images: the estimate of z_0, not the picture, is computed in overlapping tiles and blended.

State, noise and solver stay global, so that every tile sees the same noise field and no seam can form.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Denoise

__all__ = ["covered", "ramp", "spans", "stride_of", "tiled"]

ALIGN = 16  # tile origins: the block grid of JPEG (with halved chroma) and the stride of the networks


def tiled(denoise: Denoise, size: int = 512, overlap: int = 64) -> Denoise:
    """`denoise`, evaluated on tiles of `size` x `size` pixels that overlap by `overlap`, with linear blending.

    The outer quarter of the overlap, where a network sees its own padding, has weight 0: a denoiser that looks no
    further than that gives the same with and without tiles. Conditions with the spatial size of z are cut along
    with it. Images that fit in one tile pass through. Memory is bounded by the state and one tile.
    Raises ValueError unless 16 <= overlap <= size / 2.
    """
    stride = stride_of(size, overlap)

    def estimate(z: Tensor, t: Tensor, **cond: Any) -> Tensor:
        height, width = z.shape[-2:]
        if height <= size and width <= size:
            return denoise(z, t, **cond)
        total = torch.zeros_like(z)
        weights = z.new_zeros(height, width)
        for rows in spans(height, size, stride):
            for columns in spans(width, size, stride):
                part = (..., rows, columns)
                cut = {k: v[part] if _spatial(v, z) else v for k, v in cond.items()}
                window = ramp(rows, height, overlap, z)[:, None] * ramp(columns, width, overlap, z)
                total[part] += denoise(z[part], t, **cut) * window
                weights[part] += window
        return total.div_(weights)

    return estimate


def covered(height: int, width: int, size: int = 512, overlap: int = 64) -> int:
    """Pixels in all tiles of an image, overlaps counted as often as they are seen: the work of one estimate."""
    stride = stride_of(size, overlap)
    down, across = (sum(int(s.stop - s.start) for s in spans(side, size, stride)) for side in (height, width))
    return down * across


def stride_of(size: int, overlap: int) -> int:
    """From tile to tile; ValueError unless 16 <= overlap <= size / 2."""
    if not ALIGN <= overlap <= size // 2:
        raise ValueError(f"tiles of {size} overlapping by {overlap}: need {ALIGN} <= overlap <= half of size")
    return (size - overlap) // ALIGN * ALIGN


def spans(length: int, size: int, stride: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `length`, their starts multiples of the stride."""
    start = 0
    while start + size < length:
        yield slice(start, start + size)
        start += stride
    yield slice(start, length)


def ramp(span: slice, length: int, overlap: int, like: Tensor) -> Tensor:
    """Weights along one side: 0, then rising, then 1 from an inner border on; 1 up to the image's border."""
    count, margin = span.stop - span.start, overlap // 4
    position = torch.arange(count, device=like.device, dtype=like.dtype) + 0.5 - margin
    one, width = torch.ones_like(position), overlap - 2 * margin
    rise = position / width if span.start > 0 else one
    fall = (count - 2 * margin - position) / width if span.stop < length else one
    return torch.minimum(rise, fall).clamp(0, 1)


def _spatial(value: Any, z: Tensor) -> bool:
    return isinstance(value, Tensor) and value.ndim == z.ndim and value.shape[-2:] == z.shape[-2:]
