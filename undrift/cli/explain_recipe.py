"""What a recipe will do, before it does."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from .. import registry
from ..data.collection import is_collection
from ..training import recipe
from ..training.captions import Captions
from ..training.checkpoint import read_card
from ..training.distillation import Distillation
from ..training.labelled import Labelled
from ..training.photographs import Photographs
from ..training.plan import Schedule, Training
from ..training.preview import Preview
from ..training.sources import source
from ..training.streamed import Streamed
from .errors import one_line
from .text import described, rows, times_of

__all__ = ["explain_recipe"]

WRITTEN = "model/ (what --model takes), state/, log.jsonl, recipe.json"


def explain_recipe(path: Path) -> str:
    """Its parts, data, length, and estimates of size and memory; raises what the training would."""
    tables = recipe.override(recipe.read(path))
    student = recipe.method(tables) == "scott"
    if isinstance(data := source(tables), Captions):
        return _text_student(path, tables, data)
    if student:  # it has of its teacher what the recipe does not say
        card = read_card(tables["method"]["teacher"])
        tables |= {part: card[part] for part in ("process", "prediction", "space", "network")}
    process = registry.build("process", tables["process"])
    named = [name for name in ("prediction", "space", "density", "weighting", "optimizer") if name in tables]
    made = {name: registry.build(name, tables[name]) for name in ("prediction", "space", "density") if name in tables}
    if "weighting" in tables:
        registry.build("weighting", tables["weighting"], prediction=made.get("prediction"), process=process)
    with torch.device("meta"):
        network = registry.build("network", tables["network"])
        registry.build("optimizer", tables["optimizer"], network.parameters())
    training = recipe.call(Training, "training", tables)
    preview = recipe.call(Preview, "preview", tables)
    recipe.call(Schedule, "schedule", tables)
    count = sum(p.numel() for p in network.parameters())
    facts = {
        "recipe": str(path),
        "process": described(registry.describe(process)),
        "times": times_of(process),
        "trains": f"a student of {tables['method']['teacher']}" if student else recipe.method(tables).replace("_", " "),
        **({"method": described(tables["method"])} if student else {}),
        **({"critic": described({"name": "heads on the teacher", **tables["critic"]})} if "critic" in tables else {}),
        **{name: described(tables[name]) for name in named},
        "network": described(registry.describe(network)),
        "parameters": f"{count:,}; model of {_mib(count * (2 if training.weights == 'float16' else 4))}",
        **(_photographs(data) if isinstance(data, Photographs) else _labelled(data)),
        "batch": _batch(data) + _times(training.accumulate),
        "length": _length(training),
        "precision": training.precision,
        "memory": _memory(network, count, data, training),
        "writes": WRITTEN + (f", preview/ every {preview.every:,} steps" if preview.every else ""),
    }
    return rows(facts)


def _text_student(path: Path, tables: dict[str, Any], data: Captions) -> str:
    """Of a student of a pipeline; its sizes are the pipeline's."""
    training = recipe.call(Training, "training", tables)
    recipe.call(Distillation, "method", {"method": recipe.settings(tables)})
    recipe.call(Preview, "preview", tables)
    recipe.call(Schedule, "schedule", tables)
    try:
        images = f"{len(data.load()):,} with captions"
    except (OSError, ValueError) as error:
        images = f"MISSING: {one_line(error)}"
    facts = {
        "recipe": str(path),
        "trains": f"a student of the pipeline {tables['method']['teacher']}",
        "method": described(tables["method"]),
        **({"critic": described({"name": "heads on the teacher", **tables["critic"]})} if "critic" in tables else {}),
        "optimizer": described(tables["optimizer"]),
        "images": images,
        "batch": f"{data.batch} images" + _times(training.accumulate),
        "length": _length(training),
        "precision": training.precision,
        "writes": "model/ (for plain diffusers), state/, log.jsonl, recipe.json, preview/, report.html",
    }
    return rows(facts)


def _photographs(data: Photographs) -> dict[str, str]:
    tasks = f"{len(data.tasks)}: {', '.join(data.tasks)}"
    try:
        trained, held = data.counts()
    except (OSError, ValueError) as error:
        return {"photographs": f"MISSING: {one_line(error)}", "tasks": tasks}
    return {"photographs": f"{trained:,} to train on, {held:,} held out", "tasks": tasks}


def _labelled(data: Labelled | Streamed) -> dict[str, str]:
    try:
        if isinstance(data, Streamed):
            told = f"{len(data.names)}: {', '.join(data.names)}" if data.names else "none"
            what = f"{len(data.load()):,}, read when needed, as 3 x {data.size} x {data.size}"
            return {"images": what, "classes": told}
        images = data.load()
    except (OSError, ValueError) as error:
        return {"images": f"MISSING: {one_line(error)}"}
    names = data.names or images.names
    told = f"{len(names)}: {', '.join(names)}" if data.classes else "none"
    return {"images": f"{len(images):,} of {' x '.join(map(str, images.images.shape[1:]))}", "classes": told}


def _batch(data: Photographs | Labelled | Streamed) -> str:
    if isinstance(data, Photographs):
        return f"{data.batch} crops of {data.crop} x {data.crop}"
    return f"{data.batch} images"


def _times(accumulate: int) -> str:
    return f", {accumulate} batches per step" if accumulate > 1 else ""


def _length(training: Training) -> str:
    ends = [f"{training.steps:,} steps"] * bool(training.steps) + [f"{training.minutes:g} minutes"] * bool(
        training.minutes
    )
    return ", or ".join(ends) + (", whichever ends first" if len(ends) > 1 else "")


def _memory(network: nn.Module, count: int, data: Photographs | Labelled | Streamed, training: Training) -> str:
    """An estimate: weights, gradient, two moments and the average; what the backward pass keeps; the photographs."""
    parts = {"weights and optimiser": 5 * 4 * count}
    if activations := _activations(network, data):
        parts["activations"] = activations * (2 if training.precision == "bfloat16" else 4)
    with suppress(OSError, ValueError):  # said above
        if isinstance(data, Photographs) and not is_collection(data.roots[0]):
            parts["photographs"] = _decoded(data.split()[0])
        elif isinstance(data, Labelled):
            parts["images"] = data.load().images.numel()
    whole = sum(parts.values())
    return f"about {_mib(whole)}, and the libraries: " + ", ".join(
        f"{name} {_mib(size)}" for name, size in parts.items()
    )


def _activations(network: nn.Module, data: Photographs | Labelled | Streamed) -> int:
    """Numbers that the layers put out for one batch, counted on the meta device, where nothing is computed."""
    seen = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal seen
        seen += output.numel() if isinstance(output, Tensor) else 0

    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    try:
        if isinstance(data, Photographs):
            z = torch.zeros(data.batch, 3, data.crop, data.crop, device="meta")
            network(z, z[:, 0, 0, 0], image=z)
        else:
            shape = (3, data.size, data.size) if isinstance(data, Streamed) else data.load().images.shape[1:]
            z = torch.zeros(data.batch, *shape, device="meta")
            network(z, z[:, 0, 0, 0])
    except Exception:  # a network of somebody else's, with other conditions; or no data
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
