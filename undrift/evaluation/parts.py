"""Features of many images, made in parts that are kept: who starts again goes on where it was."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..metrics import Features
from ..training.files import replacing

__all__ = ["CHUNK", "Part", "collected"]

CHUNK = 500  # images between two saves


class Part(NamedTuple):
    """Features of some images, and the work that they took in all."""

    features: Features
    evaluations: float
    seconds: float


def _joined(parts: Sequence[Part]) -> Part:
    features, evaluations, seconds = zip(*parts, strict=True)
    return Part(Features.joined(features), sum(evaluations), sum(seconds))


def collected(folder: Path, count: int, batch: int, make: Callable[[range], Part]) -> Part:
    """`make` of 0 .. count - 1, a batch at a time; what `folder` holds is not made again."""
    parts = []
    for start in range(0, count, CHUNK):
        numbers, file = range(start, min(start + CHUNK, count)), folder / f"{start:08d}.safetensors"
        part = _read(file)
        if part is None:
            part = _joined([make(numbers[i : i + batch]) for i in range(0, len(numbers), batch)])
            _write(file, part)
        parts.append(part)
    return _joined(parts)


def _write(file: Path, part: Part) -> None:
    (features, probabilities), *work = part
    tensors = {"features": features, "work": torch.tensor(work, dtype=torch.float64)}
    tensors |= {} if probabilities is None else {"probabilities": probabilities}
    with replacing(file) as target:
        save_file({name: value.contiguous() for name, value in tensors.items()}, target)


def _read(file: Path) -> Part | None:
    try:
        found = load_file(file)
        return Part(Features(found["features"], found.get("probabilities")), *found["work"].tolist())
    except (FileNotFoundError, SafetensorError):
        return None
