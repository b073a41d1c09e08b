"""Drops on the lens: each is a small lens itself, which shows the whole scene upside down and out of focus.

Drops live in the cells of jittered grids, one grid per size, so each pixel has to ask one cell only.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Degradation, Linear, Range, Shape, check_range
from .fields import uniform

__all__ = ["Drops", "RainDrop"]


@final
@dataclass(frozen=True, eq=False)
class Drops(Linear):
    """y = (1 - a) x + a (gain B x[source] + glint), B a blur.

    alpha, gain (H, W); source (H, W, 2) is (x, y) in [-1, 1], as `grid_sample` counts; offset is a * glint.
    """

    alpha: Tensor
    gain: Tensor
    source: Tensor
    offset: Tensor | float = 0.0

    def linear(self, x: Tensor) -> Tensor:
        alpha = self.alpha.to(x)
        # Four pixels to one, smoothly: a drop is far nearer than the focal plane.
        small = F.avg_pool2d(F.pad(x[None], (3, 3, 3, 3), mode="replicate"), 7, stride=4, ceil_mode=True)
        seen = F.grid_sample(small, self.source.to(x)[None], padding_mode="reflection", align_corners=False)[0]
        return x + alpha * (self.gain.to(x) * seen - x)


@final
@dataclass(frozen=True)
class RainDrop(Degradation):
    """Drops on the lens or a window before it, out of focus; see `Drops`.

    Like RainDrop (Qian et al., Attentive GAN for Raindrop Removal, 2018, arXiv:1711.10098).

    Args:
        radius: radius of the larger drops, pixels; the smaller ones have 0.55 and 0.3 of it.
        cover: probability that a cell of the coarsest grid holds a drop; the finer grids have fewer.
        edge: softness of a drop's outline, in radii.
        power: how many times smaller a drop shows the scene.
    """

    radius: Range = (8.0, 18.0)
    cover: Range = (0.2, 0.7)
    edge: Range = (0.15, 0.5)
    power: Range = (2.0, 5.0)

    def __post_init__(self) -> None:
        check_range("radius", self.radius, 1, 1000)
        check_range("cover", self.cover, 0, 1)
        check_range("edge", self.edge, 0.01, 1)
        check_range("power", self.power, 0.1, 100)

    def draw(self, shape: Shape, generator: torch.Generator) -> Drops:
        _, height, width = shape
        near, cover = uniform(self.radius, generator), uniform(self.cover, generator)
        edge, power = uniform(self.edge, generator), uniform(self.power, generator)
        alpha, bulge = torch.zeros(height, width), torch.zeros(2, height, width)
        for scale, share in ((0.3, 0.4), (0.55, 0.7), (1.0, 1.0)):
            layer, u = _layer(height, width, near * scale, cover * share, edge, generator)
            bulge = torch.where(layer > alpha, u, bulge)
            alpha = torch.maximum(alpha, layer)
        return _lens(alpha, bulge, power * near, uniform((0.0, 0.25), generator))


def _layer(
    height: int, width: int, radius: float, cover: float, edge: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Drops of about one radius: opacity (H, W); the place within the drop (2, H, W), radii, y then x."""
    cell = 3.2 * radius
    shift = torch.rand(2, generator=generator) * cell
    y, x = (torch.arange(height) + shift[0]) / cell, (torch.arange(width) + shift[1]) / cell
    rows, columns = y.long(), x.long()
    cells = torch.rand(7, int(rows[-1]) + 1, int(columns[-1]) + 1, generator=generator)
    there, size, cy, cx, stretch, third, turn = cells[:, rows][:, :, columns]
    r = torch.where(there < cover, 0.2 + 0.12 * size, 1e-6)  # in cells: a drop never leaves its own
    dy = (y - rows)[:, None] - (0.34 + 0.32 * cy)
    dx = (x - columns)[None] - (0.34 + 0.32 * cx)
    u = torch.stack([dy / (r * (0.95 + 0.35 * stretch)), dx / r])
    d = u.square().sum(0).sqrt()
    # A third harmonic, cos(3 (theta - turn)), makes outlines pears and eggs rather than ellipses.
    theta = torch.atan2(u[0], u[1])
    d = d * (1 + 0.18 * third * torch.cos(3 * theta + 2 * math.pi * turn))
    t = ((1 - d) / edge).clamp_(0, 1)
    return t * t * (3 - 2 * t), u


def _lens(alpha: Tensor, bulge: Tensor, reach: float, glint: float) -> Drops:
    """Refraction and shading of drops whose positions within are `bulge`; `reach` in pixels."""
    height, width = alpha.shape
    y = torch.arange(height)[:, None] - reach * bulge[0]
    x = torch.arange(width)[None] - reach * bulge[1]
    source = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    rim = bulge.square().sum(0).clamp_(0, 1)
    # The light comes from the sky: bent, it arrives at the foot of the drop; the rim is dark.
    gain = ((0.95 + 0.12 * bulge[0]) * (1 - 0.25 * rim**2)).clamp_(0, 1 - glint)
    return Drops(alpha, gain, source, alpha * glint * (0.5 + 0.5 * bulge[0]).clamp_(0, 1))
