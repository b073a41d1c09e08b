"""What a solver is: one pure step from time t to a cleaner time s. All state is explicit.

Times are scalars when sampling and may be per sample, shape (B,), when distilling. A step to sigma = 0 is, in
every solver, the denoiser's own estimate.
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from ..denoiser import Denoise
from ..noise import Noise
from ..process import Process

__all__ = ["Solver", "State"]

State = tuple[Any, ...]


class Solver(ABC):
    """A frozen dataclass with a `step`. `plan` lets it do once per grid what need not be done once per step."""

    def plan(self, process: Process, times: Tensor) -> "Solver":
        """The solver for this grid, `times` (N + 1,): itself, unless coefficients can be tabulated ahead."""
        return self

    def init(self) -> State:
        """The state before the first step."""
        return ()

    @abstractmethod
    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """z at t (B, ...) -> z at s, and the next state; t, s float64, () or (B,)."""
