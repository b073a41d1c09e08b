"""The [data] of a recipe: which photographs are trained on, which are held out, and the stream of batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from ..data import Batch, find_images, restoration_batches
from ..data.batches import load
from ..data.collection import Pictures, collection, is_collection
from ..degradations import TASKS, Degradation
from ..registry import check_keys
from .preview import Preview, Sheet

__all__ = ["Photographs"]


@final
@dataclass(frozen=True)
class Photographs:
    """Photographs degraded on the fly.

    Arguments:
        roots: files and folders, searched recursively; or tar shards and data sets of Hugging Face alone, whose images
            are read when needed, see `data.collection`.
        tasks: names of degradations; all ten by default.
        repeat: how often the images of each root are counted, 1 where not given: a few large photographs beside
            thousands of thumbnails would otherwise hardly be seen.
        weights: relative frequency of tasks, 1 where not given.
        exclude: patterns such as `"*/kodak*"`, matched against the whole path and the file name.
        hold_out_every: every n-th photograph in sorted order is never trained on; 0 holds none out.
        corrupt: damaged images of shards that each process that loads passes over, with a warning, before it gives up.
        batch, crop, canvas, zoom, tone, distract, told, crops_per_image, seed, workers: see `data.restoration_batches`.
    """

    roots: tuple[str, ...]
    tasks: tuple[str, ...] = tuple(TASKS)
    repeat: tuple[int, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    hold_out_every: int = 10
    batch: int = 16
    crop: int = 128
    canvas: int = 0
    zoom: float = 1.0
    tone: float = 0.0
    distract: float = 0.0
    told: float = 0.0
    crops_per_image: int = 2
    corrupt: int = 100
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        check_keys(self.tasks, TASKS, "task")
        if len(self.repeat) > len(self.roots) or min(self.repeat, default=1) < 1:
            raise ValueError(f"data.repeat = {self.repeat}: give one number >= 1 per root of {len(self.roots)}")
        streamed = [is_collection(root) for root in self.roots]
        if any(streamed) and (len(self.roots) > 1 or self.repeat or self.exclude):
            raise ValueError("data.roots with shards: give them as one root, without others, repeat or exclude")
        if self.corrupt < 0:
            raise ValueError(f"data.corrupt = {self.corrupt}: need at least 0")
        if self.hold_out_every < 0:
            raise ValueError(f"data.hold_out_every = {self.hold_out_every}: need a number >= 2, or 0 for none")

    def split(self) -> tuple[list[Path], list[Path]]:
        """(trained on, held out)."""
        paths = find_images(self.roots)
        kept = [path for path in paths if not any(_matches(path, pattern) for pattern in self.exclude)]
        held = set(kept[:: self.hold_out_every]) if self.hold_out_every else set()
        if len(held) == len(kept):
            raise ValueError(f"nothing left to train on: {len(paths)} images, {len(kept)} not excluded, all held out")
        return [path for path in kept if path not in held], sorted(held)

    def counts(self) -> tuple[int, int]:
        """How many are trained on, and held out."""
        trained, held = self._streamed() if is_collection(self.roots[0]) else self.split()
        return len(trained), len(held)

    def chosen(self) -> dict[str, Degradation]:
        return {name: TASKS[name] for name in self.tasks}

    def load(self) -> Sequence[np.ndarray]:
        """The training photographs, (H, W, 3) uint8, without those smaller than the crop."""
        if is_collection(self.roots[0]):
            return self._streamed()[0]
        times = dict(zip(self.roots, self.repeat, strict=False))
        trained = self.split()[0]
        homes = {path: root for root in self.roots for path in find_images([root])}
        images = [image for path in trained for image in load([path]) * times.get(homes[path], 1)]
        large = [image for image in images if min(image.shape[:2]) >= self.crop]
        if not large:
            raise ValueError(f"none of the {len(images)} photographs has both sides >= crop = {self.crop}")
        return large

    def sheet(self, preview: Preview, folder: Path) -> Sheet | None:
        """Held-out photographs to look at while it trains."""
        if not preview.every:
            return None
        if is_collection(self.roots[0]):
            held = self._streamed()[1]
            count = min(len(held), len(self.tasks))
            return preview.sheet([held[i * len(held) // count] for i in range(count)], self.chosen(), folder)
        return preview.sheet(self.split()[1], self.chosen(), folder)

    def _streamed(self) -> tuple[Pictures, Pictures]:
        """(trained on, held out), of shards."""
        images = collection(self.roots[0])
        every = np.arange(len(images))
        held = every[:: self.hold_out_every] if self.hold_out_every else every[:0]
        trained = np.setdiff1d(every, held)
        if not len(trained):
            raise ValueError(f"nothing left to train on: {len(images)} images, all held out")
        return (
            Pictures(images, trained, self.crop, self.corrupt),  # type: ignore[arg-type]
            Pictures(images, held, 1, self.corrupt),  # type: ignore[arg-type]
        )

    def facts(self) -> dict[str, Any]:
        """What `undrift restore --task` needs to know: the names of the tasks, in the order of their labels."""
        return {"tasks": list(self.tasks)} if self.told else {}

    def batches(
        self, images: Sequence[np.ndarray], start: int, rank: int = 0, world: int = 1, channels_last: bool = False
    ) -> Iterator[Batch]:
        """Batches `start`, `start + 1`, ... of process `rank` of `world`."""
        stream = restoration_batches(
            images,
            self.chosen(),
            self.batch,
            self.crop,
            self.seed,
            start,
            self.workers,
            weights=self.weights,
            crops_per_image=self.crops_per_image,
            canvas=self.canvas,
            zoom=self.zoom,
            tone=self.tone,
            distractors={name: TASKS[name] for name in ("hazy", "shadowed")},
            distract=self.distract,
            told=self.told,
            rank=rank,
            world=world,
        )
        return map(_channels_last, stream) if channels_last else stream


def _channels_last(batch: Batch) -> Batch:
    tensors = {id(v): v for v in (batch.x, batch.y, *batch.cond.values()) if v is not None}
    new = {k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in tensors.items()}
    y = None if batch.y is None else new[id(batch.y)]
    return Batch(new[id(batch.x)], y, {name: new[id(v)] for name, v in batch.cond.items()})


def _matches(path: Path, pattern: str) -> bool:
    return fnmatch(str(path), pattern) or fnmatch(path.name, pattern)
