"""Random ingredients: numbers, smooth fields, sprinkled particles. Sizes are in pixels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Range

__all__ = ["capsule", "convolve", "integer", "offsets", "smooth", "sprinkle", "uniform"]


def uniform(between: Range, generator: torch.Generator) -> float:
    """A number, uniform in [low, high)."""
    low, high = between
    return low + (high - low) * torch.rand((), generator=generator).item()


def integer(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number, uniform in {low, ..., high}."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def smooth(height: int, width: int, cells: int, generator: torch.Generator) -> Tensor:
    """A field (H, W) of about unit variance that varies over 1 / cells of the image."""
    coarse = torch.randn(1, 1, cells + 2, cells + 2, generator=generator)
    grid = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return grid[0, 0] / 0.75  # cubic interpolation averages its nodes: this undoes the loss of spread


def offsets(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Signed distances to the pixel (0, 0) on the torus: dy (H, 1), dx (1, W)."""
    return torch.fft.fftfreq(height, 1 / height)[:, None], torch.fft.fftfreq(width, 1 / width)[None]


def capsule(height: int, width: int, length: float, radius: float, angle: float, softness: float) -> Tensor:
    """A soft-edged stroke (H, W) of peak 1 around the pixel (0, 0) of the torus.

    exp(-(d / radius)^softness), with d the distance to a segment of `length` that leans `angle` radians from
    the vertical. softness 2 is Gaussian, 4 a disc nearly in focus.
    """
    dy, dx = offsets(height, width)
    along = dy * math.cos(angle) + dx * math.sin(angle)
    across = dx * math.cos(angle) - dy * math.sin(angle)
    beyond = (along.abs() - length / 2).clamp(min=0)
    return (-(((beyond.square() + across.square()) / radius**2) ** (softness / 2))).exp()


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Circular convolution of (..., H, W) with a kernel (H, W) centred on the pixel (0, 0)."""
    spectrum = torch.fft.rfft2(x) * torch.fft.rfft2(kernel.to(x))
    result: Tensor = torch.fft.irfft2(spectrum, s=x.shape[-2:])
    return result


def sprinkle(kernel: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Copies of the kernel, `density` per pixel, each with its own strength in (0, 1): (H, W)."""
    u = torch.rand(kernel.shape, generator=generator)
    return convolve((1 - u / density).clamp_(min=0), kernel)
