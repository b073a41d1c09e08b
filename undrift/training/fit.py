"""The training loop, on Accelerate, as a generator: it steps and yields; the caller logs, saves, stops.

Nothing here knows of diffusion. Continued from a saved state (modules, averages, optimisers, generator,
batches from `start`), the run is bit for bit the uninterrupted one on the CPU.
"""

import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from ..data.batch import Batch
from ..methods.base import Method
from .average import Average

__all__ = ["Record", "fit"]


@dataclass(frozen=True)
class Record:
    """One step, done.

    Arguments:
        step: its number, counted from 1.
        logs: `<phase>/loss`, `<phase>/norm` (of the gradient, before clipping) and the method's own numbers.
        factor: what the schedule multiplied the learning rates by.
        seconds: wall-clock time, of which `waiting` was spent on the batch.
        skipped: steps so far whose gradient was not finite.
    """

    step: int
    logs: dict[str, float]
    factor: float
    seconds: float
    waiting: float
    skipped: int


def fit(
    method: Method,
    batches: Iterable[Batch],
    optimizers: Mapping[str, Optimizer],
    *,
    accelerator: Accelerator,
    generator: torch.Generator,
    start: int = 0,
    steps: int | None = None,
    schedule: Callable[[int], float] = lambda step: 1.0,
    clip: float | None = 1.0,
    averages: Sequence[Average[Any]] = (),
    patience: int = 20,
) -> Generator[Record, None, None]:
    """Steps `start` .. `steps` - 1 (without end if None), or until the batches end.

    Each step: for every phase of the method loss, backward, clip, optimiser; then averages and `after_step`.
    One step takes `accelerator.gradient_accumulation_steps` batches. A step whose gradient is not finite
    changes nothing; after `patience` of them in a row FloatingPointError is raised.

    Arguments:
        optimizers: one per phase, over the parameters of the attribute that the phase names.
        schedule: step -> factor of the learning rates that the optimisers were made with.
        clip: largest norm of the gradient; None does not clip.
    """
    if set(optimizers) != set(method.phases):
        raise ValueError(f"optimizers for {sorted(optimizers)}: need one for each of {sorted(method.phases)}")
    trained: dict[str, tuple[nn.Module, Optimizer]] = {}
    for phase in method.phases:
        trained[phase] = accelerator.prepare(getattr(method, phase), optimizers[phase])
        setattr(method, phase, trained[phase][0])
    stream, accumulate = iter(batches), accelerator.gradient_accumulation_steps
    skipped = in_a_row = 0
    try:
        for step in count(start) if steps is None else range(start, steps):
            began = time.perf_counter()
            share = [batch.to(accelerator.device) for batch in islice(stream, accumulate)]
            if len(share) < accumulate:
                return
            waited, factor = time.perf_counter() - began, schedule(step)
            logs: dict[str, float] = {}
            for phase, (module, optimizer) in trained.items():
                _scale(optimizer, factor)
                logs |= _descend(method, phase, module, optimizer, share, accelerator, generator, clip)
            if all(math.isfinite(logs[f"{phase}/norm"]) for phase in trained):
                in_a_row = 0
                for average in averages:
                    average.update()
                method.after_step(step + 1)
            else:
                skipped, in_a_row = skipped + 1, in_a_row + 1
            if in_a_row >= patience:
                raise FloatingPointError(
                    f"step {step + 1}: no finite gradient for {patience} steps: lower the learning rate or clip"
                )
            yield Record(step + 1, logs, factor, time.perf_counter() - began, waited, skipped)
    finally:
        for phase, (module, _) in trained.items():
            setattr(method, phase, accelerator.unwrap_model(module, keep_fp32_wrapper=False))


def _descend(
    method: Method,
    phase: str,
    module: nn.Module,
    optimizer: Optimizer,
    share: Sequence[Batch],
    accelerator: Accelerator,
    generator: torch.Generator,
    clip: float | None,
) -> dict[str, float]:
    """One optimiser step of one phase; leaves the weights alone where the gradient is not finite."""
    logs: dict[str, float] = {}
    for batch in share:
        with accelerator.accumulate(module), accelerator.autocast():
            loss, extra = method.loss(phase, batch, generator)
            accelerator.backward(loss)
        for name, value in {"loss": loss.detach().item(), **extra}.items():
            key = f"{phase}/{name}"
            logs[key] = logs.get(key, 0.0) + value / len(share)
    # Gradients are already averaged over processes: the norm, and so the decision, is the same on all of them.
    norm = accelerator.clip_grad_norm_(module.parameters(), math.inf if clip is None else clip)
    logs[f"{phase}/norm"] = float(norm)
    if math.isfinite(logs[f"{phase}/norm"]) or accelerator.scaler is not None:  # a scaler skips by itself
        optimizer.step()
    optimizer.zero_grad()
    return logs


def _scale(optimizer: Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
