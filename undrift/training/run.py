"""A training run from a recipe: builds the parts, calls `fit`, and writes down what it yields.

<out>/model/       the averaged model so far, a checkpoint that can be used at any time
<out>/state/       what resuming needs: the same call in the same folder goes on where the last one stopped
<out>/log.jsonl    one line every few steps
<out>/preview/     held-out photographs: degraded, restored, clean; samples of a generator; the panel of a student
<out>/best/        the averaged model that was best by the previews, where they measure; of a student see `panel`
<out>/recipe.json  the recipe as run

undrift train recipes/universal.toml --out runs/universal training.minutes=100
"""

import atexit
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from tqdm import tqdm

from ..data import Batch, generator
from ..data.batch import rows
from ..draws import Rows
from ..methods import Scott
from .alone import alone
from .arrange import arrange
from .build import Run, build, cpu_seconds
from .bundle import export, restore, save
from .files import sweep, write_json
from .fit import Draws, Record, fit
from .interrupt import asked_to_stop
from .log import Log, lines
from .panel import LivePanel, live
from .paths import Paths, read_paths, teacher_paths
from .plan import PRECISIONS
from .recipe import override, read, settings
from .sharding import whole
from .sources import Sheet
from .trouble import explained

__all__ = ["Result", "check", "train"]


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

    SIGINT, SIGTERM or SIGHUP ends the run, saved, after the step at hand. Raises ValueError, FileNotFoundError or
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
    rows(run.data.batch, rank, accelerator.num_processes)  # refuses what cannot be shared
    with alone(folder) if main else nullcontext():
        arrange(run, accelerator)
        restore(run, folder)
        if main:
            for inside in (".", "state", "model", "best", "paths"):
                sweep(folder / inside)
        with torch.random.fork_rng():
            finished = _run(run, folder, accelerator)
    return Result(folder / "model", run.step, run.wall(), finished)


def _run(run: Run, folder: Path, accelerator: Accelerator) -> bool:
    """Steps, and the last save; whether it was the end."""
    sheet = _sheet(run, folder) if accelerator.is_main_process else None
    images, paths = run.data.load(), _paths(run, folder, accelerator)
    with asked_to_stop() as stop, explained(run, folder):
        first, world = run.step * run.training.accumulate, accelerator.num_processes
        batches = run.data.batches(images, first, accelerator.process_index, world, run.training.channels_last)
        if paths:
            batches = paths.beside(batches, run.data.batch, run.training.seed, first, accelerator.process_index, world)
        finished = _steps(run, folder, accelerator, batches, sheet, stop)
        del batches  # ends the loaders: only then does the system tell what they cost
        save(run, folder, accelerator)
        accelerator.wait_for_everyone()  # nobody leaves while the first process writes
    return finished


def _paths(run: Run, folder: Path, accelerator: Accelerator) -> Paths | None:
    """Those of the teacher that a distillation keeps, made where they are not there."""
    told = settings(run.recipe)
    done = run.training.progress(run.step, run.seconds) >= 1
    if done or not (isinstance(run.method, Scott) and told.get("paths")):
        return None
    home, count, facts = Path(told.get("paths_in") or folder / "paths"), told["paths"], run.data.facts()
    accelerator.wait_for_everyone()  # the first has swept the folder
    teacher_paths(
        run.method, home, count, tuple(facts["shape"]), len(facts["classes"]),
        rank=accelerator.process_index, world=accelerator.num_processes, device=accelerator.device,
    )  # fmt: skip
    accelerator.wait_for_everyone()
    run.began, run.cpu_began = time.monotonic(), cpu_seconds()  # training.minutes are of steps
    return read_paths(home, count)


