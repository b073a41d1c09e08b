"""A folder of diffusers, as `undrift sample` takes it in place of a model of ours."""

import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .model import place

if TYPE_CHECKING:
    from ..interop.diffusers import Imported

__all__ = ["contents", "is_pipeline", "open_pipeline"]

INDEX = "model_index.json"


def is_pipeline(name: str) -> bool:
    """Whether the folder holds a pipeline of diffusers."""
    return (Path(name) / INDEX).is_file()


def open_pipeline(folder: str, device: str = "auto", threads: int = 0) -> "Imported":
    """The pipeline on its device; ValueError, in one line, for one that is not understood."""
    where = place(device, threads)
    try:
        made = json.loads((Path(folder) / INDEX).read_text(encoding="utf-8"))
        kind = made["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{Path(folder) / INDEX}: damaged, or not of diffusers: it names no _class_name") from None
    if kind in ("GenerationPipeline", "RestorationPipeline"):
        raise ValueError(f"{folder}: a {kind} of undrift: use it in Python, and its checkpoint here")
    from ..interop.diffusers_import import from_pipeline, quietly

    with quietly():
        return from_pipeline(folder).to(where)


def contents(folder: str) -> dict[str, Any]:
    """The sha256 of every part that an image depends on."""
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".json", ".safetensors", ".bin", ".txt"))
    return {str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest() for file in files}
