"""What a restorer is asked to do: `ode-2:8` is solver ode-2 with 8 evaluations, `ode-2:8*4` the mean of 4 samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..guidance import randomised, tiled
from ..noise import PerSample
from ..registry import check_keys
from ..restoration import PRESETS
from ..sample import sample
from ..space import Space

__all__ = ["DEGRADED", "Setting", "restored"]


@final
@dataclass(frozen=True)
class Setting:
    """A solver of `restoration.PRESETS`, its network evaluations per sample, and how many samples are averaged.

    Raises ValueError for an unknown solver, and for numbers below 1.
    """

    solver: str
    evaluations: int
    samples: int = 1

    def __post_init__(self) -> None:
        if self.solver == "degraded" and (self.evaluations, self.samples) == (0, 1):
            return
        check_keys([self.solver], PRESETS, "solver")
        if self.evaluations < 1 or self.samples < 1:
            raise ValueError(f"{self.solver}, {self.evaluations} evaluations, {self.samples} samples: need at least 1")

    @classmethod
    def parse(cls, spec: str) -> "Setting":
        """`solver:evaluations` or `solver:evaluations*samples`."""
        solver, _, numbers = spec.partition(":")
        evaluations, times, samples = numbers.partition("*")
        try:
            counts = int(evaluations), int(samples) if times else 1
        except ValueError:
            raise ValueError(f"{spec!r}: need solver:evaluations or solver:evaluations*samples, as ode-2:8") from None
        return cls(solver, *counts)

    def __str__(self) -> str:
        if not self.evaluations:
            return self.solver
        return f"{self.solver}:{self.evaluations}" + (f"*{self.samples}" if self.samples > 1 else "")


DEGRADED = Setting("degraded", 0)  # the input itself, by which all others are judged


def restored(
    denoiser: Denoiser, space: Space, y: Tensor, setting: Setting, seeds: Sequence[Sequence[int]], tile: int = 512
) -> Tensor:
    """The degraded photographs y (B, 3, H, W), in [0, 1], restored on the device of the denoiser; on the CPU again.

    `seeds[k][i]` is that of sample k of photograph i, which depends on nothing else.
    """
    if setting == DEGRADED:
        return y
    preset, device = PRESETS[setting.solver], next(denoiser.parameters()).device
    grid, observed = preset.grid(denoiser.process, setting.evaluations), y.to(device)
    total = torch.zeros_like(observed)
    estimate = tiled(denoiser, tile, min(64, tile // 2))
    for own in seeds:
        noise = PerSample(own)
        total += sample(
            randomised(estimate, noise, denoiser.noise_channels), denoiser.process, space, shape=observed.shape,
            times=grid, solver=preset.solver, noise=noise, y=observed, image=observed,
        )  # fmt: skip
    return (total / len(seeds)).cpu()
