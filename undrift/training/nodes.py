"""The times between which a student is taught: the grid of a [method] named "scott"."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .. import times
from ..generation import in_lambda
from ..process import Process

__all__ = ["DEFAULTS", "GRIDS", "nodes"]


def _uniform_time(process: Process, nodes: int, end: float, start: float | None) -> Tensor:
    return times.uniform(process, nodes)


def _trailing(process: Process, nodes: int, end: float, start: float | None) -> Tensor:
    """The indices that diffusers' LCMScheduler leaps from, of so many original steps; and the least noisy one."""
    grid, last = times.trailing(process, nodes), torch.tensor([process.t_min], dtype=torch.float64)
    return torch.cat([grid[:-1], last, grid[-1:]]) if grid[-2] > last > grid[-1] else grid


DEFAULTS: dict[str, Any] = {"spacing": "lambda", "nodes": 120, "end": 4.0, "start": None}

GRIDS: dict[str, Callable[[Process, int, float, float | None], Tensor]] = {
    "time": _uniform_time,
    "lambda": in_lambda,
    "trailing": _trailing,
}


def nodes(process: Process, method: Mapping[str, Any]) -> Tensor:
    """The grid of a [method], (nodes + 1,), from noise to data; what it leaves out is as in `DEFAULTS`."""
    plan = DEFAULTS | {key: method[key] for key in DEFAULTS if key in method}
    return GRIDS[plan["spacing"]](process, plan["nodes"], plan["end"], plan["start"])
