r"""Resampling of (B, C, H, W) by two, with a filter against aliasing or without one.

    down:  y_j = sum_i k_{2j - i} x_i          up:  y_j = 4 sum_i k_{j - 2i} x_i

in both directions, beyond the image zero, with k = outer(taps, taps) / (sum taps)^2: "Making Convolutional Networks
Shift-Invariant Again" (Zhang 2019, arXiv 1904.11486), in the alignment of StyleGAN2 and NCSN++ (arXiv 2011.13456). With
taps (1, 3, 3, 1) both keep the centre of the image where it is. No taps at all mean the mean of 2 x 2 pixels and their
repetition. `convolve_down` and `convolve_up` fuse the filter with a strided 3 x 3 convolution.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["check_taps", "convolve_down", "convolve_up", "down", "up"]


def check_taps(taps: Sequence[float]) -> None:
    """ValueError unless taps are none at all, or at least two of a positive sum."""
    if len(taps) and (len(taps) < 2 or not sum(taps) > 0):
        raise ValueError(f"taps {tuple(taps)}: give at least two numbers of a positive sum, or () for no filter")


def down(x: Tensor, taps: Sequence[float] = ()) -> Tensor:
    """(B, C, H, W) -> (B, C, H/2, W/2), for even H and W."""
    if not len(taps):
        return F.avg_pool2d(x, 2)
    extra = len(taps) - 2
    return _filtered(x, taps, 2, ((extra + 1) // 2, extra // 2))


def up(x: Tensor, taps: Sequence[float] = ()) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W)."""
    if not len(taps):
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    height, width = x.shape[-2:]
    # The full transposed convolution is longer by len(taps) - 2; what is cut in front sets the alignment.
    front = (len(taps) - 2) // 2

    def spread(x: Tensor) -> Tensor:
        kernel = 4 * _kernel(taps, x)
        return F.conv_transpose2d(x, kernel, stride=2, padding=front, groups=x.shape[1])

    return _exactly(spread, x)[..., : 2 * height, : 2 * width]


def convolve_down(x: Tensor, weight: Tensor, bias: Tensor | None, taps: Sequence[float] = ()) -> Tensor:
    """The filter, then a 3 x 3 convolution of stride 2: (B, C, H, W) -> (B, D, H/2, W/2), for even H and W."""
    if not len(taps):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, bias, stride=2)
    return F.conv2d(_filtered(x, taps, 1, ((len(taps) + 1) // 2, len(taps) // 2)), weight, bias, stride=2)


def convolve_up(x: Tensor, weight: Tensor, bias: Tensor | None, taps: Sequence[float] = ()) -> Tensor:
    """A 3 x 3 convolution of x with zeros between its pixels, then the filter: (B, C, H, W) -> (B, D, 2H, 2W).

    Without taps, pixels are repeated and convolved.
    """
    if not len(taps):
        return F.conv2d(up(x), weight, bias, padding=1)
    between = F.conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=2)
    extra = len(taps) - 4
    y = 4 * _filtered(between, taps, 1, ((extra + 1) // 2 + 1, extra // 2 + 1))
    return y if bias is None else y + bias[:, None, None].to(y.dtype)


def _filtered(x: Tensor, taps: Sequence[float], stride: int, margin: tuple[int, int]) -> Tensor:
    """The convolution with k of x, zeros `margin` wide (before, after) around it; negative ones cut."""
    before, after = margin

    def convolved(x: Tensor) -> Tensor:
        kernel, padding = _kernel(taps, x).flip(2, 3), before
        if before != after or before < 0:
            x, padding = F.pad(x, (before, after, before, after)), 0
        return F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])

    return _exactly(convolved, x)


def _kernel(taps: Sequence[float], like: Tensor) -> Tensor:
    """outer(taps, taps) / (sum taps)^2 for every channel of `like`, (C, 1, n, n)."""
    row = torch.tensor(tuple(taps), dtype=like.dtype, device=like.device)
    row = row / row.sum()
    return torch.outer(row, row).expand(like.shape[1], 1, -1, -1)


def _exactly(linear: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """linear(x) in float32 or better: half precision has no fast depth-wise kernels on a CPU (30 times slower)."""
    with torch.autocast(x.device.type, enabled=False):
        return linear(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)
