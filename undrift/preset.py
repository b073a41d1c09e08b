"""A solver with the grid that suits it, under a name: what a practitioner chooses; and what suits where nothing is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

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

    def of(self, denoise: Any) -> "Preset":
        """The same for this model: a student leaps from the nearest in lambda of the times that it was taught.

        A student of few nodes knows no others, between them it makes no images; and one that was taught in segments
        leaps to their ends. Its grid raises ValueError for evaluations more than its times or fewer than its segments.
        """
        taught, edges = _of(denoise, "taught", ()), _of(denoise, "edges", ())
        if not (taught and isinstance(self.solver, Consistency)):
            return self

        def grid(process: Process, evaluations: int) -> Tensor:
            return snapped(process, self.grid(process, evaluations), taught, edges)

        return replace(self, grid=grid, solver=replace(self.solver, edges=tuple(edges)))


def snapped(process: Process, grid: Tensor, taught: Sequence[float], edges: Sequence[float] = ()) -> Tensor:
    """A grid moved to the times that a student knows, each once, and all ends of its segments; see `Preset.of`."""
    evaluations = len(grid) - 1
    if evaluations > len(taught):
        raise ValueError(f"{evaluations} evaluations of a student that leaps from {len(taught)} times: ask for fewer")
    if evaluations <= len(edges):
        many = len(edges) + 1
        raise ValueError(
            f"evaluations = {evaluations}: a student of {many} segments needs one for each: ask for {many}"
        )
    nodes = torch.tensor(taught, dtype=torch.float64)
    lam, lams = process.half_log_snr(grid[:-1].double()), process.half_log_snr(nodes)
    taken = [0]  # both begin at pure noise
    for place in range(1, evaluations):
        nearest = int((lams - lam[place]).abs().argmin())
        taken.append(min(max(nearest, taken[-1] + 1), len(nodes) - evaluations + place))
    fixed = {0, *(taught.index(edge) for edge in edges)}
    for edge in sorted(fixed - set(taken)):
        taken.remove(min(set(taken) - fixed, key=lambda k: abs(k - edge)))
        taken.append(edge)
    return torch.cat([nodes[sorted(taken)].to(grid), grid[-1:]])


def leaping(grid: Tensor) -> Tensor:
    """The grid without its last network input: from each that is left a student leaps to the data."""
    return torch.cat([grid[:-2], grid[-1:]])


def chosen(denoise: Denoise, solver: str | None, steps: int | None, usual: tuple[str, int]) -> tuple[str, int]:
    """Solver and evaluations: those given, else the `usual`, or for a student two jumps, one if it knows no more."""
    student = bool(_of(denoise, "student", False)) and solver in (None, STUDENT[0])
    default = leaps_usually(_of(denoise, "taught", ()), _of(denoise, "edges", ())) if student else usual
    return solver or default[0], default[1] if steps is None else steps


def leaps(taught: Sequence[float], counts: Sequence[int], edges: Sequence[float] = ()) -> list[int]:
    """Those of the counts of evaluations that a student of these times can make; the nearest if it is none of them."""
    most, least = len(taught) if taught else max(counts), len(edges) + 1
    return [count for count in counts if least <= count <= most] or [min(max(counts[-1], least), most)]


def leaps_usually(taught: Sequence[float], edges: Sequence[float] = ()) -> tuple[str, int]:
    """`STUDENT`, with no more evaluations than it knows times, and no fewer than its segments."""
    return STUDENT[0], leaps(taught, [STUDENT[1]], edges)[0]


def _of(denoise: Denoise, name: str, default: Any) -> Any:
    """What a model says of itself, also where guidance, `functools.partial` or a wrapper of torch is around it."""
    while not hasattr(denoise, name):
        inner = next(
            (getattr(denoise, place) for place in ("denoise", "func", "module") if hasattr(denoise, place)), None
        )
        if inner is None:
            return default
        denoise = inner
    return getattr(denoise, name)
