r"""Restart sampling: go back to a noisier time and come down again, several times over.

    z_high = a z_low + sqrt(sigma_high^2 - a^2 sigma_low^2) eps,   a = alpha_high / alpha_low,   then the ODE to z_low.

Fresh noise contracts the error gathered so far, as in an SDE, and the way back has only the small error of an ODE.
Source: Restart Sampling for Improving Generative Processes (Xu et al. 2023, arXiv 2306.14878), algorithm 1.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .denoiser import Denoise
from .noise import Noise
from .process import Process
from .sample import trajectory
from .solvers import Solver, State

__all__ = ["Restart"]


@final
@dataclass(frozen=True)
class Restart(Solver):
    """`solver`, and once the grid arrives at `clean` or beyond, `repeats` times back up to `noisy` and down again.

    It costs repeats * steps further steps of `solver`, whose past predictions are forgotten at each restart. The noise
    must be fresh at every call: `Gaussian` or `PerSample`, not a `Brownian` path. Times are scalars.

    Arguments:
        solver: of the grid and of the way back; any.
        noisy, clean: half log-SNR of the two ends, noisy < clean; the paper's sigma from 0.06 to 0.30 for CIFAR-10 is
            noisy = 1.2, clean = 2.8. The lower end is the first time of the grid at or beyond `clean`, with sigma > 0.
        repeats: K, the number of restarts.
        steps: of one way back, uniform in lambda.

    Raises ValueError for an interval that the grid does not reach, or leaps over to sigma = 0.
    """

    solver: Solver
    noisy: float
    clean: float
    repeats: int = 1
    steps: int = 3

    def __post_init__(self) -> None:
        if not self.noisy < self.clean:
            raise ValueError(f"Restart noisy = {self.noisy}, clean = {self.clean}: need half log-SNRs noisy < clean")
        if not (self.repeats >= 1 and self.steps >= 1):
            raise ValueError(f"Restart repeats = {self.repeats}, steps = {self.steps}: need at least one of each")

    def plan(self, process: Process, times: Tensor) -> Solver:
        lam = process.half_log_snr(times)
        index = int(self._above(lam).sum())
        if not (0 < index < len(times) and lam[index].isfinite() and float(lam[0]) <= self.noisy):
            raise ValueError(
                f"Restart from {self.clean} to {self.noisy}: the grid has half log-SNRs "
                f"{', '.join(f'{v:.3g}' for v in (*lam[:1], *lam[-2:]))} at its ends: let it hold the interval"
            )
        rest = times[index:]
        after = self.solver.plan(process, rest) if len(rest) > 1 else self.solver
        return _Legs(self, self.solver.plan(process, times[: index + 1]), after, index)

    def init(self) -> State:
        return self.solver.init()

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """One step by itself."""
        z, state = self.solver.step(denoise, process, z, t, s, state, noise)
        lam = process.half_log_snr(torch.stack([t, s]))
        if self._above(lam).tolist() != [True, False] or lam[1].isinf():
            return z, state
        return self.again(denoise, process, z, s, noise), self.solver.init()

    def _above(self, lam: Tensor) -> Tensor:
        return lam < self.clean - 1e-9  # a grid that was laid through `clean` meets it up to rounding

    def again(self, denoise: Denoise, process: Process, z: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """The restarts of a state z at s."""
        lam = torch.linspace(self.noisy, float(process.half_log_snr(s)), self.steps + 1, dtype=torch.float64)
        back = torch.cat([process.time(lam[:-1]), s[None]])
        for _ in range(self.repeats):
            z = process.renoise(z, s, back[0], noise(z, s, back[0]))
            for z in trajectory(denoise, process, z, back, self.solver, noise):  # noqa: B007, B020
                pass
        return z


@final
@dataclass(frozen=True, eq=False)
class _Legs(Solver):
    """A planned `Restart`: the solver planned for the grid before and after it. State: (steps done, the solver's)."""

    restart: Restart
    before: Solver
    after: Solver
    index: int

    def init(self) -> State:
        return 0, self.before.init()

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        done, inner = state
        leg = self.before if done < self.index else self.after
        z, inner = leg.step(denoise, process, z, t, s, inner, noise)
        if done + 1 == self.index:
            z, inner = self.restart.again(denoise, process, z, s, noise), self.after.init()
        return z, (done + 1, inner)
