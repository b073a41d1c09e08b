"""The [data] of a recipe for a generator at scale: `name = "streamed"`, tar shards or a data set of Hugging Face."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, final

from ..data import Batch
from ..data.collection import Collection, collection
from ..data.stream import streamed_batches
from .labelled import Grid
from .preview import Preview

__all__ = ["Streamed"]


@final
@dataclass(frozen=True)
class Streamed:
    """Images that memory does not hold.

    Arguments:
        path: `shards-{000..099}.tar`, `*.tar`, or a folder of `datasets.save_to_disk`; see `data.collection`.
        size: side to which central squares are scaled.
        names: of the classes, in the order of their labels; none for images without.
        drop, flip: as for `Labelled`.
        mix: files whose images are shuffled together.
        corrupt: damaged images that each process that loads passes over, with a warning, before the run ends.
        batch, seed, workers: of the stream.
    """

    path: str
    size: int
    names: tuple[str, ...] = ()
    drop: float = 0.1
    flip: bool = True
    mix: int = 8
    corrupt: int = 100
    batch: int = 128
    seed: int = 0
    workers: int = 1

    def load(self) -> Collection:
        """The index of the images."""
        return _opened(self.path)

    def batches(
        self, images: Collection, start: int, rank: int = 0, world: int = 1, channels_last: bool = False
    ) -> Iterator[Batch]:
        """Batches `start`, `start + 1`, ... of process `rank` of `world`."""
        return streamed_batches(
            images, self.size, self.batch, self.seed, start, self.workers, classes=len(self.names), flip=self.flip,
            drop=self.drop, mix=self.mix, corrupt=self.corrupt, rank=rank, world=world,
        )  # fmt: skip

    def sheet(self, preview: Preview, folder: Path) -> Grid | None:
        """The samples to look at while it trains."""
        return Grid((3, self.size, self.size), len(self.names), preview.steps, folder) if preview.every else None

    def facts(self) -> dict[str, Any]:
        """What a sampler needs to know: the shape of an image and the names of the classes."""
        return {"shape": [3, self.size, self.size], "classes": list(self.names)}


@lru_cache(maxsize=2)
def _opened(path: str) -> Collection:
    return collection(path)
