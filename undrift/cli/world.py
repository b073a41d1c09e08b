"""The processes of one command: those that torchrun or accelerate started, or this one alone.

Each does its share of the files; the first alone plans, sweeps up and prints tables. Nothing else is exchanged than
the plan and, at the end, what failed: a process waits for the others no sooner than it is done.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, final

__all__ = ["World", "joined"]

T = TypeVar("T")
WAIT = timedelta(days=7)  # for the slowest


class Elsewhere(Exception):
    """Another process has failed, and says why."""


@final
@dataclass(frozen=True)
class World:
    """Which of how many."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, all: Sequence[T]) -> Sequence[T]:
        """This process's part of a list that is the same in every process."""
        return all[self.rank :: self.size]

    def planned(self, make: Callable[[], T]) -> T:
        """What the first process makes of the world as it is, for all; an error there ends every process."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        box: list[Any] = [None, None]
        if self.first:
            try:
                box[0] = make()
            except Exception as caught:
                box[1] = caught
        failure = box[1]
        box[1] = failure is not None
        dist.broadcast_object_list(box)
        if failure is not None:
            raise failure
        if box[1]:
            raise Elsewhere
        made: T = box[0]
        return made

    def gathered(self, mine: T) -> list[T]:
        """That of every process, in order, in every process; waits for the slowest."""
        if self.size == 1:
            return [mine]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found


@contextmanager
def joined() -> Iterator[World]:
    """The world; its processes meet here and part here, unless a group is there already.

    Ends the command quietly where another process failed.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size == 1:
        yield World()
        return
    import torch.distributed as dist

    owned = not dist.is_initialized()
    if owned:
        dist.init_process_group("gloo", timeout=WAIT)
    try:
        yield World(rank, size)
    except Elsewhere:
        raise SystemExit(0) from None
    finally:
        if owned:
            dist.destroy_process_group()
