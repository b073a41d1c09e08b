"""A solver with the grid that suits it, under a name: what a practitioner chooses; and what suits where nothing is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .denoiser import Denoise
from .process import Process
from .solvers import Solver

__all__ = ["STUDENT", "Preset", "chosen", "leaping"]

STUDENT = ("consistency", 2)
"""Solver and evaluations of a student."""


@final
@dataclass(frozen=True)
class Preset:
    """`grid(process, evaluations) -> times` spends so many network evaluations with `solver`."""

    solver: Solver
    grid: Callable[[Process, int], Tensor]
    about: str


def leaping(grid: Tensor) -> Tensor:
    """The grid without its last network input: from each that is left a student leaps to the data."""
    return torch.cat([grid[:-2], grid[-1:]])


def chosen(denoise: Denoise, solver: str | None, steps: int | None, usual: tuple[str, int]) -> tuple[str, int]:
    """Solver and evaluations: those given, else the `usual`, or for a student two jumps."""
    student = bool(getattr(denoise, "student", False)) and solver in (None, STUDENT[0])
    default = STUDENT if student else usual
    return solver or default[0], default[1] if steps is None else steps
