"""Recipes of distillations, made of a teacher, a preset and data: what `undrift distill` runs.

    train(distilling("fashion", "scott", "fashion_mnist.npz"), "runs/student")

| preset | grid | jump | teacher's solver | distance | critic |
|---|---|---|---|---|---|
| `lcm` | 1000 nodes in time | 20, in 1 step | DDIM | squared | none |
| `scott-paper` | 1000 nodes in time | 24, in 3 steps | ER-SDE-5, order 2 | squared | hinge, told the time as printed |
| `scott` | 120 nodes in lambda | 3, in 3 steps | ER-SDE-5, order 2 | squared | least squares, noised |
| `scott-es` | 120 nodes in lambda | 3, in 3 steps | ER-SDE-5, order 2 | energy score | none; a noise input instead |
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from .. import generation, restoration
from ..data.labelled import read_labelled
from ..degradations import TASKS
from ..interop.diffusers_student import is_pipeline
from ..registry import check_keys
from .checkpoint import bundled, method_of, observes, read_card
from .text_presets import distilling_text

__all__ = ["PRESETS", "distillable", "distilling", "restores"]

ER_SDE = {"name": "exponential", "order": 2, "tau": {"name": "er_sde_5"}}
STEADY = {"spacing": "lambda", "nodes": 120, "jump": 3, "substeps": 3, "solver": ER_SDE}

PRESETS: dict[str, dict[str, Any]] = {
    "lcm": {
        "method": {
            "spacing": "time", "nodes": 1000, "jump": 20, "substeps": 1, "solver": {"name": "exponential", "order": 1},
        },
    },
    "scott-paper": {
        "method": {"spacing": "time", "nodes": 1000, "jump": 24, "substeps": 3, "solver": ER_SDE},
        "critic": {"rank": 16, "weight": 0.4, "game": {"name": "hinge"}, "time": "published"},
    },
    "scott": {
        "method": STEADY,
        "critic": {"rank": 16, "weight": 0.4, "game": {"name": "least_squares"}, "time": "noised"},
    },
    "scott-es": {"method": STEADY | {"distance": {"name": "energy"}, "noise": 1}},
}  # fmt: skip

COMMON: dict[str, Any] = {
    "optimizer": {"name": "adamw", "lr": 2e-4, "betas": [0.9, 0.99], "weight_decay": 0.0},
    "critic_optimizer": {"name": "adamw", "lr": 1e-3, "betas": [0.0, 0.99], "weight_decay": 0.0},
    "schedule": {"warmup": 50, "final": 0.05},
    "average": {"name": "exponential", "decay": 0.999},
    "training": {"steps": 4000, "channels_last": True},
    "preview": {"every": 250, "steps": 2},
}
# How photographs are degraded, unless the teacher's own recipe says it: as for the bundled restorer.
DEGRADED = {"batch": 8, "crop": 96, "canvas": 112, "crops_per_image": 1, "zoom": 2.5, "tone": 0.9, "distract": 0.3}
KEPT = (*DEGRADED, "tasks", "weights", "told")


def restores(card: Mapping[str, Any]) -> bool:
    """Whether a model needs a photograph to start from."""
    return bool(observes(card["space"]) or card["network"].get("cond_channels", 0))


def distillable(teacher: str) -> dict[str, Any]:
    """The card of a model that can be a teacher; ValueError or FileNotFoundError, in one line, for another."""
    card = read_card(teacher)
    if card["kind"] != "denoiser":
        raise ValueError(f"{teacher}: a {card['kind']}, and only generators and restorers can be distilled")
    if (taught := method_of(card)) is not None:
        raise ValueError(
            f"{teacher}: a student itself, whose steps follow no path: distil its teacher, {taught.get('teacher')}"
        )
    return card


def distilling(
    teacher: str, preset: str = "scott", data: str | Path | None = None, *, there: bool = True, rank: int = 0
) -> dict[str, Any]:
    """The recipe; everything in it may still be changed, see `recipe.override`.

    Arguments:
        teacher: a checkpoint, folder or bundled name: any generator or restorer of undrift; or the folder of a
            text-to-image pipeline of diffusers, see `text_presets`.
        preset: a name in `PRESETS`.
        data: for a generator an .npz or a folder of images like the teacher's, for a restorer a folder of clean
            photographs, for a pipeline captioned images.
        rank: of the low-rank student of a pipeline; 0 for a whole one.
        there: whether the data can be looked at already.

    Raises ValueError or FileNotFoundError in one line for what cannot be distilled, or not on these data.
    """
    if is_pipeline(teacher):
        if data is None:
            raise ValueError(f"no data to distil {teacher} on: give --data, captioned images, or --prompts")
        return distilling_text(teacher, preset, data, COMMON, rank=rank)
    check_keys([preset], PRESETS, "preset")
    card = distillable(teacher)
    if rank:
        raise ValueError(f"rank = {rank}: only students of pipelines of diffusers may be low-rank: leave it out")
    if data is None:
        wanted = "a folder of clean photographs" if restores(card) else "an .npz or a folder of images"
        raise ValueError(f"no data to distil {teacher} on: give --data, {wanted}")
    recipe = deepcopy(COMMON | PRESETS[preset])
    end = restoration.END if restores(card) else generation.END
    recipe["method"] = {"name": "scott", "teacher": str(teacher), "end": end} | recipe["method"]
    recipe["data"] = _photographs(card, str(data)) if restores(card) else _images(card, teacher, str(data), there)
    if not restores(card):
        recipe["preview"]["features"] = _eyes(card)
    return recipe


def _taught(card: Mapping[str, Any]) -> dict[str, Any]:
    """The [data] that the teacher was trained on; empty where nothing is known."""
    table = card["training"]
    for key in ("recipe", "data"):
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else {}


def _photographs(card: Mapping[str, Any], root: str) -> dict[str, Any]:
    taught = {key: value for key, value in _taught(card).items() if key in KEPT}
    return {"roots": [root], "tasks": list(TASKS), **DEGRADED, **taught}


def _images(card: Mapping[str, Any], teacher: str, path: str, there: bool) -> dict[str, Any]:
    shape, names = card["training"].get("shape"), list(card["training"].get("classes") or [])
    if not shape:
        raise ValueError(f"{teacher}: its model.json names no shape of images under training: [C, H, W] wanted")
    size = shape[-1] if Path(path).is_dir() else 0
    if there:
        _check(teacher, shape, names, path, size)
    told = {"names": names} if names else {"classes": False}
    flip = bool(_taught(card).get("flip", True))
    return {"name": "labelled", "path": path, "size": size, "batch": 64, "drop": 0.0, "flip": flip, **told}


def _check(teacher: str, shape: Sequence[int], names: Sequence[str], path: str, size: int) -> None:
    """ValueError in one line for images that are not like the teacher's."""
    found = read_labelled(path, "train", size)
    if list(found.images.shape[1:]) != list(shape):
        raise ValueError(f"{path}: images of {tuple(found.images.shape[1:])}, but {teacher} makes {tuple(shape)}")
    if names and len(found.names) != len(names):
        raise ValueError(f"{path}: {len(found.names)} classes, but {teacher} knows {len(names)}: {', '.join(names)}")


def _eyes(card: Mapping[str, Any]) -> str:
    """A bundled classifier of the same images, for distances; none where there is none."""
    own = [card["training"].get(key) for key in ("shape", "classes")]
    for name in bundled():
        other = read_card(name)
        if other["kind"] == "classifier" and own == [other["training"].get(key) for key in ("shape", "classes")]:
            return name
    return ""
