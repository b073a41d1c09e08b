"""Small images with classes from a collection that memory does not hold: batches for generation.

Batch k is a function of (seed, k), in this order: every epoch the files are shuffled, and the images within each group
of `mix` of them. So a run goes on in the middle of an epoch, and reads few files at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from .batch import Batch, rows
from .collection import Collection, Pictures
from .loader import loaded
from .seeds import generator

__all__ = ["order", "streamed_batches"]


@lru_cache(maxsize=2)
def order(groups: tuple[int, ...], epoch: int, seed: int, mix: int = 8) -> Tensor:
    """The images of one epoch, each once, (sum of groups,)."""
    rng = generator(seed, "shards", epoch)
    starts = [0, *accumulate(groups)]
    files = torch.randperm(len(groups), generator=rng).tolist()
    made = []
    for i in range(0, len(files), mix):
        near = torch.cat([torch.arange(starts[file], starts[file + 1]) for file in files[i : i + mix]])
        made.append(near[torch.randperm(len(near), generator=rng)])
    return torch.cat(made)


@dataclass(frozen=True)
class Squares(Dataset[Batch]):
    """`squares[k]` is batch k; arguments as in `streamed_batches`."""

    source: Collection
    size: int
    batch: int
    seed: int
    classes: int
    flip: bool = True
    drop: float = 0.1
    mix: int = 8
    corrupt: int = 100
    rank: int = 0
    world: int = 1
    damaged: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.batch < 1 or self.size < 1 or self.mix < 1 or not 0 <= self.drop <= 1 or self.corrupt < 0:
            raise ValueError(
                f"batch = {self.batch}, size = {self.size}, mix = {self.mix}, drop = {self.drop}, corrupt = "
                f"{self.corrupt}: need at least 1, 1, 1, a share in [0, 1], and at least 0"
            )

    def __getitem__(self, step: int) -> Batch:
        mine, total = rows(self.batch, self.rank, self.world), len(self.source)
        made = []
        for row in mine:
            epoch, place = divmod(step * self.batch + row, total)
            chosen = order(self.source.groups, epoch, self.seed, self.mix)
            pictures = Pictures(self.source, chosen, 1, self.corrupt, self.damaged)  # type: ignore[arg-type]
            index, image, label = pictures.found(place, labelled=self.classes > 0)
            if label and label >= self.classes:
                raise ValueError(f"{self.source.where(index)}: class {label}, but data.classes = {self.classes}")
            rng = generator(self.seed, "streamed", step, row)
            x = torch.from_numpy(_square(image, self.size)).permute(2, 0, 1).float().div_(255)
            mirrored, hidden = torch.rand(2, generator=rng).tolist()
            made.append(
                (x.flip(2) if self.flip and mirrored < 0.5 else x, self.classes if hidden < self.drop else label)
            )
        labels = torch.tensor([label for _, label in made])
        return Batch(torch.stack([x for x, _ in made]), None, {"label": labels} if self.classes else {})


def _square(image: np.ndarray, size: int) -> np.ndarray:
    """The central square at `size`."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    patch = Image.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return np.array(patch.resize((size, size), Image.Resampling.LANCZOS))


def streamed_batches(
    source: Collection,
    size: int,
    batch: int,
    seed: int,
    start: int = 0,
    workers: int = 1,
    *,
    classes: int = 0,
    flip: bool = True,
    drop: float = 0.1,
    mix: int = 8,
    corrupt: int = 100,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Batches ``start``, ``start + 1``, ... without end: x (B, 3, size, size) in [0, 1], cond label (B,).

    Arguments:
        size: side to which central squares are scaled.
        classes: K, of which labels are 0 .. K - 1; 0 leaves labels out.
        flip, drop: as in `labelled_batches`.
        mix: files whose images are shuffled together.
        corrupt: damaged images that each process that loads passes over, with a warning, before it gives up.
        rank, world: this process makes part ``rank`` of ``world`` equal ones of every batch.

    Raises ValueError in one line that names file and key where more are damaged, OSError where a file has vanished.
    """
    squares = Squares(source, size, batch, seed, classes, flip, drop, mix, corrupt, rank, world)
    return loaded(squares, start, workers)
