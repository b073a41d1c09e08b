"""The [data] of a recipe for a generator: `name = "labelled"`, small images with classes."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import torch

from ..data import Batch, write
from ..data.labelled import LabelledImages, labelled_batches, read_labelled
from ..denoiser import Denoiser
from ..generation import generate
from ..space import Space
from .preview import Preview

__all__ = ["Grid", "Labelled"]


@final
@dataclass(frozen=True)
class Grid:
    """Samples of fixed seeds, one row per class, written as `step-<n>.png` into `folder`."""

    shape: tuple[int, ...]
    classes: int
    steps: int
    folder: Path
    columns: int = 10

    def __call__(self, denoiser: Denoiser, space: Space, step: int) -> dict[str, float]:
        """Write the picture; there is nothing to measure."""
        rows = max(self.classes, 1)
        seeds = [row * self.columns + column for row in range(rows) for column in range(self.columns)]
        label = torch.arange(rows).repeat_interleave(self.columns) if self.classes else None
        batches = generate(
            denoiser, denoiser.process, space, shape=self.shape, seeds=seeds, steps=self.steps, label=label,
            device=next(denoiser.parameters()).device,
        )  # fmt: skip
        images = torch.cat(list(batches)).cpu()
        lines = [torch.cat(list(images[i : i + self.columns]), 2) for i in range(0, len(images), self.columns)]
        self.folder.mkdir(parents=True, exist_ok=True)
        write(self.folder / f"step-{step:08d}.png", torch.cat(lines, 1))
        return {}


@final
@dataclass(frozen=True)
class Labelled:
    """Small images, held in memory.

    Arguments:
        path: an .npz file, or a folder with one folder per class; see `data.labelled`.
        size: side to which the images of a folder are cropped and scaled; 0 takes them as they are.
        names: of the classes, in the order of their labels; by default those of the folders, or numbers.
        classes: whether the network is told the class.
        drop: share of labels hidden from it, for classifier-free guidance.
        flip: mirror every other image, at random.
        batch, seed: of the stream.
    """

    path: str
    size: int = 0
    names: tuple[str, ...] = ()
    classes: bool = True
    drop: float = 0.1
    flip: bool = True
    batch: int = 128
    seed: int = 0

    def load(self) -> LabelledImages:
        """The training split."""
        data = _read(self.path, self.size)
        if self.names and len(self.names) != len(data.names):
            raise ValueError(f"data.names: {len(self.names)} names, but {self.path} has {len(data.names)} classes")
        return data

    def batches(
        self, images: LabelledImages, start: int, rank: int = 0, world: int = 1, channels_last: bool = False
    ) -> Iterator[Batch]:
        """Batches `start`, `start + 1`, ... of process `rank` of `world`."""
        return labelled_batches(
            images, self.batch, self.seed, start,
            flip=self.flip, drop=self.drop, classes=self.classes, rank=rank, world=world,
        )  # fmt: skip

    def sheet(self, preview: Preview, folder: Path) -> Grid | None:
        """The samples to look at while it trains."""
        data = self.load()
        shape = tuple(data.images.shape[1:])
        return Grid(shape, len(data.names) * self.classes, preview.steps, folder) if preview.every else None

    def facts(self) -> dict[str, Any]:
        """What a sampler needs to know: the shape of an image and the names of the classes."""
        data = self.load()
        names = list(self.names or data.names)
        return {"shape": list(data.images.shape[1:]), "classes": names if self.classes else []}


@lru_cache(maxsize=2)
def _read(path: str, size: int) -> LabelledImages:
    return read_labelled(path, "train", size)
