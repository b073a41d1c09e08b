"""What a run saves and takes up again: its state, and the model so far.

Random numbers, and the place in the data, are functions of the seed and the step, see `draws` and `data`: with the
step, the bundle holds them for every process, and for any number of processes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ..interop.diffusers_student import save_student
from ..interop.diffusers_unet import DiffusersUNet
from . import checkpoint, state
from .build import Run
from .plan import DTYPES
from .sharding import spread, whole

__all__ = ["export", "restore", "save"]

# What a saved state is the state of: these sections may not change when a run goes on.
FIXED = ("process", "prediction", "network", "space", "label", "denoiser", "method", "critic", "average")


def save(run: Run, folder: Path, accelerator: Accelerator) -> None:
    """State first, then the model: the model can be made from the state. All processes call, the first one writes."""
    writes = accelerator.is_main_process
    parts = whole(_parts(run), writes)
    if not writes:
        return
    facts = {
        "average_count": run.average.count,
        "processes": accelerator.num_processes,
        "skipped": run.skipped,
        "seconds": run.wall(),
        "cpu": run.cpu_used(),
        "recipe": json.dumps(run.recipe),
    }
    state.store(folder / "state", run.step, parts | facts, run.training.keep)
    export(run, folder / "model", parts["average"])


def _parts(run: Run) -> dict[str, Any]:
    """The tensors of a run, as they lie."""
    return {
        "trained": {phase: module.state_dict() for phase, module in run.trained.items()},
        "method": run.method.state_dict(),
        "average": run.average.module.state_dict(),
        "optimizers": {phase: optimizer.state_dict() for phase, optimizer in run.optimizers.items()},
    }


def export(run: Run, folder: Path, average: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> None:
    """The averaged model, of state dict `average`, with what there is to know of its training."""
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
    model = run.average.module
    if isinstance(model.network, DiffusersUNet):
        if run.shown is not model:
            run.shown.load_state_dict(average)
        save_student(folder, run.shown.network, facts)
        return
    weights = {name.removeprefix("network."): value for name, value in average.items()}
    checkpoint.save(folder, model, run.space, facts, DTYPES[run.training.weights], weights)


def restore(run: Run, folder: Path) -> None:
    """Take up the newest sound state in `folder`, if there is one."""
    saved = state.latest(folder / "state", mapped=run.training.shard)
    if saved is None:
        return
    before, now = json.loads(saved["recipe"]), json.loads(json.dumps(run.recipe))
    if changed := [name for name in (*FIXED, "optimizer") if not _same(name, before.get(name), now.get(name))]:
        raise ValueError(
            f"{folder}: holds a run with another [{changed[0]}]: train into a new folder, or restore that section"
        )
    for phase, module in run.trained.items():
        module.load_state_dict(spread(saved["trained"][phase], module.state_dict()))
        optimizer = run.optimizers[phase]
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(_memory(saved["optimizers"][phase], optimizer))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = group["lr"] = rate
    run.method.load_state_dict(spread(saved["method"], run.method.state_dict()))
    average = saved["average"]
    if "count" in average:  # as it was before 0.1.0
        average, saved["average_count"] = average["module"], average["count"]
    run.average.module.load_state_dict(spread(average, run.average.module.state_dict()))
    run.average.count = saved["average_count"]
    run.step, run.skipped, run.seconds, run.cpu = (saved[key] for key in ("step", "skipped", "seconds", "cpu"))


def _memory(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimiser remembers, cut as its parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    cut = {i: {key: spread(value, parameters[i]) for key, value in each.items()} for i, each in saved["state"].items()}
    return saved | {"state": cut}


def _same(section: str, before: Any, now: Any) -> bool:
    """Whether a state fits; of an optimiser only the kind matters, and of paths that there are some."""
    if section == "method" and before and now and before.get("paths") and now.get("paths"):
        before, now = ({k: v for k, v in each.items() if k not in ("paths", "paths_in")} for each in (before, now))
    return bool(before["name"] == now["name"] if section == "optimizer" else before == now)
