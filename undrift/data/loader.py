"""Batches of a data set by number, without end, made in other processes."""

from collections.abc import Iterator
from itertools import count

from torch import Generator
from torch.utils.data import DataLoader, Dataset

from .batch import Batch

__all__ = ["loaded"]

KINDS = {kind.__name__: kind for kind in (ValueError, OSError, FileNotFoundError, PermissionError, MemoryError)}


def loaded(dataset: Dataset[Batch], start: int, workers: int) -> Iterator[Batch]:
    """dataset[start], dataset[start + 1], ...; what fails in a process that loads is raised here, in its one line."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=count(start),  # type: ignore[arg-type]
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        generator=Generator(),  # the loader's own draws must not move the global one
    )
    batches = iter(loader)  # now: its processes start where this is called
    return _plain(batches) if workers else batches


def _plain(batches: Iterator[Batch]) -> Iterator[Batch]:
    try:
        yield from batches
    except Exception as error:
        text = str(error).strip()
        kind, colon, said = text.rpartition("\n")[2].partition(": ")
        if "Original Traceback" in text and colon and kind in KINDS:
            raise KINDS[kind](said) from None
        raise
