"""The times between which a student is taught: the grid of a [method] named "scott"."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, final

import torch
from torch import Tensor

from .. import times
from ..generation import in_lambda
from ..names import check_keys
from ..process import Process

__all__ = ["GRIDS", "Nodes", "nodes_of", "taught"]


def _uniform_time(process: Process, nodes: int, end: float, start: float | None) -> Tensor:
    return times.uniform(process, nodes)


def _trailing(process: Process, nodes: int, end: float, start: float | None) -> Tensor:
    """The indices that diffusers' LCMScheduler leaps from, of so many original steps; and the least noisy one."""
    grid, last = times.trailing(process, nodes), torch.tensor([process.t_min], dtype=torch.float64)
    return torch.cat([grid[:-1], last, grid[-1:]]) if grid[-2] > last > grid[-1] else grid


MOST = 1_000_000

GRIDS: dict[str, Callable[[Process, int, float, float | None], Tensor]] = {
    "time": _uniform_time,
    "lambda": in_lambda,
    "trailing": _trailing,
}


@final
@dataclass(frozen=True)
class Nodes:
    """What a [method] says of its grid; see `distillation.Distillation`. ValueError for what makes none."""

    nodes: int = 120
    spacing: str = "lambda"
    end: float = 4.0
    start: float | None = None

    def __post_init__(self) -> None:
        check_keys([self.spacing], GRIDS, "method.spacing")
        if not (isinstance(self.nodes, int) and 1 <= self.nodes <= MOST):
            raise ValueError(f"method.nodes = {self.nodes!r}: need a whole number from 1 to {MOST:,}")
        for name, value in (("end", self.end), ("start", 0.0 if self.start is None else self.start)):
            if not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ValueError(f"method.{name} = {value!r}: need a finite half log-SNR")
        if self.start is not None and self.spacing != "lambda":
            raise ValueError(f"method.start = {self.start}: only a grid in lambda has one: set method.spacing=lambda")

    def grid(self, process: Process) -> Tensor:
        """From noise to data, (nodes + 1,)."""
        return GRIDS[self.spacing](process, self.nodes, self.end, self.start)


def nodes_of(method: Mapping[str, Any]) -> Nodes:
    """Those of a [method], whatever else it says; ValueError in one line for values that are none."""
    return Nodes(**{field.name: method[field.name] for field in fields(Nodes) if field.name in method})


def taught(process: Process, method: Mapping[str, Any] | None) -> tuple[float, ...]:
    """The times that a student of a [method] leaps from; none without one."""
    return tuple(nodes_of(method).grid(process)[:-1].tolist()) if method else ()
