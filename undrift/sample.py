"""The only sampling loop."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoise, check
from .noise import Noise
from .process import Process
from .solvers.base import Solver
from .space import Space
from .tensor import expand

__all__ = ["sample", "trajectory"]


def trajectory(
    denoise: Denoise, process: Process, z: Tensor, times: Tensor, solver: Solver, noise: Noise
) -> Iterator[Tensor]:
    """The states after each step of `solver` along `times` (N + 1,), from z (B, ...) at times[0].

    Distillation gives every sample times of its own, (N + 1, B). A generator: the caller shows, stores or stops. Raises
    ValueError for a grid that is not strictly decreasing.
    """
    times = torch.as_tensor(times, dtype=torch.float64, device="cpu")
    step = times.diff(dim=0)  # a sample may rest where its path has no point before the data
    if times.ndim not in (1, 2) or len(times) < 2 or not bool((step < 0 if times.ndim == 1 else step <= 0).all()):
        raise ValueError(f"grid of shape {tuple(times.shape)}: need at least 2 strictly decreasing times (N + 1,)")
    solver = solver.plan(process, times) if times.ndim == 1 else solver
    state = solver.init()
    for t, s in pairwise(times):
        z, state = solver.step(denoise, process, z, t, s, state, noise)
        yield z


@torch.no_grad()
def sample(
    denoise: Denoise,
    process: Process,
    space: Space,
    *,
    shape: Sequence[int],
    times: Tensor,
    solver: Solver,
    noise: Noise,
    y: Tensor | None = None,
    start: Tensor | None = None,
    **cond: Any,
) -> Tensor:
    """Images (B, C, H, W) in [0, 1], float32 (the dtype of `start`, if given), clipped at the very end.

    Arguments:
        denoise: `denoise(z, t, **cond) -> z_0`.
        process, space: the path, and the coordinates in which it runs.
        shape: of the batch, (B, ...).
        times: grid (N + 1,) of `undrift.times`; its first entry is where the state starts.
        solver, noise: how it moves and where its randomness comes from.
        y: the observation, for a `Residual` space.
        start: the state z at times[0] (B, ...); by default where the space begins, or else the prior sigma eps.
        cond: what the network is told, e.g. `image=y`.
    """
    if y is not None and y.shape != torch.Size(shape):
        raise ValueError(f"y of shape {tuple(y.shape)} for samples of shape {tuple(shape)}: give one observation each")
    check(denoise, shape, cond)
    first = torch.as_tensor(times[0], dtype=torch.float64)
    if start is None and y is not None:
        start = space.begins(y)
    given = start if start is not None else y
    like = torch.zeros(*shape, device=None if given is None else given.device)
    z = start if start is not None else expand(process.alpha_sigma(first)[1], like) * noise(like, first, first)
    for z in trajectory(partial(denoise, **cond), process, z, times, solver, noise):  # noqa: B007, B020
        pass
    return space.decode(z, y).clamp(0, 1)
