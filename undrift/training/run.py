"""A training run from a recipe: builds the parts, calls `fit`, and writes down what it yields.

<out>/model/       the averaged model so far, a checkpoint that can be used at any time
<out>/state/       what resuming needs: the same call in the same folder goes on where the last one stopped
<out>/log.jsonl    one line every few steps
<out>/preview/     held-out photographs: degraded, restored, clean
<out>/recipe.json  the recipe as run

python -m undrift.training.run recipes/universal.toml --out runs/universal training.minutes=100
"""

import json
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import nn
from tqdm import tqdm

from .. import registry
from ..classify import NoisyClassifier
from ..data import Batch, generator
from ..denoiser import Denoiser
from ..methods import Classification, ScoreMatching
from ..space import Space
from . import checkpoint, state
from .average import Average
from .files import write_json
from .fit import Record, fit
from .interrupt import asked_to_stop, deaf
from .log import Log
from .plan import DTYPES, PRECISIONS, Schedule, Training
from .preview import Preview
from .recipe import call, method, override, read
from .sources import Sheet, Source, source

__all__ = ["Result", "train"]

# What a saved state is the state of: these sections may not change when a run goes on.
FIXED = ("process", "prediction", "network", "space", "label", "denoiser", "method", "average")


@final
@dataclass(frozen=True)
class Result:
    """What a run came to: the exported model, steps done, wall-clock seconds over all resumes, and if it is done."""

    model: Path
    step: int
    seconds: float
    finished: bool


