"""Before and after, side by side, in one labelled picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..data import write

__all__ = ["Strip", "grid", "sheet"]

PAPER, INK, FAINT = (250, 250, 248), (28, 28, 30), (120, 120, 124)
GAP, MARGIN = 4, 24


@final
@dataclass(frozen=True)
class Strip:
    """Images in a row, all (3, H, W) in [0, 1] of one size, under a title and a note at its right."""

    title: str
    note: str
    images: Sequence[Tensor]


def grid(path: Path, strips: Sequence[Strip], columns: Sequence[str], across: int = 2) -> None:
    """Write a picture of all strips, `across` beside one another; `columns` names the images of a strip.

    Raises ValueError unless the strips are alike and as long as `columns`; OSError where it cannot write.
    """
    shapes = {tuple(image.shape) for strip in strips for image in strip.images}
    if len(shapes) != 1 or any(len(strip.images) != len(columns) for strip in strips):
        raise ValueError(f"strips of {len(columns)} images of one size wanted, found the sizes {sorted(shapes)}")
    _, height, width = shapes.pop()
    size = max(11, width // 14)
    font, small = ImageFont.load_default(size), ImageFont.load_default(max(10, size - 2))
    line, span = round(1.9 * size), len(columns) * (width + GAP) - GAP
    pitch, down = span + MARGIN, -(-len(strips) // across)
    total = (MARGIN + across * pitch, 2 * MARGIN + line + down * (line + height + GAP))
    canvas = Image.new("RGB", total, PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, strip in enumerate(strips):
        left, top = MARGIN + i // down * pitch, MARGIN + line + i % down * (line + height + GAP)
        for k, name in enumerate(columns if i % down == 0 else ()):
            draw.text((left + k * (width + GAP), top - line // 2), name, FAINT, small, "lm")
        draw.text((left, top + line // 2), strip.title, INK, font, "lm")
        draw.text((left + span, top + line // 2), strip.note, FAINT, small, "rm")
        for k, image in enumerate(strip.images):
            canvas.paste(_picture(image), (left + k * (width + GAP), top + line))
    write(path, torch.from_numpy(np.asarray(canvas).copy()).permute(2, 0, 1).float() / 255)


def sheet(images: Tensor, across: int, gap: int = 2) -> Tensor:
    """Images (N, C, H, W) in [0, 1] in rows of `across`, on white, with `gap` pixels between them: (C, h, w)."""
    count, channels, height, width = images.shape
    down = -(-count // across)
    page = torch.ones(channels, down * (height + gap) - gap, across * (width + gap) - gap)
    for i, image in enumerate(images):
        top, left = i // across * (height + gap), i % across * (width + gap)
        page[:, top : top + height, left : left + width] = image
    return page


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy())
