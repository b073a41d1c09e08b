"""What one training step sees, and what makes it hard."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Generator, Tensor

__all__ = ["Batch", "Degrade", "rows"]

Degrade: TypeAlias = Callable[[Tensor, Generator], Tensor]  # x (3, H, W) in [0, 1] -> y, same shape


@dataclass(frozen=True)
class Batch:
    """Clean images, what was observed of them, and the conditions handed to the network.

    Arguments:
        x: (B, 3, H, W) float32 in [0, 1].
        y: the degraded images, same shape; None when there is nothing observed (generation).
        cond: keyword arguments of the network, each (B, ...).
        path: (B, N + 1, ...) states of a teacher at the times of a student's grid; None where it makes them as it goes.
    """

    x: Tensor
    y: Tensor | None = None
    cond: dict[str, Tensor] = field(default_factory=dict)
    path: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on ``device``; a tensor that is both ``y`` and a condition is copied once."""
        all_of_it = (self.x, self.y, *self.cond.values(), self.path)
        moved = {id(v): v.to(device, non_blocking=True) for v in all_of_it if v is not None}
        y, path = (None if v is None else moved[id(v)] for v in (self.y, self.path))
        return Batch(moved[id(self.x)], y, {name: moved[id(v)] for name, v in self.cond.items()}, path)

    def pin_memory(self) -> "Batch":
        """Called by the DataLoader where the target is a GPU."""
        y = None if self.y is None else self.y.pin_memory()
        cond = {name: y if v is self.y and y is not None else v.pin_memory() for name, v in self.cond.items()}
        return Batch(self.x.pin_memory(), y, cond, None if self.path is None else self.path.pin_memory())


def rows(batch: int, rank: int, world: int) -> range:
    """The rows of a batch that are process `rank`'s of `world`; ValueError unless all have as many."""
    share, left = divmod(batch, world)
    if left or not share:
        raise ValueError(f"data.batch = {batch} on {world} processes: need a multiple of {world}")
    return range(rank * share, (rank + 1) * share)
