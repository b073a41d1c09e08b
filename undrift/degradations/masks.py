"""What is missing altogether: y = m x + (1 - m), lost pixels (m = 0) painted white."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from PIL import Image, ImageDraw

from .base import Degradation, Diagonal, Range, Shape, check_range, veil
from .fields import integer, uniform

__all__ = ["Inpainting"]

Point = tuple[float, float]  # x, y


@final
@dataclass(frozen=True)
class Inpainting(Degradation):
    """Thick strokes, scribbles and boxes painted white until they cover `area` of the image.

    Like the brush masks of RePaint (Lugmayr et al., 2022, arXiv:2201.09865), as in the ten-task benchmark.

    Args:
        area: lost share of the image; the last mark may overshoot it.
        width: width of strokes, pixels; scribbles are a third as thick, boxes two to four times as wide.
    """

    area: Range = (0.15, 0.4)
    width: Range = (6.0, 16.0)

    def __post_init__(self) -> None:
        check_range("area", self.area, 0, 0.95)
        check_range("width", self.width, 1, 1000)

    def draw(self, shape: Shape, generator: torch.Generator) -> Diagonal:
        _, height, width = shape
        area = uniform(self.area, generator)
        canvas = Image.new("L", (width, height), 255)
        pen = ImageDraw.Draw(canvas)
        kept = np.asarray(canvas)
        while (missing := area - (1 - kept.mean() / 255)) > 0:
            # A mark is about five by five widths: enough for half of what is missing, then look again.
            for _ in range(max(1, int(missing * height * width / (50 * self.width[1] ** 2)))):
                self._mark(pen, height, width, generator)
            kept = np.asarray(canvas)
        return veil(torch.from_numpy(kept > 0)[None].float(), 1.0)

    def _mark(self, pen: ImageDraw.ImageDraw, height: int, width: int, generator: torch.Generator) -> None:
        kind, thick = integer(0, 5, generator), uniform(self.width, generator)
        y, x = (torch.rand(2, generator=generator) * torch.tensor([height, width])).tolist()
        if kind == 0:
            h, w = uniform((1.0, 2.0), generator) * thick, uniform((1.0, 2.0), generator) * thick
            pen.rectangle((x - w, y - h, x + w, y + h), fill=0)
        elif kind <= 2:
            _stroke(pen, _walk((x, y), thick / 3, 1.2, 14, generator), thick / 3)
        else:
            _stroke(pen, _walk((x, y), thick, 0.6, 5, generator), thick)


def _walk(start: Point, reach: float, turn: float, steps: int, generator: torch.Generator) -> list[Point]:
    """A wandering path from `start`: steps of about `reach`, turns of standard deviation `turn`."""
    heading = 2 * math.pi * torch.rand((), generator=generator)
    heading = heading + turn * torch.randn(steps, generator=generator).cumsum(0)
    stride = reach * (0.8 + torch.rand(steps, generator=generator))
    path = torch.stack([stride * heading.cos(), stride * heading.sin()], 1).cumsum(0) + torch.tensor(start)
    return [start, *((x, y) for x, y in path.tolist())]


def _stroke(pen: ImageDraw.ImageDraw, path: list[Point], thick: float) -> None:
    """A line with round joints and ends."""
    pen.line(path, fill=0, width=max(1, round(thick)), joint="curve")
    r = thick / 2
    for x, y in (path[0], path[-1]):
        pen.ellipse((x - r, y - r, x + r, y + r), fill=0)
