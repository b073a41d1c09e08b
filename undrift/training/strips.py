"""The picture of a panel: a strip of images per row."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..report import Strip, grid

__all__ = ["panel_picture"]


def panel_picture(path: Path, rows: Sequence[tuple[str, Tensor]], values: dict[str, float]) -> None:
    """One strip per row, small images enlarged to be seen, colours or not."""
    side = rows[0][1].shape[-1]
    factor = max(1, round(72 / side))
    strips = []
    for title, images in rows:
        key = "teacher" if title.startswith("teacher") else title.split()[1]
        note = [f"{head} {values[f'{name}/{key}']:.3g}" for name, head in (("fd", "FD"), ("coverage", "coverage"))
                if f"{name}/{key}" in values]  # fmt: skip
        large = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3).expand(-1, 3, -1, -1)
        strips.append(Strip(title, ", ".join(note), list(large)))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(path, strips, [""] * len(rows[0][1]), across=1)
