"""A solver with the grid that suits it, under a name: what a practitioner chooses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor

from .process import Process
from .solvers import Solver

__all__ = ["Preset"]


@final
@dataclass(frozen=True)
class Preset:
    """`grid(process, evaluations) -> times` spends so many network evaluations with `solver`."""

    solver: Solver
    grid: Callable[[Process, int], Tensor]
    about: str
