"""A training run from a recipe: builds the parts, calls `fit`, and writes down what it yields.

<out>/model/       the averaged model so far, a checkpoint that can be used at any time
<out>/state/       what resuming needs: the same call in the same folder goes on where the last one stopped
<out>/log.jsonl    one line every few steps
<out>/preview/     held-out photographs: degraded, restored, clean; samples of a generator; the panel of a student
<out>/best/        of a student, the averaged model that was best; and report.html, see `panel`
<out>/recipe.json  the recipe as run

python -m undrift.training.run recipes/universal.toml --out runs/universal training.minutes=100
"""

import atexit
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from tqdm import tqdm

from ..data import Batch, generator
from ..methods import Scott
from . import checkpoint, state
from .build import Run, build
from .files import write_json
from .fit import Record, fit
from .interrupt import asked_to_stop, deaf
from .log import Log
from .panel import LivePanel, live
from .plan import DTYPES, PRECISIONS
from .recipe import override, read
from .sources import Sheet

__all__ = ["Result", "check", "train"]

# What a saved state is the state of: these sections may not change when a run goes on.
FIXED = ("process", "prediction", "network", "space", "label", "denoiser", "method", "critic", "average")


@final
@dataclass(frozen=True)
class Result:
    """What a run came to: the exported model, steps done, wall-clock seconds over all resumes, and if it is done."""

    model: Path
    step: int
    seconds: float
    finished: bool


def check(recipe: Mapping[str, Any], overrides: Sequence[str] = ()) -> None:
    """Raise what `train` would of the recipe itself; no data are read and nothing is written."""
    build(override(recipe, overrides))


def train(recipe: Mapping[str, Any] | str | Path, out: str | Path, overrides: Sequence[str] = ()) -> Result:
    """Train from a recipe into the folder `out`, or go on with what is there.

    SIGINT or SIGTERM ends the run, saved, after the step at hand. Raises ValueError, FileNotFoundError or
    OSError, in one line, for what cannot be; FloatingPointError where the training diverged.
    """
    table = override(read(recipe) if isinstance(recipe, str | Path) else recipe, overrides)
    folder, run = Path(out), build(table)
    if run.training.threads:
        torch.set_num_threads(run.training.threads)
    # Accelerate keeps its first settings for the life of the process; a second run may want others.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=PRECISIONS[run.training.precision],
        gradient_accumulation_steps=run.training.accumulate,
    )
    rank, main = accelerator.process_index, accelerator.is_main_process
    if accelerator.num_processes > 1:
        atexit.register(_leave)
    for module in run.modules():
        module.to(accelerator.device)
    rng = generator("loss", run.training.seed, rank)
    _restore(run, folder, rng, accelerator)
    sheet = _sheet(run, folder) if main else None
    images = run.data.load()
    with asked_to_stop() as stop:
        with deaf():  # the loaders must outlive the step at hand
            first = run.step * run.training.accumulate
            batches = run.data.batches(images, first, rank, accelerator.num_processes, run.training.channels_last)
        finished = _steps(run, folder, accelerator, rng, batches, sheet, stop)
        del batches  # ends the loaders: only then does the system tell what they cost
        _save(run, folder, rng, accelerator)
        accelerator.wait_for_everyone()  # nobody leaves while the first process writes
    return Result(folder / "model", run.step, run.wall(), finished)


