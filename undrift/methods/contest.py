"""The rules by which a student and its critic meet."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, final

from torch import nn

from .adversarial import Adversarial, LeastSquares

__all__ = ["Contest", "frozen"]


@final
@dataclass(frozen=True)
class Contest:
    """How student and critic meet.

    Arguments:
        weight: of the adversarial loss beside the consistency loss.
        game: the losses of both.
        real: what the critic takes for real: `"data"` clean training states, or `"target"` what the target makes of the
            teacher's steps, which asks for faithfulness to the teacher instead of for its improvement.
        time: what the critic is told, and sees. `"noised"`: real and generated states are noised to one random time
            t' between the ends of the grid. `"shared"`: both are clean, and t' is a label only. `"published"`: as the
            paper prints it, real ones carry the end of the grid and generated ones their t; the time alone then
            separates the two, and a critic that trains freely stops helping. For comparison only: it warns.
        r1: gamma of the gradient penalty R1 on real states; 0 for none.
        levels: t' is even in half log-SNR between these two, the noisier first, clipped to the process; None: even in
            the index of the grid, which of few nodes is mostly where no details show. At the noisy end of a segment
            t' is that end wherever the levels are cleaner.
        warmup: steps over which the weight rises in a straight line, at the first weight / (warmup + 1), while the
            critic learns: the opinion of untrained heads is noise, and undoes what the student has learnt before.
    """

    weight: float = 0.4
    game: Adversarial = field(default_factory=LeastSquares)
    real: Literal["data", "target"] = "data"
    time: Literal["noised", "shared", "published"] = "noised"
    r1: float = 0.0
    warmup: int = 0
    levels: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not all(value >= 0 for value in (self.weight, self.r1, self.warmup)):
            raise ValueError(
                f"Contest weight = {self.weight}, r1 = {self.r1}, warmup = {self.warmup}: need numbers >= 0"
            )
        if self.levels is not None:
            if len(self.levels) != 2 or not -math.inf < self.levels[0] <= self.levels[1] < math.inf:
                raise ValueError(f"Contest levels = {self.levels}: need two finite half log-SNRs, the noisier first")
            if self.time == "published":
                raise ValueError(f"Contest levels = {self.levels} with time = 'published', which has its own: drop one")
        if self.real not in ("data", "target"):
            raise ValueError(f"Contest real = {self.real!r}: choose 'data' or 'target'")
        if self.time not in ("noised", "shared", "published"):
            raise ValueError(f"Contest time = {self.time!r}: choose 'noised', 'shared' or 'published'")
        if self.time == "published":
            warnings.warn("Contest time = 'published': the time alone tells real from generated", stacklevel=2)

    def weighed(self, step: int) -> float:
        """The weight at a step, counted from 0."""
        return self.weight * min(1.0, (step + 1) / (self.warmup + 1))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients flow through the module, none into it."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)
