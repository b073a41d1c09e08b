"""The [data] of a recipe for a text-to-image student: `name = "captioned"`, images and what is said of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from accelerate import PartialState

from ..data import Batch
from ..data.captioned import Captioned, read_captioned
from ..data.captioned_batches import captioned_batches
from ..interop.diffusers_text import open_text_to_image
from .preview import Preview

__all__ = ["Captions"]


@final
@dataclass(frozen=True)
class Captions:
    """Captioned images, read by the text encoder of a pipeline.

    Arguments:
        path: of the images, in any layout of `data.captioned`.
        pipeline: whose tokenizer and text encoder read the captions; the teacher.
        size: side to which images are cropped and scaled, in pixels; 0 for what the pipeline makes.
        batch, seed: of the stream.
        drop: share of captions replaced by the empty one.
        flip: mirror every other image, at random.
        workers: processes that decode.
    """

    path: str
    pipeline: str
    size: int = 0
    batch: int = 16
    seed: int = 0
    drop: float = 0.0
    flip: bool = False
    workers: int = 0

    def load(self) -> Captioned:
        """Captions, and where their images are."""
        return read_captioned(self.path)

    def batches(
        self, images: Captioned, start: int, rank: int = 0, world: int = 1, channels_last: bool = False
    ) -> Iterator[Batch]:
        """Batches `start`, `start + 1`, ... of process `rank` of `world`."""
        parts = open_text_to_image(self.pipeline)
        parts.to(PartialState().device)
        stream = captioned_batches(
            images, self.batch, self.size or parts.side, self.seed, start,
            drop=self.drop, flip=self.flip, workers=self.workers, rank=rank, world=world,
        )  # fmt: skip
        return (Batch(x, None, parts.encode(captions)) for x, captions in stream)

    def sheet(self, preview: Preview, folder: Path) -> None:
        """Nothing: a student has its panel."""
        return None

    def facts(self) -> dict[str, Any]:
        """How many images there are."""
        return {"images": len(self.load())}
