r"""Random numbers of a training step whose every row is named by its place in the step.

    row i of draw k   =   f(key of the step, i, k),        i = 0 .. total - 1 over all processes.

So a step on two processes sees the numbers of the step on one, and a run that goes on needs no random state: the key
is made of the seed and the step. The functions take a `torch.Generator` of any kind; `Rows` is the kind above.
"""

from typing import Self

import torch
from torch import Tensor

__all__ = ["Rows", "integers", "keyed", "normal", "stratified", "uniform"]


class Rows(torch.Generator):
    """A generator per row: those of rows `first` .. `first + count` - 1, of `total` in the step.

    Code that knows only `torch.Generator` may draw from it too; the numbers are then a function of (key, first).

    Arguments:
        key: of the step; any integer.
        first, count: the rows of this process.
        total: of all processes together.

    Raises ValueError for rows that are not among the total.
    """

    def __new__(cls, key: int, first: int, count: int, total: int) -> Self:
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]

    def __init__(self, key: int, first: int, count: int, total: int) -> None:
        if not (first >= 0 and count >= 1 and first + count <= total):
            raise ValueError(f"Rows first = {first}, count = {count}: need rows among the {total} of the step")
        self.first, self.count, self.total = first, count, total
        self.shared = keyed(key, total)  # what all rows draw together: equal on every process
        self.each = [keyed(key, first + i) for i in range(count)]
        self.manual_seed(keyed(key, total + 1 + first).initial_seed())

    def stacked(self, shape: tuple[int, ...], dtype: torch.dtype, kind: str) -> Tensor:
        """(k count, ...): k = 1 or more draws of every row, one copy of all rows after the other."""
        copies, left = divmod(shape[0], self.count)
        if left:
            raise ValueError(f"{shape[0]} draws for {self.count} rows: need a multiple")
        draw = getattr(torch, kind)
        made = [draw((copies, *shape[1:]), generator=g, dtype=dtype) for g in self.each]
        return torch.stack(made, dim=1).flatten(0, 1)


def normal(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal (B, ...), on the generator's device."""
    if isinstance(generator, Rows):
        return generator.stacked(tuple(shape), dtype, "randn")
    return torch.randn(shape, generator=generator, dtype=dtype, device=generator.device)


def uniform(count: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """(count,) in [0, 1), on the CPU."""
    if isinstance(generator, Rows):
        return generator.stacked((count,), dtype, "rand")
    return torch.rand(count, generator=generator, dtype=dtype, device=generator.device).cpu()


def integers(high: int, count: int, generator: torch.Generator) -> Tensor:
    """(count,) int64 in 0 .. high - 1, on the CPU."""
    if isinstance(generator, Rows):  # 53 random bits: the bias of the floor is below 1e-9 for any `high` in use
        return (uniform(count, generator, torch.float64) * high).long().clamp(max=high - 1)
    return torch.randint(high, (count,), generator=generator, device=generator.device).cpu()


def stratified(count: int, generator: torch.Generator) -> Tensor:
    """u_i = (u + i / n) mod 1 with one uniform u for the n rows of the step: (count,) float64, on the CPU."""
    if isinstance(generator, Rows):
        shift = torch.rand((), generator=generator.shared, dtype=torch.float64)
        place = torch.arange(generator.count, dtype=torch.float64) + generator.first
        return (shift + place / generator.total).repeat(count // generator.count) % 1
    shift = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device).cpu()
    return (shift + torch.arange(count, dtype=torch.float64) / count) % 1


def keyed(seed: int, node: int) -> torch.Generator:
    """The generator named by both numbers."""
    # A 64-bit mix of (seed, node), after SplitMix64: neighbouring keys give unrelated generators.
    key = (seed * 0x9E3779B97F4A7C15 + node * 0xD1B54A32D192ED03) & (2**64 - 1)
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    return torch.Generator().manual_seed((key ^ (key >> 31)) >> 1)
