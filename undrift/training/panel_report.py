"""The page of a distillation: its newest panel, its curves, its alarms and its settings, in one file."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from .. import report as pages
from ..data import read
from .files import write_text

__all__ = ["report"]

POINTS = 120  # in a curve
MEASURES = {
    "fd": "Fréchet distance, lower is better",
    "coverage": "Coverage",
    "psnr": "PSNR, dB",
    "haarpsi": "HaarPSI",
}
TRAINING = {
    "Consistency loss": {"student": "student/consistency"},
    "Critic's accuracy": {"accuracy": "critic/accuracy", "blind": "panel/leak"},
    "Adversarial / consistency gradient": {"ratio": "panel/ratio"},
}


def report(
    path: Path,
    recipe: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    alarms: Sequence[str],
    picture: Path,
    verdict: str,
) -> None:
    """Write it, whole or not at all; `lines` of the log, the newest last."""
    step = lines[-1]["step"]
    figures = [pages.figure(pages.curves(group)) for group in _groups(lines)]
    sections = [
        pages.section("Alarms", *(f"<p>{escape(alarm)}</p>" for alarm in alarms or ["None."])),
        pages.section(
            "The panel", pages.picture(f"step {step:,}", read(picture).pixels), note="Always the same seeds."
        ),
        pages.section("Curves", *figures, note="Against training steps."),
        pages.section("Settings", pages.facts({name: _line(table) for name, table in recipe.items()})),
    ]
    teacher = recipe["method"]["teacher"]
    lead = f"Step {step:,}" + (f"; {verdict}." if verdict else ".")
    write_text(path, pages.page(f"A student of {Path(teacher).name}", lead, sections))


def _groups(lines: Sequence[Mapping[str, Any]]) -> list[list[pages.Panel]]:
    """Panels, two to a figure, of the numbers that there are."""
    measured = []
    for name, title in MEASURES.items():
        keys = dict.fromkeys(key for line in lines for key in line if key.startswith(f"panel/{name}/"))
        curves = {key.rpartition("/")[2]: _points(lines, key) for key in keys}
        level = {"teacher": points[-1][1]} if (points := curves.pop("teacher", [])) else {}
        named = {f"in {count} step{'s' * (count != '1')}": points for count, points in curves.items()}
        measured.append(pages.Panel(title, named, level, "steps"))
    training = []
    for title, known in TRAINING.items():
        curves = {name: points for name, key in known.items() if (points := _points(lines, key))}
        training.append(pages.Panel(title, curves, axis="steps"))
    kept = [[panel for panel in group if any(panel.series.values())] for group in (measured, training)]
    return [group[i : i + 2] for group in kept for i in range(0, len(group), 2)]


def _points(lines: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value), means over neighbours where there are many."""
    found = [(float(line["step"]), float(line[key])) for line in lines if key in line]
    width = -(-len(found) // POINTS) or 1
    groups = [found[i : i + width] for i in range(0, len(found), width)]
    return [(group[-1][0], fmean(value for _, value in group)) for group in groups]


def _line(table: Any) -> str:
    if not isinstance(table, Mapping):
        return json.dumps(table)
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
