"""Quality against evaluations as an SVG or PNG: drawn by hand, legible on light and dark ground, no plotting library.

`panels` become marks - texts, lines, dots - in one place; the two formats only paint them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..data import write

__all__ = ["Panel", "curves", "curves_png"]

Points: TypeAlias = Sequence[tuple[float, float]]

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
PAPER, INK, FAINT, RULE = "#fafaf8", "#1c1c1e", "#78787c", "#e3e3e0"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 300, 56, 14, 34, 44
MARKED = 30  # points of a curve, above which a line says it all
STYLE = (
    "svg.curves{font:12px system-ui,sans-serif;color:#1c1c1e}svg.curves text{fill:currentColor}"
    ".faint{opacity:.6}.rule{stroke:currentColor;opacity:.14}.level{stroke:currentColor;opacity:.5;"
    "stroke-dasharray:4 4}@media (prefers-color-scheme:dark){svg.curves{color:#e8e8ea}}"
)


@final
@dataclass(frozen=True)
class Panel:
    """One measure: name -> points (x, value), and constant levels to compare with.

    Arguments:
        axis: what x is: "evaluations", on a logarithmic axis, or training "steps", on a linear one.
    """

    title: str
    series: Mapping[str, Points]
    levels: Mapping[str, float] = field(default_factory=dict)
    axis: Literal["evaluations", "steps"] = "evaluations"


class _Text(NamedTuple):
    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    kind: Literal["", "faint", "bold"] = "faint"

    def svg(self) -> str:
        style = {"": "", "faint": ' class="faint"', "bold": ' font-weight="600"'}[self.kind]
        anchor = "" if self.anchor == "start" else f' text-anchor="{self.anchor}"'
        return f'<text{style} x="{self.x}" y="{self.y}"{anchor}>{escape(self.text)}</text>'

    def paint(self, draw: ImageDraw.ImageDraw, scale: int) -> None:
        font = ImageFont.load_default(12 * scale)
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[self.anchor]
        ink = FAINT if self.kind == "faint" else INK
        draw.text((self.x * scale, self.y * scale), self.text, ink, font, anchor)


class _Line(NamedTuple):
    """Through points; a kind of STYLE, or a colour."""

    points: Points
    kind: str

    def svg(self) -> str:
        if self.kind.startswith("#"):
            places = " ".join(f"{x},{y}" for x, y in self.points)
            return f'<polyline points="{places}" fill="none" stroke="{self.kind}" stroke-width="2"/>'
        (x1, y1), (x2, y2) = self.points
        return f'<line class="{self.kind}" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'

    def paint(self, draw: ImageDraw.ImageDraw, scale: int) -> None:
        ink, width = {"rule": (RULE, 1), "level": (FAINT, 1)}.get(self.kind, (self.kind, 2))
        draw.line([(x * scale, y * scale) for x, y in self.points], ink, width * scale, "curve")


class _Dot(NamedTuple):
    x: float
    y: float
    colour: str
    radius: float = 3.5

    def svg(self) -> str:
        return f'<circle cx="{self.x}" cy="{self.y}" r="{self.radius:g}" fill="{self.colour}"/>'

    def paint(self, draw: ImageDraw.ImageDraw, scale: int) -> None:
        draw.circle((self.x * scale, self.y * scale), self.radius * scale, self.colour)


_Mark: TypeAlias = _Text | _Line | _Dot


def curves(panels: Sequence[Panel]) -> str:
    """An SVG of the panels side by side. ValueError without any point."""
    width, height, marks = _drawn(panels)
    return (
        f'<svg class="curves" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(', '.join(panel.title for panel in panels))}</title><style>{STYLE}</style>"
        f"{''.join(mark.svg() for mark in marks)}</svg>"
    )


def curves_png(path: Path, panels: Sequence[Panel], scale: int = 2) -> None:
    """The same on paper, `scale` pixels for one. ValueError without any point, OSError where it cannot write."""
    width, height, marks = _drawn(panels)
    canvas = Image.new("RGB", (width * scale, height * scale), PAPER)
    draw = ImageDraw.Draw(canvas)
    for mark in marks:
        mark.paint(draw, scale)
    write(path, torch.from_numpy(np.asarray(canvas).copy()).permute(2, 0, 1).float() / 255)


def _drawn(panels: Sequence[Panel]) -> tuple[int, int, list[_Mark]]:
    """Width, height, marks."""
    if not panels or not any(points for panel in panels for points in panel.series.values()):
        raise ValueError("nothing to draw: need at least one panel with a point")
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    rows = -(-len(names) // (4 * len(panels)))
    marks = [mark for i, panel in enumerate(panels) for mark in _panel(panel, i * WIDTH, colours)]
    return WIDTH * len(panels), HEIGHT + 22 * rows, [*marks, *_legend(colours, 4 * len(panels))]


def _panel(panel: Panel, shift: int, colours: Mapping[str, str]) -> Iterator[_Mark]:
    points = [point for each in panel.series.values() for point in each]
    warp = math.log if panel.axis == "evaluations" else float
    low_x, high_x = (f(warp(x) for x, _ in points) for f in (min, max))
    values = [y for _, y in points] + list(panel.levels.values())
    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    inner_x, inner_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: float) -> float:
        place = (warp(value) - low_x) / (high_x - low_x) if high_x > low_x else 0.5
        return round(shift + LEFT + place * inner_x, 1)

    def y(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * inner_y, 1)

    left, right = shift + LEFT, shift + WIDTH - RIGHT
    yield _Text(left, TOP - 14, panel.title, kind="bold")
    for tick in ticks:
        yield _Line([(left, y(tick)), (right, y(tick))], "rule")
        yield _Text(left - 8, y(tick) + 4, f"{tick:.10g}", "end")
    shown = sorted({point[0] for point in points})
    if panel.axis == "steps":
        shown = [tick for tick in _ticks(low_x, high_x) if low_x <= tick <= high_x] or shown
    for value in _apart(shown, x):
        yield _Text(x(value), HEIGHT - BOTTOM + 18, f"{value:g}", "middle")
    yield _Text((left + right) / 2, HEIGHT - BOTTOM + 36, panel.axis, "middle")
    for name, level in panel.levels.items():
        yield _Line([(left, y(level)), (right, y(level))], "level")
        yield _Text(right, y(level) - 5, name, "end")
    for name, each in panel.series.items():
        places = [(x(a), y(b)) for a, b in sorted(each)]
        yield _Line(places, colours[name])
        yield from (_Dot(*place, colours[name]) for place in places[: MARKED * (len(places) <= MARKED)])


def _legend(colours: Mapping[str, str], per_row: int) -> Iterator[_Mark]:
    for i, (name, colour) in enumerate(colours.items()):
        left, top = LEFT + i % per_row * 95, HEIGHT + 12 + i // per_row * 22
        yield _Dot(left + 4, top, colour, 4)
        yield _Text(left + 14, top + 4, name, kind="")


def _apart(values: Sequence[float], place: Callable[[float], float]) -> Iterator[float]:
    """Those whose labels do not run into the one before; the last always."""
    last = place(values[-1])
    before = -math.inf
    for value in values[:-1]:
        if place(value) - before >= 22 and last - place(value) >= 22:
            before = place(value)
            yield value
    yield values[-1]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, at least two, that enclose [low, high]."""
    span = max(high - low, abs(high) * 1e-3, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * 4 >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]
