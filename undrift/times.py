"""Grids: decreasing times, float64 (N + 1,), from noise to data. N steps of a multistep solver are N network calls.

Every grid starts at `process.t_max` and ends at `process.t_clean`, where sigma = 0: the last step is then the
denoiser's own estimate, with no branch in anybody's code. Where a path never reaches sigma = 0 it ends at `t_min`.
"""

import operator
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from .process import Process

__all__ = ["discrete", "karras", "trailing", "uniform", "uniform_lambda"]


def uniform(process: Process, steps: int) -> Tensor:
    """t_i = t_max (1 - i/N), shifted to end at the data: uniform in t."""
    low = process.t_clean if process.t_clean > -torch.inf else process.t_min
    grid = torch.linspace(process.t_max, low, _positive(steps) + 1, dtype=torch.float64)
    return _ending_clean(grid[:-1], process)


def uniform_lambda(process: Process, steps: int, end: float | None = None, start: float | None = None) -> Tensor:
    """lambda uniform from its value at t_max to `end` in N - 1 steps, then one step to the data.

    `end` (half log-SNR; default: its value at t_min) says how clean the last network input is. For few steps it
    matters more than the rule in between and grows with N. With `start`, the first step leads from t_max straight to
    lambda = start: below it an image that is largely known from its observation cannot be told from noise, and steps
    there only make the coarse content vary. ValueError unless both lie in the range of lambda.
    A process whose data are its t_min has no last step of its own: N steps lead to `end` = t_min itself.
    """
    return _spaced(process, steps, start, end, lambda lam: lam, lambda lam: lam)


def karras(process: Process, steps: int, rho: float = 7.0, end: float | None = None) -> Tensor:
    """(sigma/alpha)^(1/rho) uniform in N - 1 steps (Karras et al. 2022, arXiv 2206.00364, eq. 5), then one to the data.

    `end` as in `uniform_lambda`. rho -> infinity is uniform lambda. ValueError unless rho > 0.
    """
    if not rho > 0:
        raise ValueError(f"karras rho = {rho}: need a positive number, e.g. 7")
    return _spaced(process, steps, None, end, lambda lam: torch.exp(-lam / rho), lambda root: -rho * root.log())


def trailing(process: Process, steps: int) -> Tensor:
    """The last index of each of N equal groups of a discrete schedule (Lin et al. 2024, arXiv 2305.08891)."""
    first, last = float(process.t_min), float(process.t_max)
    count = round(last - first) + 1
    if not (first.is_integer() and last.is_integer() and _positive(steps) <= count):
        raise ValueError(
            f"trailing grid of {steps} steps on times [{first}, {last}]: needs a discrete schedule of at least as "
            "many indices; use times.uniform"
        )
    index = torch.arange(steps, dtype=torch.float64)
    return _ending_clean((count - index * count / steps).round() + first - 1, process)


def discrete(
    process: Process,
    steps: int,
    spacing: Literal["leading", "trailing", "linspace"] = "leading",
    *,
    offset: int = 0,
    spare: bool = False,
    clean: bool = True,
) -> Tensor:
    """Indices of a discrete schedule of T entries, as the schedulers of diffusers visit them, and the data.

    Arguments:
        spacing: `"leading"`, k (T // N) + offset; `"trailing"`, the ends of N equal parts; `"linspace"`, both ends.
        offset: of leading indices; 1 for Stable Diffusion.
        spare: leading and linspace as the DPM-Solvers of diffusers space them: N + 1 indices without the last.
        clean: False ends the grid at the first index instead of the data (diffusers: `set_alpha_to_one` = False or
            `final_sigmas_type` = "sigma_min"); one evaluation fewer where that index was visited.

    Raises ValueError for more steps than indices, and for indices outside the schedule.
    """
    first, last = float(process.t_min), float(process.t_max)
    count, wanted = round(last - first) + 1, _positive(steps) + (spare and spacing != "trailing")
    if not (first.is_integer() and last.is_integer() and wanted <= count):
        raise ValueError(f"discrete grid of {steps} steps on times [{first}, {last}]: needs a discrete schedule of at "
                         "least as many indices; use times.uniform")  # fmt: skip
    k = torch.arange(wanted, dtype=torch.float64).flip(0)
    if spacing == "leading":
        index = k * (count // wanted) + offset
    elif spacing == "linspace":
        index = (k * ((count - 1) / max(wanted - 1, 1))).round()
    elif spacing == "trailing":
        stride = (count - count / wanted) - count  # in this order: rounding decides between neighbours
        index = (count + k.flip(0) * stride).round() - 1
    else:
        raise ValueError(f"spacing {spacing!r}: choose 'leading', 'trailing' or 'linspace'")
    times = first + index[: _positive(steps)]
    if not bool((first <= times).all() and (times <= last).all()):
        raise ValueError(f"offset = {offset}: indices {times[-1]:g} to {times[0]:g} leave the schedule, {first:g} to "
                         f"{last:g}; give a smaller one")  # fmt: skip
    if clean:
        return _ending_clean(times, process)
    return times if times[-1] == first else torch.cat([times, torch.tensor([first], dtype=torch.float64)])


def _positive(steps: int) -> int:
    try:
        count = operator.index(steps)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"steps = {steps}: need a whole number of network evaluations, at least 1")
    return count


def _spaced(
    process: Process,
    steps: int,
    start: float | None,
    end: float | None,
    warp: Callable[[Tensor], Tensor],
    unwarp: Callable[[Tensor], Tensor],
) -> Tensor:
    """t_max, then times uniform in warp(lambda) from `start` (default: t_max itself) to `end`, then the data."""
    noisy, high = process.half_log_snr(torch.tensor([process.t_max, process.t_min], dtype=torch.float64)).tolist()
    # Pure noise, alpha = 0, lies at lambda = -infinity: space the grid from where the image is 1/150 of the noise.
    low = -5.0 if noisy == -torch.inf else noisy
    last = high if end is None else end
    if not low < last <= high:
        raise ValueError(f"grid end = {last}: the half log-SNR of this process lies in ({low:.3f}, {high:.3f}]")
    if start is not None and not low < start < last:
        raise ValueError(f"grid start = {start}: need a half log-SNR between {low:.3f} and the grid's end, {last:.3f}")
    clean = last < high or process.t_clean < process.t_min
    skipped = start is not None and _positive(steps) > 1
    first, final = warp(torch.tensor([start if skipped else low, last], dtype=torch.float64)).tolist()
    count = _positive(steps) + (not clean) - skipped
    times = process.time(unwarp(torch.linspace(first, final, count, dtype=torch.float64)))
    noise_end = torch.tensor([process.t_max], dtype=torch.float64)
    times = torch.cat([noise_end, times if skipped else times[1:]])
    return _ending_clean(times, process) if clean else times


def _ending_clean(times: Tensor, process: Process) -> Tensor:
    return torch.cat([times, torch.tensor([process.t_clean], dtype=torch.float64)])
