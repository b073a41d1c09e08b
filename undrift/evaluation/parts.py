"""Features of many images, made in parts that are kept: who starts again goes on where it was."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..metrics import Features
from ..training.files import replacing

__all__ = ["CHUNK", "Part", "collected", "prepared"]

CHUNK = 500  # images between two saves


class Part(NamedTuple):
    """Features of some images, the work that they took in all, and what judges say of each, (N, S), if any do."""

    features: Features
    evaluations: float
    seconds: float
    scores: Tensor | None = None


def _joined(parts: Sequence[Part]) -> Part:
    features, evaluations, seconds, scores = zip(*parts, strict=True)
    judged = [each for each in scores if each is not None]
    return Part(Features.joined(features), sum(evaluations), sum(seconds), torch.cat(judged) if judged else None)


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


def prepared(
    folder: Path,
    count: int,
    batch: int,
    make: Callable[[range], Part],
    share: Callable[[Sequence[int]], Sequence[int]],
) -> None:
    """The chunks among `share(their starts)` that `folder` lacks: one process's part of what `collected` then finds."""
    for start in share(range(0, count, CHUNK)):
        numbers, file = range(start, min(start + CHUNK, count)), folder / f"{start:08d}.safetensors"
        if _read(file) is None:
            _write(file, _joined([make(numbers[i : i + batch]) for i in range(0, len(numbers), batch)]))


def _write(file: Path, part: Part) -> None:
    (features, probabilities), *work, scores = part
    tensors = {"features": features, "work": torch.tensor(work, dtype=torch.float64)}
    tensors |= {} if probabilities is None else {"probabilities": probabilities}
    tensors |= {} if scores is None else {"scores": scores}
    with replacing(file) as target:
        save_file({name: value.contiguous() for name, value in tensors.items()}, target)


def _read(file: Path) -> Part | None:
    try:
        found = load_file(file)
        evaluations, seconds = found["work"].tolist()
        return Part(Features(found["features"], found.get("probabilities")), evaluations, seconds, found.get("scores"))
    except (FileNotFoundError, SafetensorError):
        return None