def _leave() -> None:
    """End the process group while Python still lives: its threads, met by the teardown, can abort a finished run."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _sheet(run: Run, folder: Path) -> Sheet | None:
    """What to look at while it trains."""
    if isinstance(run.method, Scott):
        return live(run.method, run.data, run.preview, folder, run.recipe)
    return run.data.sheet(run.preview, folder / "preview")


def _steps(
    run: Run,
    folder: Path,
    accelerator: Accelerator,
    rng: torch.Generator,
    batches: Iterator[Batch],
    sheet: Sheet | None,
    stop: threading.Event,
) -> bool:
    """Steps until the end or a signal; whether it was the end."""
    training, start, main = run.training, run.step, accelerator.is_main_process
    phase = run.method.phases[-1]

    def progress(step: int) -> float:
        return _agreed(accelerator, training.progress(step, run.wall()))

    if progress(start) >= 1:
        return True
    records = fit(
        run.method,
        batches,
        run.optimizers,
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
            if main and record.step == start + 1:  # what fails before leaves nothing behind
                write_json(folder / "recipe.json", run.recipe)
            run.step, run.skipped = record.step, before + record.skipped
            window.append(record)
            bar.update()
            finished, stopped = progress(record.step) >= 1, _agreed(accelerator, float(stop.is_set())) > 0
            if record.step % training.log_every == 0 or finished or stopped:
                values = _summary(window) | {
                    "lr": run.optimizers[phase].param_groups[0]["lr"],
                    "wall": round(run.wall(), 1),
                }
                bar.set_postfix(loss=f"{values[f'{phase}/loss']:.4f}")
                log.write(record.step, values)
                window.clear()
            if sheet and (finished or record.step % run.preview.every == 0):
                log.write(record.step, sheet(run.average.module, run.space, record.step))
                if isinstance(sheet, LivePanel) and sheet.best is not None and sheet.best[1] == record.step:
                    _export(run, folder / "best", {"panel": sheet.verdict()})
            if finished or stopped:
                return finished
            if record.step % training.save_every == 0:
                _save(run, folder, rng, accelerator)
    raise ValueError("the batches ended before the training did")


def _summary(window: Sequence[Record]) -> dict[str, float]:
    """Means over some records."""
    means = {name: sum(r.logs[name] for r in window) / len(window) for name in window[0].logs}
    seconds = sum(r.seconds for r in window)
    pace = {"steps_per_second": len(window) / seconds, "waiting": sum(r.waiting for r in window) / seconds}
    return {name: round(value, 6) for name, value in (means | pace).items()} | {"skipped": window[-1].skipped}


def _save(run: Run, folder: Path, rng: torch.Generator, accelerator: Accelerator) -> None:
    """State first, then the model: the model can be made from the state. All processes call, the first one writes."""
    generators = accelerator.gather(rng.get_state()[None].to(accelerator.device)).cpu()
    if not accelerator.is_main_process:
        return
    bundle = {
        "trained": {phase: module.state_dict() for phase, module in run.trained.items()},
        "method": run.method.state_dict(),
        "average": run.average.state_dict(),
        "optimizers": {phase: optimizer.state_dict() for phase, optimizer in run.optimizers.items()},
        "generators": generators,
        "skipped": run.skipped,
        "seconds": run.wall(),
        "cpu": run.cpu_used(),
        "recipe": json.dumps(run.recipe),
    }
    state.store(folder / "state", run.step, bundle, run.training.keep)
    _export(run, folder / "model")


def _export(run: Run, folder: Path, more: Mapping[str, Any] | None = None) -> None:
    """The averaged model, with what there is to know of its training."""
    facts = {
        "steps": run.step,
        "samples": run.step * run.training.accumulate * run.data.batch,
        "wall_seconds": round(run.wall()),
        "cpu_seconds": round(run.cpu_used()),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "skipped": run.skipped,
        "torch": str(torch.__version__),
        **run.data.facts(),
        **(more or {}),
        "recipe": run.recipe,
    }
    checkpoint.save(folder, run.average.module, run.space, facts, DTYPES[run.training.weights])


def _restore(run: Run, folder: Path, rng: torch.Generator, accelerator: Accelerator) -> None:
    """Take up the newest state in `folder`, if there is one."""
    saved = state.latest(folder / "state")
    if saved is None:
        return
    before, now = json.loads(saved["recipe"]), json.loads(json.dumps(run.recipe))
    if changed := [name for name in (*FIXED, "optimizer") if not _same(name, before.get(name), now.get(name))]:
        raise ValueError(
            f"{folder}: holds a run with another [{changed[0]}]: train into a new folder, or restore that section"
        )
    for phase, module in run.trained.items():
        module.load_state_dict(saved["trained"][phase])
        optimizer = run.optimizers[phase]
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(saved["optimizers"][phase])
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = group["lr"] = rate
    run.method.load_state_dict(saved["method"])
    run.average.load_state_dict(saved["average"])
    run.step, run.skipped, run.seconds, run.cpu = (saved[key] for key in ("step", "skipped", "seconds", "cpu"))
    rank, generators = accelerator.process_index, saved.get("generators", ())
    if len(generators) == accelerator.num_processes:
        rng.set_state(generators[rank].clone())  # a row as it is crashes torch 2.13
    else:  # on another number of processes it is another run: fresh numbers, never the old ones again
        rng.manual_seed(generator("loss", run.training.seed, rank, run.step).initial_seed())


def _same(section: str, before: Any, now: Any) -> bool:
    """Whether a state fits; of an optimiser only the kind matters."""
    return bool(before["name"] == now["name"] if section == "optimizer" else before == now)


def _agreed(accelerator: Accelerator, value: float) -> float:
    """The value of the first process, on all of them: clocks and signals differ, decisions must not."""
    if accelerator.num_processes == 1:
        return value
    return float(broadcast(torch.tensor(value, device=accelerator.device)))
