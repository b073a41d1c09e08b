"""Where the jumps of `Scott` begin, what they pass and where they end: times of a grid, by the number of its nodes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from ..draws import integers, uniform
from ..process import Process

__all__ = ["Jumps", "edges", "ends"]


def ends(nodes: int, segments: int) -> Tensor:
    """The nodes at which equal segments of so many nodes end, (segments,); the last is the data, number `nodes`."""
    return (torch.arange(1, segments + 1) * nodes / segments).round().long()


def edges(grid: Tensor, segments: int) -> tuple[float, ...]:
    """The times at which segments of a grid (N + 1,) end before the data."""
    return tuple(grid[ends(len(grid) - 1, segments)[:-1]].tolist())


@final
@dataclass(frozen=True)
class Jumps:
    """Jumps on a grid (N + 1,); see `Scott` for its settings.

    Raises ValueError for settings that do not fit together.
    """

    process: Process
    grid: Tensor
    jump: int
    substeps: int
    segments: int = 1
    between: Literal["time", "lambda"] = "time"
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        nodes = len(self.grid) - 1
        if self.grid.ndim != 1 or nodes < 1 or not (self.grid.diff() < 0).all():
            raise ValueError(f"grid of shape {tuple(self.grid.shape)}: need at least 2 strictly decreasing times")
        for name, value in (("jump", self.jump), ("substeps", self.substeps), ("segments", self.segments)):
            if not 1 <= value <= max(nodes, self.substeps):
                raise ValueError(f"{name} = {value}: need a whole number from 1 to the {nodes} nodes of the grid")
        if self.between not in ("time", "lambda"):
            raise ValueError(f'between = {self.between!r}: need "time" or "lambda"')
        if self.weights is not None and not (
            len(self.weights) == nodes and all(0 <= w < math.inf for w in self.weights) and sum(self.weights) > 0
        ):
            raise ValueError(
                f"weights = {list(self.weights)}: need a number >= 0 for each of the {nodes} nodes, not all 0"
            )

    @property
    def count(self) -> int:
        """Of the nodes from which one can jump, N."""
        return len(self.grid) - 1

    @property
    def longest(self) -> int:
        """Nodes of the longest segment."""
        stops = ends(self.count, self.segments)
        return int(stops.diff(prepend=stops.new_zeros(1)).max())

    @property
    def arrive(self) -> bool:
        """Whether every jump ends where its segment does: of the settings, not of a draw, so that processes agree."""
        return self.jump >= self.longest

    def starts(self, count: int, generator: torch.Generator) -> Tensor:
        """Nodes at which so many jumps begin, (B,), each as often as its weight says."""
        if self.weights is None:
            return integers(self.count, count, generator)
        shares = torch.tensor(self.weights, dtype=torch.float64).cumsum(0)
        return torch.searchsorted(shares / shares[-1], uniform(count, generator, torch.float64), right=True)

    def __call__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """From nodes n (B,): the times of the jump, (substeps + 1, B), and the end of the segment, (B,)."""
        stops = ends(self.count, self.segments)
        end = stops[torch.searchsorted(stops, index, right=True)]
        reach = torch.minimum(index + self.jump, end) - index
        share = torch.arange(self.substeps + 1, dtype=torch.float64) / self.substeps
        return self.nodes(index + share[:, None] * reach), self.grid[end]

    def whole(self) -> Tensor:
        """The times of one from noise to data: all nodes, and between two as many steps as a jump has for each."""
        parts = math.ceil(self.substeps / min(self.jump, self.longest))
        times = self.nodes(torch.arange(self.count * parts + 1, dtype=torch.float64) / parts)
        return times[torch.cat([torch.tensor([True]), times.diff() < 0])]  # none between a node and data at infinity

    def nodes(self, index: Tensor) -> Tensor:
        """The times at fractional indices of the grid, (*). Nothing lies between a node and data at minus infinity."""
        low = index.long().clamp(0, self.count - 1)
        start, stop, share = self.grid[low], self.grid[low + 1], index.double() - low
        times = torch.where(stop.isfinite(), torch.lerp(start, stop, share), torch.where(share < 1, start, stop))
        if self.between == "time" or not (share % 1).any():
            return times
        noisy, clean = self.process.half_log_snr(start), self.process.half_log_snr(stop)
        even = noisy.isfinite() & clean.isfinite() & (share % 1 > 0)  # pure noise and data have no lambda
        return torch.where(even, self.process.time(torch.where(even, torch.lerp(noisy, clean, share), 0.0)), times)
