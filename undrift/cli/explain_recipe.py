"""What a recipe will do, before it does."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .. import registry
from ..training import recipe
from ..training.photographs import Photographs
from ..training.plan import Schedule, Training
from ..training.preview import Preview
from .errors import one_line
from .text import described, rows, times_of

__all__ = ["explain_recipe"]

WRITTEN = "model/ (what `undrift restore --model` takes), state/, log.jsonl, recipe.json"


def explain_recipe(path: Path) -> str:
    """Its parts, data, length, and estimates of size and memory; raises what the training would."""
    tables = recipe.override(recipe.read(path))
    process = registry.build("process", tables["process"])
    prediction = registry.build("prediction", tables["prediction"])
    registry.build("space", tables["space"])
    registry.build("density", tables["density"])
    registry.build("weighting", tables["weighting"], prediction=prediction)
    with torch.device("meta"):
        network = registry.build("network", tables["network"])
        registry.build("optimizer", tables["optimizer"], network.parameters())
    training = recipe.call(Training, "training", tables)
    data = recipe.call(Photographs, "data", tables)
    preview = recipe.call(Preview, "preview", tables)
    recipe.call(Schedule, "schedule", tables)
    count = sum(p.numel() for p in network.parameters())
    facts = {
        "recipe": str(path),
        "process": described(registry.describe(process)),
        "times": times_of(process),
        **{name: described(tables[name]) for name in ("prediction", "space", "density", "weighting", "optimizer")},
        "network": described(registry.describe(network)),
        "parameters": f"{count:,}; model of {_mib(count * (2 if training.weights == 'float16' else 4))}",
        **_photographs(data),
        "batch": f"{data.batch} crops of {data.crop} x {data.crop}" + _times(training.accumulate),
        "length": _length(training),
        "precision": training.precision,
        "memory": _memory(network, count, data, training),
        "writes": WRITTEN + (f", preview/ every {preview.every:,} steps" if preview.every else ""),
    }
    return rows(facts)


def _photographs(data: Photographs) -> dict[str, str]:
    tasks = f"{len(data.tasks)}: {', '.join(data.tasks)}"
    try:
        trained, held = data.split()
    except (OSError, ValueError) as error:
        return {"photographs": f"MISSING: {one_line(error)}", "tasks": tasks}
    return {"photographs": f"{len(trained):,} to train on, {len(held):,} held out", "tasks": tasks}


def _times(accumulate: int) -> str:
    return f", {accumulate} batches per step" if accumulate > 1 else ""


def _length(training: Training) -> str:
    ends = [f"{training.steps:,} steps"] * bool(training.steps) + [f"{training.minutes:g} minutes"] * bool(
        training.minutes
    )
    return ", or ".join(ends) + (", whichever ends first" if len(ends) > 1 else "")


def _memory(network: nn.Module, count: int, data: Photographs, training: Training) -> str:
    """An estimate: weights, gradient, two moments and the average; what the backward pass keeps; the photographs."""
    parts = {"weights and optimiser": 5 * 4 * count}
    if activations := _activations(network, data):
        parts["activations"] = activations * (2 if training.precision == "bfloat16" else 4)
    with suppress(OSError, ValueError):  # said above
        parts["photographs"] = _decoded(data.split()[0])
    whole = sum(parts.values())
    return f"about {_mib(whole)}, and the libraries: " + ", ".join(
        f"{name} {_mib(size)}" for name, size in parts.items()
    )


def _activations(network: nn.Module, data: Photographs) -> int:
    """Numbers that the layers put out for one batch, counted on the meta device, where nothing is computed."""
    seen = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal seen
        seen += output.numel() if isinstance(output, Tensor) else 0

    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    z = torch.zeros(data.batch, 3, data.crop, data.crop, device="meta")
    try:
        network(z, z[:, 0, 0, 0], image=z)
    except Exception:  # a network of somebody else's, with other conditions
        return 0
    return seen


def _decoded(paths: Sequence[Path]) -> int:
    """Bytes of the decoded photographs, from their headers."""
    total = 0
    for path in paths:
        with Image.open(path) as header:
            total += 3 * header.width * header.height
    return total


def _mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB" if size < 2**30 else f"{size / 2**30:,.1f} GiB"