def _draws(run: Run, accelerator: Accelerator) -> Draws:
    """The random numbers of each step, by the place of its rows among those of all processes."""
    mine = rows(run.data.batch, accelerator.process_index, accelerator.num_processes)

    def draws(step: int, part: int) -> Rows:
        key = generator("loss", run.training.seed, step, part).initial_seed()
        return Rows(key, mine.start, len(mine), run.data.batch)

    return draws


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
    batches: Iterator[Batch],
    sheet: Sheet | None,
    stop: threading.Event,
) -> bool:
    """Steps until the end or a signal; whether it was the end."""
    training, start, main = run.training, run.step, accelerator.is_main_process
    phase = run.method.phases[-1]

    def progress(step: int) -> float:
        share = training.progress(step, run.wall())
        return _agreed(accelerator, share) if training.minutes else share

    if progress(start) >= 1:
        return True
    records = fit(
        run.method,
        batches,
        run.optimizers,
        accelerator=accelerator,
        generator=_draws(run, accelerator),
        start=start,
        schedule=lambda step: run.schedule.factor(step, progress(step)),
        clip=training.clip or None,
        averages=[run.average],
        patience=run.training.max_skipped,
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
            finished, stopped = progress(record.step) >= 1, _anywhere(accelerator, stop.is_set())
            if record.step % training.log_every == 0 or finished or stopped:
                values = _summary(window) | {
                    "lr": run.optimizers[phase].param_groups[0]["lr"],
                    "wall": round(run.wall(), 1),
                }
                bar.set_postfix(loss=f"{values[f'{phase}/loss']:.4f}")
                log.write(record.step, values)
                window.clear()
            if run.preview.every and (finished or record.step % run.preview.every == 0):
                average = whole(run.average.module.state_dict(), main)  # all processes take part
                if sheet:
                    log.write(record.step, _looked(run, folder, sheet, average))
            if finished or stopped:
                return finished
            if record.step % training.save_every == 0:
                save(run, folder, accelerator)
    raise ValueError("the batches ended before the training did")


def _looked(run: Run, folder: Path, sheet: Sheet, average: Mapping[str, Any]) -> Mapping[str, float | str]:
    """What a look at the averaged model gives; the best so far is kept besides."""
    if run.shown is not run.average.module:
        run.shown.load_state_dict(average)
    values = sheet(run.shown, run.space, run.step)
    if isinstance(sheet, LivePanel):
        verdict = sheet.verdict() if sheet.best is not None and sheet.best[1] == run.step else ""
    else:
        verdict = _best(folder, run.step, values)
    if verdict:
        export(run, folder / "best", average, {"panel": verdict})
    return values


def _best(folder: Path, step: int, values: Mapping[str, float | str], key: str = "preview/restored") -> str:
    """What makes a restorer the best so far, by the PSNR of its previews; "" where it is not, or none is known."""
    if key not in values:
        return ""
    before = [line[key] for line in lines(folder) if line["step"] < step and key in line]
    found = float(values[key])
    return f"best by PSNR of the previews: {found:.2f} dB at step {step:,}" if found > max(before, default=0) else ""


def _summary(window: Sequence[Record]) -> dict[str, float]:
    """Means over some records."""
    means = {name: sum(r.logs[name] for r in window) / len(window) for name in window[0].logs}
    seconds = sum(r.seconds for r in window)
    pace = {"steps_per_second": len(window) / seconds, "waiting": sum(r.waiting for r in window) / seconds}
    return {name: round(value, 6) for name, value in (means | pace).items()} | {"skipped": window[-1].skipped}


def _anywhere(accelerator: Accelerator, asked: bool) -> bool:
    """Whether any process was asked to stop: a signal may reach one, and all must leave together."""
    if accelerator.num_processes == 1:
        return asked
    count: torch.Tensor = accelerator.reduce(torch.tensor(float(asked), device=accelerator.device), "sum")
    return float(count) > 0


def _agreed(accelerator: Accelerator, value: float) -> float:
    """The value of the first process, on all of them: clocks differ, decisions must not."""
    if accelerator.num_processes == 1:
        return value
    return float(broadcast(torch.tensor(value, device=accelerator.device)))
