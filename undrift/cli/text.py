"""Facts as aligned text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..process import Process

__all__ = ["described", "rows", "table", "times_of"]


def rows(facts: Mapping[str, str]) -> str:
    """One fact per line, names in a column."""
    width = max(map(len, facts), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns aligned to the right under their heads."""
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [[text.rjust(width) for text, width in zip(row, widths, strict=True)] for row in (head, *body)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def described(entry: Mapping[str, Any]) -> str:
    """A table of the registry on one line; JSON keeps whatever a stranger's file holds printable."""
    values = [f"{key} = {_short(json.dumps(value))}" for key, value in entry.items() if key != "name"]
    return f"{entry['name']}" + (f" ({', '.join(values)})" if values else "")


def _short(text: str) -> str:
    """A schedule of a thousand numbers: its beginning and end."""
    return text if len(text) <= 200 else f"{text[:60]} ... {text[-40:]}"


def times_of(process: Process) -> str:
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    high, low = process.half_log_snr(ends).tolist()
    return f"t = {process.t_min:g} (data) to {process.t_max:g} (noise), lambda = {high:.3f} to {low:.3f}"
