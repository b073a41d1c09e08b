"""The state of an unfinished run: all that is needed to go on as if nothing had happened.

    <out>/state/step-00001200.pt    tensors, numbers and strings; read with weights_only=True

Inference never reads these; they are not models. The last few are kept, and a damaged newest one is passed over.
"""

import warnings
from pathlib import Path
from typing import Any

import torch

from .files import replacing

__all__ = ["latest", "store"]


def store(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write the state after `step` steps atomically, and drop all but the last `keep`."""
    path = folder / f"step-{step:08d}.pt"
    with replacing(path) as part:
        torch.save({"step": step, **state}, part)
    for old in sorted(folder.glob("step-*.pt"))[:-keep]:
        old.unlink(missing_ok=True)
    return path


def latest(folder: Path) -> dict[str, Any] | None:
    """The newest state that can be read, on the CPU; None where there is none. ValueError if all are damaged."""
    files = sorted(folder.glob("step-*.pt"), reverse=True)
    for path in files:
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        except Exception as error:  # a damaged zip raises whatever its first wrong byte leads to
            warnings.warn(f"{path}: damaged, passed over ({type(error).__name__})", stacklevel=2)
    if files:
        raise ValueError(f"{folder}: none of the {len(files)} states can be read: start in a new folder")
    return None
