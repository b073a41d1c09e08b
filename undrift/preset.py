"""A solver with the grid that suits it, under a name: what a practitioner chooses; and what suits where nothing is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .denoiser import Denoise
from .process import Process
from .solvers import Consistency, Solver

__all__ = ["STUDENT", "Preset", "chosen", "leaping", "leaps", "leaps_usually", "snapped"]

STUDENT = ("consistency", 2)
"""Solver and evaluations of a student."""


@final
@dataclass(frozen=True)
class Preset:
    """`grid(process, evaluations) -> times` spends so many network evaluations with `solver`."""

    solver: Solver
    grid: Callable[[Process, int], Tensor]
    about: str

    def times(self, process: Process, evaluations: int, taught: Sequence[float] = ()) -> Tensor:
        """The grid; where a student leaps along it, from the nearest in lambda of the times that it was `taught`.

        A student of few nodes knows no others: between them it makes no images. ValueError for more than it knows.
        """
        grid = self.grid(process, evaluations)
        return snapped(process, grid, taught) if isinstance(self.solver, Consistency) else grid


def snapped(process: Process, grid: Tensor, taught: Sequence[float]) -> Tensor:
    """A grid moved to the times that a student knows, each once; as it is where none are told. See `Preset.times`."""
    evaluations = len(grid) - 1
    if not taught:
        return grid
    if evaluations > len(taught):
        raise ValueError(f"{evaluations} evaluations of a student that leaps from {len(taught)} times: ask for fewer")
    nodes = torch.tensor(taught, dtype=torch.float64)
    lam, lams = process.half_log_snr(grid[:-1].double()), process.half_log_snr(nodes)
    taken = [0]  # both begin at pure noise
    for place in range(1, evaluations):
        nearest = int((lams - lam[place]).abs().argmin())
        taken.append(min(max(nearest, taken[-1] + 1), len(nodes) - evaluations + place))
    return torch.cat([nodes[taken].to(grid), grid[-1:]])


def leaping(grid: Tensor) -> Tensor:
    """The grid without its last network input: from each that is left a student leaps to the data."""
    return torch.cat([grid[:-2], grid[-1:]])


def chosen(denoise: Denoise, solver: str | None, steps: int | None, usual: tuple[str, int]) -> tuple[str, int]:
    """Solver and evaluations: those given, else the `usual`, or for a student two jumps, one if it knows no more."""
    student = bool(getattr(denoise, "student", False)) and solver in (None, STUDENT[0])
    default = leaps_usually(getattr(denoise, "taught", ())) if student else usual
    return solver or default[0], default[1] if steps is None else steps


def leaps(taught: Sequence[float], counts: Sequence[int]) -> list[int]:
    """Those of the counts of evaluations that a student of so many times can make; the most if it is none of them."""
    return [count for count in counts if not taught or count <= len(taught)] or [len(taught)]


def leaps_usually(taught: Sequence[float]) -> tuple[str, int]:
    """`STUDENT`, with no more evaluations than it knows times."""
    return STUDENT[0], leaps(taught, [STUDENT[1]])[0]
