"""What the sampling loop costs beside the network: time per step of the loop alone, on one thread.

The network is replaced by a function that returns a stored tensor. Compared in one run, state (1, 3, 64, 64), order 2:
undrift's planned exponential solver, diffusers' DPMSolverMultistepScheduler.step, azula's sampler where installed, and
the bare linear combination of three tensors.

    python benchmarks/loop.py [--repeats 30]
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import torch

from undrift import VP, Exponential, Replay, times, trajectory

STEPS = 20
SHAPE = (1, 3, 64, 64)


def undrift_loop() -> Callable[[], None]:
    process, estimate, z = VP(), torch.randn(SHAPE), torch.randn(SHAPE)
    grid = times.uniform_lambda(process, STEPS)
    solver = Exponential(2).plan(process, grid)

    def run() -> None:
        for _ in trajectory(lambda z, t: estimate, process, z, grid, solver, Replay([])):
            pass

    return run


def undrift_unplanned() -> Callable[[], None]:
    """The coefficient table included: what a first call with a new grid costs."""
    process, estimate, z = VP(), torch.randn(SHAPE), torch.randn(SHAPE)
    grid = times.uniform_lambda(process, STEPS)

    def run() -> None:
        for _ in trajectory(lambda z, t: estimate, process, z, grid, Exponential(2), Replay([])):
            pass

    return run


def diffusers_loop() -> Callable[[], None]:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(solver_order=2, prediction_type="sample")
    estimate, z = torch.randn(SHAPE), torch.randn(SHAPE)

    def run() -> None:
        scheduler.set_timesteps(STEPS)
        state = z
        for t in scheduler.timesteps:
            state = scheduler.step(estimate, t, state).prev_sample

    return run


def azula_loop() -> Callable[[], None]:
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VPSchedule
    from azula.sample import xEABSampler

    estimate, z = torch.randn(SHAPE), torch.randn(SHAPE)

    class Stored(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = VPSchedule()

        def forward(self, x_t: torch.Tensor, t: torch.Tensor, **_: object) -> DiracPosterior:
            return DiracPosterior(mean=estimate)

    sampler = xEABSampler(Stored(), steps=STEPS, order=2, silent=True)

    def run() -> None:
        sampler(z)

    return run


def bare() -> Callable[[], None]:
    a, b, c = (torch.randn(SHAPE) for _ in range(3))

    def run() -> None:
        for _ in range(STEPS):
            (0.9 * a).add(b, alpha=0.2).add(c, alpha=-0.1)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30, help="runs of 20 steps each (default 30)")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    subjects = {"undrift, planned": undrift_loop(), "undrift, with its table": undrift_unplanned()}
    for name, build in (("diffusers", diffusers_loop), ("azula", azula_loop)):
        if importlib.util.find_spec(name):
            subjects[name] = build()
        else:
            print(f"{name} is not installed: left out")
    subjects["bare linear combination"] = bare()
    with torch.inference_mode():
        times_of: dict[str, list[float]] = {name: [] for name in subjects}
        for _ in range(repeats):  # interleaved: a disturbance hits all alike
            for name, run in subjects.items():
                began = time.perf_counter()
                run()
                times_of[name].append((time.perf_counter() - began) / STEPS)
    medians = {name: statistics.median(values[1:] or values) for name, values in times_of.items()}
    reference = medians.get("diffusers")
    for name, seconds in medians.items():
        ratio = f"   {seconds / reference:6.3f} of diffusers" if reference else ""
        print(f"{name:28s} {seconds * 1e3:8.4f} ms per step{ratio}")


if __name__ == "__main__":
    main()
