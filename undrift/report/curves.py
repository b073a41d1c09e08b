"""Quality against evaluations as an SVG: drawn by hand, legible on light and dark ground, no plotting library."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TypeAlias, final

__all__ = ["Panel", "curves"]

Points: TypeAlias = Sequence[tuple[float, float]]

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 300, 56, 14, 34, 44
STYLE = (
    "svg.curves{font:12px system-ui,sans-serif;color:#1c1c1e}svg.curves text{fill:currentColor}"
    ".faint{opacity:.6}.rule{stroke:currentColor;opacity:.14}.level{stroke:currentColor;opacity:.5;"
    "stroke-dasharray:4 4}@media (prefers-color-scheme:dark){svg.curves{color:#e8e8ea}}"
)


@final
@dataclass(frozen=True)
class Panel:
    """One measure: name -> points (evaluations, value), and constant levels to compare with."""

    title: str
    series: Mapping[str, Points]
    levels: Mapping[str, float] = field(default_factory=dict)


def curves(panels: Sequence[Panel]) -> str:
    """An SVG of the panels side by side, the evaluations on a logarithmic axis. ValueError without any point."""
    if not panels or not any(points for panel in panels for points in panel.series.values()):
        raise ValueError("nothing to draw: need at least one panel with a point")
    names = list(dict.fromkeys(name for panel in panels for name in panel.series))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    rows = -(-len(names) // (4 * len(panels)))
    width, height = WIDTH * len(panels), HEIGHT + 22 * rows
    parts = [part for i, panel in enumerate(panels) for part in _panel(panel, i * WIDTH, colours)]
    parts += _legend(colours, 4 * len(panels))
    return (
        f'<svg class="curves" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(', '.join(panel.title for panel in panels))}</title><style>{STYLE}</style>"
        f"{''.join(parts)}</svg>"
    )


def _panel(panel: Panel, shift: int, colours: Mapping[str, str]) -> Iterator[str]:
    points = [point for each in panel.series.values() for point in each]
    low_x, high_x = (f(math.log(x) for x, _ in points) for f in (min, max))
    values = [y for _, y in points] + list(panel.levels.values())
    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    inner_x, inner_y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: float) -> float:
        place = (math.log(value) - low_x) / (high_x - low_x) if high_x > low_x else 0.5
        return round(shift + LEFT + place * inner_x, 1)

    def y(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * inner_y, 1)

    left, right = shift + LEFT, shift + WIDTH - RIGHT
    yield f'<text x="{left}" y="{TOP - 14}" font-weight="600">{escape(panel.title)}</text>'
    for tick in ticks:
        yield f'<line class="rule" x1="{left}" x2="{right}" y1="{y(tick)}" y2="{y(tick)}"/>'
        yield f'<text class="faint" x="{left - 8}" y="{y(tick) + 4}" text-anchor="end">{tick:.10g}</text>'
    for value in _apart(sorted({point[0] for point in points}), x):
        yield f'<text class="faint" x="{x(value)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>'
    middle = (left + right) / 2
    yield f'<text class="faint" x="{middle}" y="{HEIGHT - BOTTOM + 36}" text-anchor="middle">evaluations</text>'
    for name, level in panel.levels.items():
        yield f'<line class="level" x1="{left}" x2="{right}" y1="{y(level)}" y2="{y(level)}"/>'
        yield f'<text class="faint" x="{right}" y="{y(level) - 5}" text-anchor="end">{escape(name)}</text>'
    for name, each in panel.series.items():
        places = [(x(a), y(b)) for a, b in sorted(each)]
        line = " ".join(f"{a},{b}" for a, b in places)
        yield f'<polyline points="{line}" fill="none" stroke="{colours[name]}" stroke-width="2"/>'
        yield from (f'<circle cx="{a}" cy="{b}" r="3.5" fill="{colours[name]}"/>' for a, b in places)


def _legend(colours: Mapping[str, str], per_row: int) -> Iterator[str]:
    for i, (name, colour) in enumerate(colours.items()):
        left, top = LEFT + i % per_row * 95, HEIGHT + 12 + i // per_row * 22
        yield f'<circle cx="{left + 4}" cy="{top}" r="4" fill="{colour}"/>'
        yield f'<text x="{left + 14}" y="{top + 4}">{escape(name)}</text>'


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
