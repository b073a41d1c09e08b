r"""Weights kept as what tells them from another model's: W = W_base + L R.

    <name>.left (outputs, rank), <name>.right (rank, inputs)   of a matrix or convolution that was changed
    <name>                                                     whole: a bias, or what two factors would not shorten
    nothing                                                    the base's own

A student or a fine-tuned model lies near what it was made of; by Eckart and Young (1936) the leading singular vectors
of the difference are its nearest matrices of their rank. LoRA (Hu et al. 2021, arXiv 2106.09685) trains in this form.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

__all__ = ["Stored", "compared", "factored", "opened"]

LEFT, RIGHT = ".left", ".right"


def factored(state: Mapping[str, Tensor], base: "Stored", rank: int) -> dict[str, Tensor]:
    """The tensors to store, in float32, for a state dict near that of `base`; whole those that are of another shape.

    Raises ValueError for a rank below 1, for a tensor of the base that the state dict has not, and for one not finite.
    """
    if rank < 1:
        raise ValueError(f"rank = {rank}: need at least 1")
    if lacking := next((name for name in base if name not in state), None):
        raise ValueError(f"{lacking} {base.shapes[lacking]}: the base has it, this model has not")
    kept: dict[str, Tensor] = {}
    for name, given in state.items():
        value = given.detach().cpu()
        if not value.isfinite().all():
            raise ValueError(f"weight {name} is not finite: look at the training")
        if base.shapes.get(name) != tuple(value.shape):
            kept[name] = value
            continue
        own = base[name]
        if torch.equal(own.to(value.dtype), value):
            continue
        outputs, inputs = len(value) if value.ndim else 1, prod(value.shape[1:])
        if value.ndim < 2 or not value.is_floating_point() or rank * (outputs + inputs) >= value.numel():
            kept[name] = value
            continue
        u, s, v = torch.linalg.svd((value.double() - own.double()).flatten(1), full_matrices=False)
        root = s[:rank].sqrt()  # shared by both factors, so that neither leaves the range of float16
        kept[name + LEFT] = (u[:, :rank] * root).float()
        kept[name + RIGHT] = (root[:, None] * v[:rank]).float()
    return kept


class Stored(Mapping[str, Tensor]):
    """The tensors of an open file, and through it those of the base that it leaves out; each read when asked for.

    Attributes:
        shapes: name -> shape of each, from the headers alone.
    """

    def __init__(self, file: Any, base: "Stored | None" = None) -> None:
        self.file, self.base = file, base
        self.own = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        known: dict[str, tuple[int, ...]] = {} if base is None else base.shapes
        self.changed = {
            name
            for name, shape in known.items()
            if shape and (pair := self._pair(name)) and pair == ((shape[0], pair[1][0]), (pair[0][1], prod(shape[1:])))
        }
        factors = {name + end for name in self.changed for end in (LEFT, RIGHT)}
        self.shapes: dict[str, tuple[int, ...]] = known | {
            name: shape for name, shape in self.own.items() if name not in factors
        }

    def _pair(self, name: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        left, right = (self.own.get(name + end, ()) for end in (LEFT, RIGHT))
        return (left, right) if len(left) == len(right) == 2 and left[1] == right[0] else None

    def __getitem__(self, name: str) -> Tensor:
        if name in self.own:
            own: Tensor = self.file.get_tensor(name)
            return own
        if self.base is None:
            raise KeyError(name)
        value = self.base[name]
        if name in self.changed:
            left, right = (self.file.get_tensor(name + end).float() for end in (LEFT, RIGHT))
            value = value.float() + (left @ right).view(value.shape)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@contextmanager
def opened(file: Path, base: Stored | None = None) -> Iterator[Stored]:
    """The tensors of a safetensors file, on top of those of `base`; SafetensorError or OSError for a damaged one."""
    with safe_open(file, "pt") as own:
        yield Stored(own, base)


def compared(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], file: str, card: str) -> None:
    """ValueError in one line where the shapes in `file` are not those of the network that `card` describes."""
    expected = {name: tuple(value.shape) for name, value in state.items()}
    for name, shape in expected.items():
        if name not in shapes:
            raise ValueError(f"{file} lacks {name} {shape}, which the network of {card} has")
        if shapes[name] != shape:
            raise ValueError(f"{file} has {name} of shape {shapes[name]}, but {card} says {shape}")
    if extra := next((name for name in shapes if name not in expected), None):
        raise ValueError(f"{file} has {extra}, which the network of {card} has not")
