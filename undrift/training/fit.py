"""The training loop, on Accelerate, as a generator: it steps and yields; the caller logs, saves, stops.

Nothing here knows of diffusion. Continued from a saved state (modules, averages, optimisers, generator,
batches from `start`), the run is bit for bit the uninterrupted one on the CPU. On several processes, each with its
rows of every batch, it follows the run of one process to rounding, where `generator` gives `Rows`.
"""

import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from ..data.batch import Batch
from ..draws import Rows
from ..methods.base import Method
from .average import Average

__all__ = ["Draws", "Record", "fit"]

Draws = Callable[[int, int], torch.Generator]
"""(step, which of its batches) -> the random numbers of it."""


@dataclass(frozen=True)
class Record:
    """One step, done.

    Arguments:
        step: its number, counted from 1.
        logs: `<phase>/loss`, `<phase>/norm` (of the gradient, before clipping) and the method's own numbers, means
            over all processes.
        factor: what the schedule multiplied the learning rates by.
        seconds: wall-clock time, of which `waiting` was spent on the batch.
        skipped: steps so far whose loss or gradient was not finite.
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
    generator: torch.Generator | Draws,
    start: int = 0,
    steps: int | None = None,
    schedule: Callable[[int], float] = lambda step: 1.0,
    clip: float | None = 1.0,
    averages: Sequence[Average[Any]] = (),
    patience: int = 20,
) -> Generator[Record, None, None]:
    """Steps `start` .. `steps` - 1 (without end if None), or until the batches end.

    Each step: for every phase of the method loss, backward, clip, optimiser; then averages and `after_step`.
    One step takes `accelerator.gradient_accumulation_steps` batches. A phase whose loss or gradient is not finite
    changes nothing; after `patience` such steps in a row FloatingPointError is raised.

    Arguments:
        optimizers: one per phase, over the parameters of the attribute that the phase names.
        generator: one for the whole run, or what names one for each step and batch; of the latter, `Rows` are also
            what layers that draw for themselves, such as dropout, are seeded with.
        schedule: step -> factor of the learning rates that the optimisers were made with.
        clip: largest norm of the gradient; None does not clip.
    """
    if set(optimizers) != set(method.phases):
        raise ValueError(f"optimizers for {sorted(optimizers)}: need one for each of {sorted(method.phases)}")
    trained: dict[str, tuple[nn.Module, Optimizer]] = {}
    for phase in method.phases:
        trained[phase] = _prepared(accelerator, getattr(method, phase), optimizers[phase])
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
            randoms = [generator if isinstance(generator, torch.Generator) else generator(step, i)
                       for i in range(accumulate)]  # fmt: skip
            logs: dict[str, float] = {}
            for phase, (_, optimizer) in trained.items():
                _scale(optimizer, factor)
                logs |= _descend(method, phase, trained, list(zip(share, randoms, strict=True)), accelerator, clip)
            if all(_finite(logs, phase) for phase in trained):
                in_a_row = 0
                for average in averages:
                    average.update()
                method.after_step(step + 1)
            else:
                skipped, in_a_row = skipped + 1, in_a_row + 1
            if in_a_row >= patience:
                raise FloatingPointError(
                    f"step {step + 1}: no finite loss and gradient for {patience} steps: lower the learning rate "
                    "or training.clip"
                )
            yield Record(step + 1, logs, factor, time.perf_counter() - began, waited, skipped)
    finally:
        for phase, (module, _) in trained.items():
            setattr(method, phase, accelerator.unwrap_model(module, keep_fp32_wrapper=False))


def _prepared(accelerator: Accelerator, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """On its device, and averaging gradients over processes; a sharded module does that by itself already."""
    if any(hasattr(p, "to_local") for p in module.parameters()):
        return module, accelerator.prepare(optimizer)
    return accelerator.prepare(module, optimizer)  # type: ignore[no-any-return]


def _descend(
    method: Method,
    phase: str,
    trained: Mapping[str, tuple[nn.Module, Optimizer]],
    share: Sequence[tuple[Batch, torch.Generator]],
    accelerator: Accelerator,
    clip: float | None,
) -> dict[str, float]:
    """One optimiser step of one phase; leaves the weights alone where loss or gradient is not finite."""
    module, optimizer = trained[phase]
    logs: dict[str, float] = {}
    for i, (batch, random) in enumerate(share):
        if isinstance(random, Rows):
            torch.manual_seed(random.initial_seed())
        with ExitStack() as stack:
            # A graph may be made in one phase and used in another: processes meet where a backward pass says so.
            for other, _ in trained.values():
                stack.enter_context(accelerator.no_sync(other))
            with accelerator.autocast():
                loss, extra = method.loss(phase, batch, random)
            last = i == len(share) - 1
            with accelerator.trigger_sync_in_backward(module) if last else nullcontext():
                accelerator.backward(loss)
        for name, value in {"loss": loss.detach().item(), **extra}.items():
            key = f"{phase}/{name}"
            logs[key] = logs.get(key, 0.0) + value / len(share)
    logs = _everywhere(logs, accelerator)
    # Gradients are averaged over processes too: the norm, and so the decision, is the same on all of them.
    norm = accelerator.clip_grad_norm_(module.parameters(), math.inf if clip is None else clip)
    logs[f"{phase}/norm"] = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
    if _finite(logs, phase) or accelerator.scaler is not None:  # a scaler skips by itself
        optimizer.step()
    optimizer.zero_grad()
    return logs


def _everywhere(logs: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
    """Means over all processes."""
    if accelerator.num_processes == 1:
        return logs
    own = torch.tensor(list(logs.values()), dtype=torch.float32, device=accelerator.device)
    return dict(zip(logs, accelerator.reduce(own, "mean").tolist(), strict=True))


def _finite(logs: Mapping[str, float], phase: str) -> bool:
    return math.isfinite(logs[f"{phase}/loss"]) and math.isfinite(logs[f"{phase}/norm"])


def _scale(optimizer: Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
