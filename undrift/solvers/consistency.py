r"""Consistency sampling: go to the data in one evaluation, take noise again, go to the data from there.

    x = f(z_t),    z_s = alpha_s x + sigma_s eps,    f(z_t) = bridge(z_t, denoise(z_t, t), t, end; tau = 0).

Song et al., "Consistency Models", 2023, arXiv 2303.01469, algorithm 1. It is the exponential solver of order 1 with
the stochasticity `Fresh(1)`; with less of it, part of the old noise is kept (Trajectory Consistency Distillation, Zheng
et al. 2024, arXiv 2402.19159).
"""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..noise import Noise
from ..process import Fresh, Phased, Process
from ..tensor import expand
from .base import Solver, State
from .exponential import Exponential

__all__ = ["Consistency", "consistency_map", "implied_estimate"]


@final
@dataclass(frozen=True)
class Consistency(Solver):
    """One evaluation per step, made for students of consistency distillation (`methods.Scott`).

    Arguments:
        fresh: share of each state's noise that is new, 0 (DDIM) to 1.
        edges: of a student that was taught in segments the times of their ends, decreasing, the data left out: it leaps
            to the end of a segment, not to the data, and takes noise again only within one. See `process.Phased`.

    Raises ValueError for a `fresh` out of range, or of less than 1 with edges, which leave no choice.
    """

    fresh: float = 1.0
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        Fresh(self.fresh)  # checks
        if self.edges and self.fresh != 1:
            raise ValueError(f"Consistency fresh = {self.fresh} with edges: they say how much is new: leave it at 1")

    def plan(self, process: Process, times: Tensor) -> Solver:
        return self._exponential(process).plan(process, times)

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        return self._exponential(process).step(denoise, process, z, t, s, state, noise)

    def _exponential(self, process: Process) -> Exponential:
        if not self.edges:
            return Exponential(order=1, tau=Fresh(self.fresh))
        ends = process.half_log_snr(torch.tensor(self.edges, dtype=torch.float64))
        return Exponential(order=1, tau=Phased(tuple(ends.tolist())))


def consistency_map(denoise: Denoise, process: Process, z: Tensor, t: Tensor, end: Tensor, **cond: Any) -> Tensor:
    """f(z_t, t) = z_end along the path that `denoise` predicts, (B, ...); t and end () or (B,). f(z, end) = z.

    Rows that are at their end already pass z through: `denoise` is told t_min for them, for at the data many a
    prediction is no number, and no gradient comes back from its answer.
    """
    told = torch.where(t == end, process.t_min, t)
    return process.bridge(z, denoise(z, told, **cond), t, end)


def implied_estimate(process: Process, z: Tensor, t: Tensor, state: Tensor, end: Tensor) -> Tensor:
    """The x that takes z_t to `state` at `end`: bridge(z, x, t, end; tau = 0) = state, of the shape of `state`.

    Shapes: z (B, ...); state (B, ...), or (K, B, ...) for several; t, end () or (B,).

    `consistency_map` undone: states at a noisy end as estimates of the data, which compare like images. Where the end
    has sigma = 0 it is the state itself. The end must be cleaner than t: at t = end any x does, and it is no number.
    """
    one = torch.ones(torch.broadcast_shapes(t.shape, end.shape), dtype=torch.float64)
    pull = process.bridge(torch.zeros_like(one), one, t, end)
    return (state - process.bridge(z, torch.zeros_like(z), t, end)) / expand(pull, z)
