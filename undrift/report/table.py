"""One table, three forms: for a terminal, for Markdown, for a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import final

__all__ = ["Table"]


@final
@dataclass(frozen=True)
class Table:
    """Cells are strings; the first column is flush left, the others right.

    Arguments:
        columns: their heads.
        rows: each as long as `columns`.
        groups: (name, how many columns) above the heads, from the second column on.
        totals: how many of the last rows stand apart.

    Raises ValueError for rows or groups of another length.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    groups: Sequence[tuple[str, int]] = ()
    totals: int = 0

    def __post_init__(self) -> None:
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"row {list(wrong[0])}: need {len(self.columns)} cells, one for each column")
        if self.groups and sum(span for _, span in self.groups) != len(self.columns) - 1:
            raise ValueError(f"groups {list(self.groups)}: need to span {len(self.columns) - 1} columns")

    def text(self) -> str:
        """Columns aligned by spaces, the totals under a line."""
        widths = [max(len(row[i]) for row in (self.columns, *self.rows)) for i in range(len(self.columns))]
        self._widen(widths)
        lines = [_aligned(row, widths) for row in (self.columns, *self.rows)]
        rule = "-" * len(lines[0])
        if self.totals:
            lines.insert(len(lines) - self.totals, rule)
        head = [self._group_line(widths)] if self.groups else []
        return "\n".join(line.rstrip() for line in (*head, lines[0], rule, *lines[1:]))

    def _widen(self, widths: list[int]) -> None:
        """Room for the names of the groups."""
        start = 1
        for name, span in self.groups:
            room = sum(widths[start : start + span]) + 2 * (span - 1)
            widths[start] += max(0, len(name) - room)
            start += span

    def _group_line(self, widths: Sequence[int]) -> str:
        line, start = " " * widths[0], 1
        for name, span in self.groups:
            line += "  " + name.rjust(sum(widths[start : start + span]) + 2 * (span - 1))
            start += span
        return line

    def markdown(self) -> str:
        names = [name for name, span in self.groups for _ in range(span)] or [""] * (len(self.columns) - 1)
        heads = [self.columns[0], *(f"{a} {b}".strip() for a, b in zip(names, self.columns[1:], strict=True))]
        align = ["---", *["---:"] * (len(heads) - 1)]
        cells = [[cell.replace("|", "\\|") for cell in row] for row in (heads, align, *self.rows)]
        return "\n".join(f"| {' | '.join(row)} |" for row in cells)

    def html(self) -> str:
        groups = "".join(f'<th colspan="{span}">{escape(name)}</th>' for name, span in self.groups)
        head = f'<tr class="groups"><th></th>{groups}</tr>' if self.groups else ""
        head += _row("th", self.columns)
        split = len(self.rows) - self.totals
        body = "".join(_row("td", row) for row in self.rows[:split])
        foot = "".join(_row("td", row) for row in self.rows[split:])
        foot = f"<tfoot>{foot}</tfoot>" if foot else ""
        return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody>{foot}</table></div>'


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join([row[0].ljust(len(first)), *others])


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
