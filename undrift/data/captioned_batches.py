"""An endless stream of captioned images: batch k is a function of (seed, k), on any number of processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .batch import rows
from .captioned import Captioned
from .labelled import indices
from .loader import loaded
from .seeds import generator

__all__ = ["captioned_batches"]


@final
@dataclass(frozen=True)
class Steps(Dataset[tuple[Tensor, list[str]]]):
    """step -> this process's rows of the images (B, 3, size, size) of that step, and their captions."""

    data: Captioned
    batch: int
    size: int
    seed: int
    drop: float
    flip: bool
    rank: int
    world: int

    def __getitem__(self, step: int) -> tuple[Tensor, list[str]]:
        mine = rows(self.batch, self.rank, self.world)
        index = indices(len(self.data), step * self.batch + mine.start, len(mine), self.seed)
        rng = generator(self.seed, "captioned", step)
        x = self.data.images(index.tolist(), self.size)
        if self.flip:
            x = torch.where(
                (torch.rand(self.batch, generator=rng)[mine.start : mine.stop] < 0.5)[:, None, None, None], x.flip(3), x
            )
        dropped = (torch.rand(self.batch, generator=rng)[mine.start : mine.stop] < self.drop).tolist()
        return x, ["" if drop else self.data.captions[int(i)] for i, drop in zip(index, dropped, strict=True)]


def captioned_batches(
    data: Captioned,
    batch: int,
    size: int,
    seed: int,
    start: int = 0,
    *,
    drop: float = 0.0,
    flip: bool = False,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[Tensor, list[str]]]:
    """Images (B, 3, size, size) in [0, 1] with their captions, at steps `start`, `start + 1`, ... without end.

    Every epoch is another permutation, each picture once; process `rank` makes part of `world` equal ones of a batch.
    `drop` is the share of captions replaced by "". Raises ValueError for values out of range.
    """
    if batch < 1 or not 0 <= drop <= 1 or workers < 0:
        raise ValueError(f"batch = {batch}, drop = {drop}, workers = {workers}: need at least 1, a share, at least 0")
    steps = Steps(data, batch, size, seed, drop, flip, rank, world)
    return loaded(steps, start, workers)
