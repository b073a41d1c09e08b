"""A folder of diffusers, or a student of one, as `undrift sample` takes it in place of a model of ours."""

import json
from pathlib import Path
from typing import Any

from ..interop.diffusers_import import Imported, from_pipeline, quietly
from ..interop.diffusers_student import FACTS
from ..interop.diffusers_text import open_text_to_image
from ..training.files import digests
from .model import place

__all__ = ["contents", "open_pipeline"]

INDEX = "model_index.json"


def open_pipeline(folder: str, device: str = "auto", threads: int = 0) -> tuple[Imported, dict[str, Any] | None]:
    """The pipeline on its device, and the method of a student of ours; ValueError for what is not understood."""
    where = place(device, threads)
    if (Path(folder) / FACTS).is_file() or not (Path(folder) / INDEX).is_file():
        parts = open_text_to_image(folder).to(where)
        return parts.imported, parts.facts["recipe"]["method"]
    try:
        made = json.loads((Path(folder) / INDEX).read_text(encoding="utf-8"))
        kind = made["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{Path(folder) / INDEX}: damaged, or not of diffusers: it names no _class_name") from None
    if kind in ("GenerationPipeline", "RestorationPipeline"):
        raise ValueError(f"{folder}: a {kind} of undrift: use it in Python, and its checkpoint here")
    with quietly():
        return from_pipeline(folder).to(where), None


def contents(folder: str) -> dict[str, Any]:
    """The sha256 of every part that an image depends on."""
    return digests(folder, ".json", ".safetensors", ".bin", ".txt")
