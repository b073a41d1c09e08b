"""The times between which a student is taught: the grid of a [method] named "scott"."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, final

import torch
from torch import Tensor

from .. import times
from ..denoiser import Denoiser
from ..generation import in_lambda
from ..methods.jumps import edges
from ..names import check_keys
from ..process import Process

__all__ = ["GRIDS", "Lesson", "Nodes", "instructed", "lesson", "nodes_of"]


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
    segments: int = 1

    def __post_init__(self) -> None:
        check_keys([self.spacing], GRIDS, "method.spacing")
        if not (isinstance(self.nodes, int) and 1 <= self.nodes <= MOST):
            raise ValueError(f"method.nodes = {self.nodes!r}: need a whole number from 1 to {MOST:,}")
        if not (isinstance(self.segments, int) and 1 <= self.segments <= self.nodes):
            raise ValueError(
                f"method.segments = {self.segments!r}: need a whole number from 1 to the {self.nodes} nodes"
            )
        for name, value in (("end", self.end), ("start", 0.0 if self.start is None else self.start)):
            if not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ValueError(f"method.{name} = {value!r}: need a finite half log-SNR")
        if self.start is not None and self.spacing != "lambda":
            raise ValueError(f"method.start = {self.start}: only a grid in lambda has one: set method.spacing=lambda")

    def grid(self, process: Process) -> Tensor:
        """From noise to data, (N + 1,)."""
        return GRIDS[self.spacing](process, self.nodes, self.end, self.start)


def nodes_of(method: Mapping[str, Any]) -> Nodes:
    """Those of a [method], whatever else it says; ValueError in one line for values that are none."""
    return Nodes(**{field.name: method[field.name] for field in fields(Nodes) if field.name in method})


@final
@dataclass(frozen=True)
class Lesson:
    """What a student says of itself, see `Denoiser`; of a model that is none, nothing."""

    taught: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()


def lesson(process: Process, method: Mapping[str, Any] | None) -> Lesson:
    """That of a [method]; ValueError in one line for one that makes no grid."""
    if not method:
        return Lesson()
    nodes = nodes_of(method)
    grid = nodes.grid(process)
    return Lesson(tuple(grid[:-1].tolist()), edges(grid, nodes.segments))


def instructed(denoiser: Denoiser, method: Mapping[str, Any] | None) -> None:
    """Tell a denoiser that it is the student of a [method], and of which times; without one, that it is none."""
    learnt = lesson(denoiser.process, method)
    denoiser.student, denoiser.taught, denoiser.edges = bool(method), learnt.taught, learnt.edges
