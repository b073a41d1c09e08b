"""undrift evaluate --compare: two results side by side, value in a, in b, and the difference b - a."""

from ..evaluation import TASK, Results, compare
from ..report import Table
from .assessment import HEADS
from .generator_assessment import HEADS as DISTANCES
from .generator_assessment import within

__all__ = ["comparison"]

COMPARED = ("psnr", "ssim", "haarpsi", "swd")


def comparison(a: str, b: str) -> str:
    """ValueError in one line where they were not made alike."""
    rows = compare(Results.read(a), Results.read(b))
    parts = [f"a: {a}\nb: {b}"]
    if rows[0][0] == TASK:
        parts.append(_distances([(setting, found) for task, setting, found in rows if task == TASK]))
        return "\n\n".join(parts)
    for setting in dict.fromkeys(setting for _, setting, _ in rows):
        cells = [
            [task, *(cell for key in COMPARED for cell in _difference(key, *found[key]))]
            for task, name, found in rows
            if name == setting
        ]
        columns, groups = ["task", *["a", "b", "b - a"] * len(COMPARED)], [(HEADS[key][0], 3) for key in COMPARED]
        parts.append(f"{setting}\n{Table(columns, cells, groups, totals=1).text()}")
    return "\n\n".join(parts)


def _difference(key: str, a: float, b: float) -> list[str]:
    digits = HEADS[key][1]
    return [f"{a:.{digits}f}", f"{b:.{digits}f}", f"{b - a:+.{digits}f}"]


def _distances(rows: list[tuple[str, dict[str, tuple[float, float]]]]) -> str:
    """A table per measure, sampler by sampler; the error of the difference takes a and b for independent."""
    tables = []
    for key, (head, factor) in DISTANCES.items():
        cells = []
        for name, found in rows:
            if key in found:
                (a, b), (da, db) = ([factor * value for value in found[k]] for k in (key, f"{key}_error"))
                cells.append([name, within(a, da), within(b, db), within(b - a, (da * da + db * db) ** 0.5)])
        if cells:
            tables.append(Table([head, "a", "b", "b - a"], cells).text())
    return "\n\n".join(tables)
