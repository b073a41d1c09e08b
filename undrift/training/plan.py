"""How long a run is and how its learning rate moves: the [training] and [schedule] of a recipe."""

import math
from dataclasses import dataclass
from typing import final

import torch

from ..registry import check_keys

__all__ = ["DTYPES", "PRECISIONS", "Schedule", "Training"]

PRECISIONS = {"float32": "no", "bfloat16": "bf16"}  # ours -> Accelerate's
DTYPES = {"float16": torch.float16, "float32": torch.float32}


@final
@dataclass(frozen=True)
class Training:
    """The [training] of a recipe.

    Arguments:
        steps, minutes: the length, whichever ends first; at least one. Minutes are wall-clock and count over
            resumes; only a run bounded by steps alone is bit for bit reproducible.
        seed: of initial weights, times and noise.
        clip: largest norm of the gradient; 0 does not clip.
        max_skipped: steps in a row without a finite loss and gradient, each of which is skipped, that end a run.
        accumulate: batches per step.
        precision: "float32" or "bfloat16", of the network's convolutions and products.
        checkpointing: keep of each block of the network only its input, and compute it again on the way back.
        compile: backend of `torch.compile` for the network, such as "inductor"; "" runs it as it is.
        shard: on several processes, cut weights, averages and the optimiser's memory over them, for a network that
            does not fit otherwise; see `sharding`.
        threads: of torch; 0 leaves them.
        channels_last: memory layout of images and weights.
        weights: "float16" or "float32", of the exported model.
        save_every, keep: steps between two saves, and how many states are kept.
        log_every: steps between two lines of the log.
        tensorboard: write that too.
        start_from: a checkpoint, folder or bundled name, whose weights a new run starts with.
    """

    steps: int = 0
    minutes: float = 0.0
    seed: int = 0
    clip: float = 1.0
    max_skipped: int = 20
    accumulate: int = 1
    checkpointing: bool = False
    compile: str = ""
    shard: bool = False
    precision: str = "float32"
    threads: int = 0
    channels_last: bool = False
    weights: str = "float16"
    save_every: int = 500
    keep: int = 2
    log_every: int = 20
    tensorboard: bool = False
    start_from: str = ""

    def __post_init__(self) -> None:
        if not (self.steps > 0 or self.minutes > 0) or min(self.steps, self.minutes) < 0:
            raise ValueError(f"training.steps = {self.steps}, minutes = {self.minutes}: give one, positive")
        for name in ("accumulate", "save_every", "keep", "log_every", "max_skipped"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} = {getattr(self, name)}: need at least 1")
        for name in ("clip", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name} = {getattr(self, name)}: need a positive number, or 0")
        if self.shard and (self.channels_last or self.compile):
            which = "channels_last" if self.channels_last else "compile"
            raise ValueError(f"training.shard with training.{which}: they do not go together, leave one out")
        check_keys([self.precision], PRECISIONS, "training.precision")
        check_keys([self.weights], DTYPES, "training.weights")

    def progress(self, step: int, seconds: float) -> float:
        """The elapsed fraction, in [0, 1]: of the steps or of the minutes, whichever is larger."""
        by_step = step / self.steps if self.steps else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_step, by_time))


@final
@dataclass(frozen=True)
class Schedule:
    """The [schedule]: `warmup` steps of linear rise, times half a cosine over the run from 1 down to `final`."""

    warmup: int = 100
    final: float = 0.01

    def __post_init__(self) -> None:
        if self.warmup < 0 or not 0 <= self.final <= 1:
            raise ValueError(f"[schedule] warmup = {self.warmup}, final = {self.final}: need >= 0, and in [0, 1]")

    def factor(self, step: int, progress: float) -> float:
        """What the learning rate is multiplied by at `step` = 0, 1, ..., `progress` of the way through."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return rise * (self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2)
