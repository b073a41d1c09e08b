"""What a restorer is asked to do: `ode-2:8` is solver ode-2 with 8 evaluations, `ode-2:8*4` the mean of 4 samples.

A model that can be told what a photograph suffers from is told; `blind-ode-2:8` leaves it to judge by itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..guidance import randomised, tiled
from ..noise import PerSample
from ..registry import check_keys
from ..restoration import PRESETS, moments, presets, seen, telling
from ..sample import sample
from ..space import Space

__all__ = ["DEGRADED", "Setting", "drawn", "restored"]

BLIND = "blind-"


@final
@dataclass(frozen=True)
class Setting:
    """A solver of `restoration.PRESETS`, its network evaluations per sample, and how many samples are averaged.

    `blind`: whether the model must not be told the task.
    Raises ValueError for an unknown solver, and for numbers below 1.
    """

    solver: str
    evaluations: int
    samples: int = 1
    blind: bool = False

    def __post_init__(self) -> None:
        if self.solver == "degraded" and (self.evaluations, self.samples) == (0, 1):
            return
        check_keys([self.solver], PRESETS, "solver")
        if self.evaluations < 1 or self.samples < 1:
            raise ValueError(f"{self.solver}, {self.evaluations} evaluations, {self.samples} samples: need at least 1")

    @classmethod
    def parse(cls, spec: str) -> "Setting":
        """`solver:evaluations` or `solver:evaluations*samples`, after `blind-` or not."""
        solver, _, numbers = spec.removeprefix(BLIND).partition(":")
        evaluations, times, samples = numbers.partition("*")
        try:
            counts = int(evaluations), int(samples) if times else 1
        except ValueError:
            raise ValueError(f"{spec!r}: need solver:evaluations or solver:evaluations*samples, as ode-2:8") from None
        return cls(solver, *counts, blind=spec.startswith(BLIND))

    def __str__(self) -> str:
        if not self.evaluations:
            return self.solver
        solver = BLIND * self.blind + self.solver
        return f"{solver}:{self.evaluations}" + (f"*{self.samples}" if self.samples > 1 else "")


DEGRADED = Setting("degraded", 0)  # the input itself, by which all others are judged


def restored(
    denoiser: Denoiser,
    space: Space,
    y: Tensor,
    setting: Setting,
    seeds: Sequence[Sequence[int]],
    task: str = "",
    tile: int = 512,
) -> Tensor:
    """The mean of what is `drawn`: (B, 3, H, W)."""
    return moments(drawn(denoiser, space, y, setting, seeds, task, tile))[0]


def drawn(
    denoiser: Denoiser,
    space: Space,
    y: Tensor,
    setting: Setting,
    seeds: Sequence[Sequence[int]],
    task: str = "",
    tile: int = 512,
) -> Iterator[Tensor]:
    """Degraded photographs y (B, 3, H, W), in [0, 1], restored on the device of the denoiser, sample by sample.

    `seeds[k][i]` is that of sample k of photograph i, which depends on nothing else. The model is told the task if
    it knows it and the setting is not blind.
    """
    if setting == DEGRADED:
        yield y
        return
    preset = presets(denoiser.process, denoiser.prediction)[setting.solver].of(denoiser)
    grid = preset.grid(denoiser.process, setting.evaluations)
    photographs = y.to(next(denoiser.parameters()).device)
    with torch.no_grad():
        observed, space = space.observed(photographs)
    told = seen(denoiser, photographs) | telling(
        denoiser, task if task in denoiser.tasks and not setting.blind else None, len(y)
    )
    estimate = tiled(denoiser, tile, min(64, tile // 2))
    for own in seeds:
        noise = PerSample(own)
        yield sample(
            randomised(estimate, noise, denoiser.noise_channels), denoiser.process, space, shape=observed.shape,
            times=grid, solver=preset.solver, noise=noise, y=observed, image=observed, **told,
        ).cpu()  # fmt: skip
