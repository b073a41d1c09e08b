"""What a run reads: the [data] of a recipe, by its name."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..data import Batch
from ..denoiser import Denoiser
from ..registry import check_keys
from ..space import Space
from .captions import Captions
from .labelled import Labelled
from .photographs import Photographs
from .preview import Preview
from .recipe import call
from .streamed import Streamed

__all__ = ["SOURCES", "Sheet", "Source", "source"]


class Sheet(Protocol):
    """A picture of how the run is doing, and numbers to log."""

    def __call__(self, denoiser: Denoiser, space: Space, step: int) -> Mapping[str, float | str]: ...


class Source(Protocol):
    """Where batches come from."""

    @property
    def batch(self) -> int: ...

    def load(self) -> Any:
        """The training images, in memory."""

    def batches(
        self, images: Any, start: int, rank: int = 0, world: int = 1, channels_last: bool = False
    ) -> Iterator[Batch]:
        """Batches `start`, `start + 1`, ... of process `rank` of `world`."""

    def sheet(self, preview: Preview, folder: Path) -> Sheet | None:
        """What to look at while it trains."""

    def facts(self) -> dict[str, Any]:
        """What the model's card says of the data beyond the recipe."""


SOURCES: dict[str, type[Photographs] | type[Labelled] | type[Streamed] | type[Captions]] = {
    "photographs": Photographs,
    "labelled": Labelled,
    "streamed": Streamed,
    "captioned": Captions,
}


def source(recipe: Mapping[str, Any]) -> Photographs | Labelled | Streamed | Captions:
    """The object of [data]; photographs where it has no name."""
    table = dict(recipe.get("data", {}))
    name = table.pop("name", "photographs")
    check_keys([name], SOURCES, "data name")
    return call(SOURCES[name], "data", {"data": table})
