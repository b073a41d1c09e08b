"""Batches of a data set by number, without end, made in other processes."""

from collections.abc import Iterator
from itertools import count
from typing import TypeVar

from torch import Generator
from torch.utils.data import DataLoader, Dataset

from ..signals import deaf, only_parent

__all__ = ["loaded"]

T = TypeVar("T")

KINDS = {kind.__name__: kind for kind in (ValueError, OSError, FileNotFoundError, PermissionError, MemoryError)}


def loaded(dataset: Dataset[T], start: int, workers: int) -> Iterator[T]:
    """dataset[start], dataset[start + 1], ...; what fails in a process that loads is raised here, in its one line.

    These processes outlive signals to their whole group, so that the step at hand can be done; they end with this one.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=count(start),  # type: ignore[arg-type]
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        generator=Generator(),  # the loader's own draws must not move the global one
        worker_init_fn=only_parent,
    )
    with deaf():
        batches = iter(loader)  # now: its processes start where this is called
    return _plain(batches) if workers else batches


def _plain(batches: Iterator[T]) -> Iterator[T]:
    try:
        yield from batches
    except Exception as error:
        text = str(error).strip()
        kind, colon, said = text.rpartition("\n")[2].partition(": ")
        if "Original Traceback" in text and colon and kind in KINDS:
            raise KINDS[kind](said) from None
        raise
