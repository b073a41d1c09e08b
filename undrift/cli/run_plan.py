"""The steps of a run, before it runs: times, the path at them, network calls, and the solver's coefficients."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from ..preset import Preset
from ..process import Process
from ..registry import check_keys
from ..sample import trajectory
from ..solvers import Exponential, Solver
from .text import table

__all__ = ["run_plan"]


def run_plan(process: Process, presets: Mapping[str, Preset], steps: int, solver: str) -> str:
    """A table with one row per step from t to s: alpha, sigma and lambda at t; ValueError for an unknown solver."""
    check_keys([solver], presets, "solver")
    preset = presets[solver]
    times = preset.grid(process, steps)
    calls = _calls(process, times, preset.solver)
    alpha, sigma = process.alpha_sigma(times)
    lam = alpha.log() - sigma.log()
    head = ["step", "t", "s", "alpha", "sigma", "lambda", "calls"]
    path = zip(pairwise(times.tolist()), alpha.tolist(), sigma.tolist(), lam.tolist(), calls, strict=False)
    body = [
        [str(i), f"{t:.4f}", f"{s:.4f}", f"{a:.6f}", f"{b:.6f}", f"{x:.4f}", str(n)]
        for i, ((t, s), a, b, x, n) in enumerate(path, 1)
    ]
    note = ""
    if isinstance(preset.solver, Exponential):
        more, columns = _coefficients(preset.solver, process, times)
        head, body = head + more, [row + extra for row, extra in zip(body, columns, strict=True)]
        note = "\nz_s = carry z_t + sum_j w_j z0_j + noise eps, z0_0 the newest of the network's estimates of z_0"
        if preset.solver.corrector:
            note += "\nbefore a step, z_t is replaced by carry and noise of the step before plus sum_j c_j z0_j"
    evaluations = f"{sum(calls)} network evaluations" + ("" if sum(calls) == steps else f" of {steps} asked for")
    return f"{solver}: {preset.about}; {evaluations}\n\n{table(head, body)}{note}"


def _coefficients(solver: Exponential, process: Process, times: Tensor) -> tuple[list[str], list[list[str]]]:
    """Columns of `Exponential.table`, without the empty ones."""
    numbers = solver.table(process, times)
    orders = (numbers.weights != 0).sum(1)
    columns: dict[str, Tensor] = {"carry": numbers.carry}
    columns |= {f"w_{j}": w for j, w in enumerate(numbers.weights.unbind(1))}
    columns |= {"noise": numbers.noise} if numbers.noise.any() else {}
    if solver.corrector:
        columns |= {f"c_{j}": c for j, c in enumerate(numbers.correction.unbind(1))}
    rows = zip(orders.tolist(), *(column.tolist() for column in columns.values()), strict=True)
    return ["order", *columns], [[str(order), *(f"{x:.6f}" if x else "-" for x in row)] for order, *row in rows]


def _calls(process: Process, times: Tensor, solver: Solver) -> list[int]:
    """Network calls of each step, counted on a state of one number."""
    seen = [0]

    def denoise(z: Tensor, t: Tensor) -> Tensor:
        seen[-1] += 1
        return torch.zeros_like(z)

    for _ in trajectory(denoise, process, torch.zeros(1, 1), times, solver, lambda like, t, s: torch.zeros_like(like)):
        seen.append(0)
    return seen[:-1]
