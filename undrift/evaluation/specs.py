"""Specs of generators' samplers, `solver:evaluations`, and what a sampler is known by."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from torch import Tensor

from ..denoiser import Denoise
from ..generation import PRESETS
from ..registry import check_keys
from ..solvers import Solver

__all__ = ["Counted", "known", "parsed", "specs"]


def specs(names: Sequence[str], steps: Sequence[int]) -> list[str]:
    """`name:count` for every name with all `steps`; a name that has a count of its own stays; each once."""
    return list(dict.fromkeys(spec for name in names for spec in ([name] if ":" in name else _each(name, steps))))


def _each(name: str, steps: Sequence[int]) -> list[str]:
    return [f"{name}:{count}" for count in steps]


def parsed(spec: str) -> tuple[str, int]:
    """ "ode-2:10" -> ("ode-2", 10), a name in `generation.PRESETS` and evaluations; ValueError for another."""
    solver, _, number = spec.partition(":")
    check_keys([solver], PRESETS, "solver")
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"{spec!r}: need solver:evaluations, as ode-2:10")
    return solver, int(number)


def known(solver: Solver, grid: Tensor) -> dict[str, str]:
    """The settings of the solver that samples, and a digest of its times, for stamps."""
    return {"solver": repr(solver), "grid": sha256(grid.numpy().tobytes()).hexdigest()[:16]}


class Counted:
    """A denoiser that counts the estimates it is `asked` for, one per sample."""

    def __init__(self, denoise: Denoise) -> None:
        self.denoise, self.asked = denoise, 0

    def __call__(self, z: Tensor, t: Tensor, **cond: Any) -> Tensor:
        self.asked += len(z)
        estimate: Tensor = self.denoise(z, t, **cond)
        return estimate