def _cpu_seconds() -> float:
    """CPU time of this process, and of its children that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


@dataclass
class _Run:
    """The objects of one run, and how far it is."""

    recipe: dict[str, Any]
    training: Training
    schedule: Schedule
    data: Source
    preview: Preview
    model: Denoiser | NoisyClassifier
    space: Space
    average: Average[Any]
    optimizer: torch.optim.Optimizer
    method: ScoreMatching | Classification
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0  # wall-clock and CPU, before this process
    cpu: float = 0.0
    began: float = field(default_factory=time.monotonic)
    cpu_began: float = field(default_factory=_cpu_seconds)

    def wall(self) -> float:
        return self.seconds + time.monotonic() - self.began


def train(recipe: Mapping[str, Any] | str | Path, out: str | Path, overrides: Sequence[str] = ()) -> Result:
    """Train from a recipe into the folder `out`, or go on with what is there.

    SIGINT or SIGTERM ends the run, saved, after the step at hand. Raises ValueError, FileNotFoundError or
    OSError, in one line, for what cannot be; FloatingPointError where the training diverged.
    """
    table = override(read(recipe) if isinstance(recipe, str | Path) else recipe, overrides)
    folder, run = Path(out), _build(table)
    if run.training.threads:
        torch.set_num_threads(run.training.threads)
    # Accelerate keeps its first settings for the life of the process; a second run may want others.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=PRECISIONS[run.training.precision],
        gradient_accumulation_steps=run.training.accumulate,
    )
    rank, main = accelerator.process_index, accelerator.is_main_process
    run.model.to(accelerator.device)
    run.average.module.to(accelerator.device)
    rng = generator("loss", run.training.seed, rank)
    _restore(run, folder, rng, rank)
    if main:
        write_json(folder / "recipe.json", table)
    sheet = run.data.sheet(run.preview, folder / "preview") if main else None
    images = run.data.load()
    with asked_to_stop() as stop:
        with deaf():  # the loaders must outlive the step at hand
            first = run.step * run.training.accumulate
            batches = run.data.batches(images, first, rank, accelerator.num_processes, run.training.channels_last)
        finished = _steps(run, folder, accelerator, rng, batches, sheet, stop)
        del batches  # ends the loaders: only then does the system tell what they cost
        if main:
            _save(run, folder, rng)
    return Result(folder / "model", run.step, run.wall(), finished)


def _steps(
    run: _Run,
    folder: Path,
    accelerator: Accelerator,
    rng: torch.Generator,
    batches: Iterator[Batch],
    sheet: Sheet | None,
    stop: threading.Event,
) -> bool:
    """Steps until the end or a signal; whether it was the end."""
    training, start, main = run.training, run.step, accelerator.is_main_process
    (phase,) = run.method.phases

    def progress(step: int) -> float:
        return _agreed(accelerator, training.progress(step, run.wall()))

    if progress(start) >= 1:
        return True
    records = fit(
        run.method,
        batches,
        {phase: run.optimizer},
        accelerator=accelerator,
        generator=rng,
        start=start,
        schedule=lambda step: run.schedule.factor(step, progress(step)),
        clip=training.clip or None,
        averages=[run.average],
    )
    before, window = run.skipped, list[Record]()
    bar = tqdm(initial=start, total=training.steps or None, unit="step", disable=None if main else True)
    with closing(records), bar, Log(folder if main else None, start, training.tensorboard) as log:
        for record in records:
            run.step, run.skipped = record.step, before + record.skipped
            window.append(record)
            bar.update()
            finished, stopped = progress(record.step) >= 1, _agreed(accelerator, float(stop.is_set())) > 0
            if record.step % training.log_every == 0 or finished or stopped:
                values = _summary(window) | {"lr": run.optimizer.param_groups[0]["lr"], "wall": round(run.wall(), 1)}
                bar.set_postfix(loss=f"{values[f'{phase}/loss']:.4f}")
                log.write(record.step, values)
                window.clear()
            if sheet and (finished or record.step % run.preview.every == 0):
                log.write(record.step, sheet(run.average.module, run.space, record.step))
            if finished or stopped:
                return finished
            if main and record.step % training.save_every == 0:
                _save(run, folder, rng)
    raise ValueError("the batches ended before the training did")


def _summary(window: Sequence[Record]) -> dict[str, float]:
    """Means over some records."""
    means = {name: sum(r.logs[name] for r in window) / len(window) for name in window[0].logs}
    seconds = sum(r.seconds for r in window)
    pace = {"steps_per_second": len(window) / seconds, "waiting": sum(r.waiting for r in window) / seconds}
    return {name: round(value, 6) for name, value in (means | pace).items()} | {"skipped": window[-1].skipped}


def _build(table: dict[str, Any]) -> _Run:
    """Every object of the recipe, before anything is read or written."""
    kinds = ("process", "prediction", "space", "density", "label")
    made = {kind: registry.build(kind, table[kind]) for kind in kinds if kind in table}
    process, space, density = made["process"], made["space"], made["density"]
    training, options = call(Training, "training", table), table.get("denoiser", {})
    registry.check_keys(options, ["scale"], "key of [denoiser]")
    if options.get("scale") is False:  # TOML has no null
        options = {"scale": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = registry.build("network", table["network"])
    if training.start_from:
        _begin(network, training.start_from)
    model: Denoiser | NoisyClassifier
    objective: ScoreMatching | Classification
    if method(table) == "classification":
        model = NoisyClassifier(network, process, made.get("label"), **options)
        objective = Classification(model, process, space, density)
    else:
        weighting = registry.build("weighting", table["weighting"], prediction=made["prediction"], process=process)
        model = Denoiser(network, process, made["prediction"], label=made.get("label"), **options)
        objective = ScoreMatching(model, process, space, density, weighting)
    if training.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _Run(
        recipe=table,
        training=training,
        schedule=call(Schedule, "schedule", table),
        data=source(table),
        preview=call(Preview, "preview", table),
        model=model,
        space=space,
        average=Average(model, registry.build("average", table.get("average", {"name": "power"}))),
        optimizer=registry.build("optimizer", table["optimizer"], model.parameters()),
        method=objective,
    )


def _begin(network: nn.Module, source: str) -> None:
    """The weights of another model of the same network."""
    begun = checkpoint.load(source)[0].network
    if registry.describe(begun) != registry.describe(network):
        raise ValueError(f"training.start_from = {source!r}: its [network] differs from the recipe's")
    network.load_state_dict(begun.state_dict())


def _save(run: _Run, folder: Path, rng: torch.Generator) -> None:
    """State first, then the model: the model can be made from the state."""
    wall, cpu = run.wall(), run.cpu + _cpu_seconds() - run.cpu_began
    bundle = {
        "denoiser": run.model.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "generator": rng.get_state(),
        "skipped": run.skipped,
        "seconds": wall,
        "cpu": cpu,
        "recipe": json.dumps(run.recipe),
    }
    state.store(folder / "state", run.step, bundle, run.training.keep)
    facts = {
        "steps": run.step,
        "samples": run.step * run.training.accumulate * run.data.batch,
        "wall_seconds": round(wall),
        "cpu_seconds": round(cpu),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "skipped": run.skipped,
        "torch": str(torch.__version__),
        **run.data.facts(),
        "recipe": run.recipe,
    }
    checkpoint.save(folder / "model", run.average.module, run.space, facts, DTYPES[run.training.weights])


def _restore(run: _Run, folder: Path, rng: torch.Generator, rank: int) -> None:
    """Take up the newest state in `folder`, if there is one."""
    saved = state.latest(folder / "state")
    if saved is None:
        return
    before, now = json.loads(saved["recipe"]), json.loads(json.dumps(run.recipe))
    if changed := [name for name in (*FIXED, "optimizer") if not _same(name, before.get(name), now.get(name))]:
        raise ValueError(
            f"{folder}: holds a run with another [{changed[0]}]: train into a new folder, or restore that section"
        )
    rates = [group["lr"] for group in run.optimizer.param_groups]
    run.model.load_state_dict(saved["denoiser"])
    run.average.load_state_dict(saved["average"])
    run.optimizer.load_state_dict(saved["optimizer"])
    for group, rate in zip(run.optimizer.param_groups, rates, strict=True):
        group["initial_lr"] = group["lr"] = rate
    run.step, run.skipped, run.seconds, run.cpu = (saved[key] for key in ("step", "skipped", "seconds", "cpu"))
    if rank == 0:
        rng.set_state(saved["generator"])
    else:  # other processes keep no state of their own: fresh numbers, never the old ones again
        rng.manual_seed(generator("loss", run.training.seed, rank, run.step).initial_seed())


def _same(section: str, before: Any, now: Any) -> bool:
    """Whether a state fits; of an optimiser only the kind matters."""
    return bool(before["name"] == now["name"] if section == "optimizer" else before == now)


def _agreed(accelerator: Accelerator, value: float) -> float:
    """The value of the first process, on all of them: clocks and signals differ, decisions must not."""
    if accelerator.num_processes == 1:
        return value
    return float(broadcast(torch.tensor(value, device=accelerator.device)))
