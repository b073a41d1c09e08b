"""What falls through the air: rain streaks and snow. Both veil the scene, y = t x + (1 - t) light.

Particles are sprinkled on a torus and sized in pixels, so a small crop looks like a crop of a large picture.
"""

import math
from dataclasses import dataclass
from typing import final

import torch

from .base import Degradation, Diagonal, Range, Shape, check_range, veil
from .fields import capsule, sprinkle, uniform

__all__ = ["Rain", "Snow"]


@final
@dataclass(frozen=True)
class Rain(Degradation):
    """Streaks of falling drops at three distances: y = (1 - s) x + s light.

    Like Rain100H (Yang et al., Deep Joint Rain Detection and Removal, 2017, arXiv:1609.07769).

    Args:
        strength: opacity of the strongest streak.
        cover: sum of the streaks' areas over that of the image; they overlap.
        slant: lean from the vertical, radians.
        length: streak length of the nearest drops, pixels.
        light: brightness of a streak.
    """

    strength: Range = (0.55, 0.95)
    cover: Range = (0.5, 1.2)
    slant: Range = (-0.6, 0.6)
    length: Range = (20.0, 45.0)
    light: Range = (0.75, 0.95)

    def __post_init__(self) -> None:
        check_range("strength", self.strength, 0, 1)
        check_range("cover", self.cover, 0, 10)
        check_range("slant", self.slant, -math.pi / 2, math.pi / 2)
        check_range("length", self.length, 1, 1000)
        check_range("light", self.light, 0, 1)

    def draw(self, shape: Shape, generator: torch.Generator) -> Diagonal:
        _, height, width = shape
        strength, cover = uniform(self.strength, generator), uniform(self.cover, generator)
        slant, near = uniform(self.slant, generator), uniform(self.length, generator)
        streaks = torch.zeros(height, width)
        for scale, share in ((1.0, 0.3), (0.65, 0.4), (0.4, 0.3)):
            angle = slant + uniform((-0.04, 0.04), generator)
            length, radius = near * scale, 0.5 + uniform((0.5, 1.0), generator) * scale
            kernel = capsule(height, width, length, radius, angle, 2.0)
            streaks += sprinkle(kernel, cover * share / (2 * radius * length), generator)
        return veil(1 - (strength * streaks).clamp_(0, 1)[None], uniform(self.light, generator))


@final
@dataclass(frozen=True)
class Snow(Degradation):
    """Flakes at four distances before a thin veil: y = t x + (1 - t) light, t = (1 - veil)(1 - s).

    Like Snow100K-L (Liu et al., DesnowNet, 2017, arXiv:1708.04512): near flakes are large, few and blurred.

    Args:
        strength: opacity of the flakes.
        cover: sum of the flakes' areas over that of the image.
        radius: radius of the nearest flakes, pixels.
        veil: opacity of the air itself.
        light: brightness of the snow.
    """

    strength: Range = (0.7, 1.0)
    cover: Range = (0.15, 0.5)
    radius: Range = (3.0, 7.0)
    veil: Range = (0.0, 0.2)
    light: Range = (0.85, 1.0)

    def __post_init__(self) -> None:
        check_range("strength", self.strength, 0, 1)
        check_range("cover", self.cover, 0, 10)
        check_range("radius", self.radius, 0.5, 1000)
        check_range("veil", self.veil, 0, 1)
        check_range("light", self.light, 0, 1)

    def draw(self, shape: Shape, generator: torch.Generator) -> Diagonal:
        _, height, width = shape
        strength, cover = uniform(self.strength, generator), uniform(self.cover, generator)
        near, fall = uniform(self.radius, generator), uniform((-0.9, 0.9), generator)
        flakes = torch.zeros(height, width)
        for scale, share, softness in ((1.0, 0.25, 2.5), (0.6, 0.3, 3.0), (0.35, 0.25, 3.0), (0.2, 0.2, 2.0)):
            radius = max(0.9, near * scale * uniform((0.8, 1.2), generator))
            angle, trail = fall + uniform((-0.4, 0.4), generator), radius * uniform((0.3, 1.5), generator)
            kernel = capsule(height, width, trail, radius, angle, softness)
            flakes += sprinkle(kernel, cover * share / (math.pi * radius**2 + 2 * radius * trail), generator)
        air = 1 - uniform(self.veil, generator)
        return veil(air * (1 - (1.5 * flakes).clamp_(0, 1) * strength)[None], uniform(self.light, generator))
