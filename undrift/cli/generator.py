"""The generator that a command works with: its model, the shape of its images, the names of its classes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ..denoiser import Denoise, Denoiser
from ..guidance import ClassifierFree
from ..process import Process
from ..space import Residual, Space
from ..training.checkpoint import method_of, read_card
from .model import open_model

__all__ = ["Generator", "classifier_free", "open_generator"]


@final
@dataclass(frozen=True)
class Generator:
    """A model that makes images from noise alone.

    Arguments:
        shape: (C, H, W) of the images that it was trained on.
        names: of the classes, by number; empty for a model without.
        method: that a student was distilled by; None for a model that is none.
    """

    denoiser: Denoiser
    space: Space
    shape: tuple[int, ...]
    names: tuple[str, ...]
    method: Mapping[str, Any] | None = None

    @property
    def process(self) -> Process:
        return self.denoiser.process

    def labels(self, count: int, name: str | None = None) -> Tensor | None:
        """(count,): the class of that name or number, or all in turn; None for a model without classes."""
        if name is None:
            return torch.arange(count) % len(self.names) if self.names else None
        if not self.names:
            raise ValueError(f"--label {name}: this model knows no classes: leave it out")
        known = [known.lower() for known in self.names]
        number = int(name) if name.isdecimal() else known.index(name.lower()) if name.lower() in known else -1
        if not 0 <= number < len(self.names):
            raise ValueError(f"--label {name}: choose one of {', '.join(self.names)}, or 0 to {len(self.names) - 1}")
        return torch.full((count,), number)

    def sized(self, side: int | None) -> tuple[int, ...]:
        """(C, H, W) of images of that side, or of those that it was trained on; ValueError for less than it can see."""
        least = getattr(self.denoiser.network, "stride", 1)
        if side is None or side >= least:
            return self.shape if side is None else (self.shape[0], side, side)
        raise ValueError(
            f"--size {side}: need at least {least}, one pixel of this model's coarsest level; it was trained on "
            f"{' x '.join(map(str, reversed(self.shape[1:])))} pixels"
        )

    def guided(self, scale: float | None) -> tuple[Denoise, dict[str, Any]]:
        """The denoiser, with classifier-free guidance unless scale = 1, and what it is to be told.

        A student that imitates guidance is told the scale instead: None is the middle of what it has seen.
        """
        if self.method is None:
            return classifier_free(self.process, len(self.names), 1.0 if scale is None else scale)(self.denoiser), {}
        if (seen := self.method.get("guidance")) is None:
            if scale in (None, 1.0):
                return self.denoiser, {}
            raise ValueError(f"--guidance {scale:g}: this student was distilled without: leave it out, or distil one "
                             "with method.guidance=[1,4]")  # fmt: skip
        low, high = seen
        told = (low + high) / 2 if scale is None else scale
        if not low <= told <= high:
            raise ValueError(f"--guidance {told:g}: this student has seen {low:g} to {high:g}")
        return self.denoiser, {"guidance": torch.tensor(told)}

    def student(self, told: Mapping[str, Any]) -> str:
        """What to say of a student."""
        if self.method is None:
            return ""
        scale = f", guidance {told['guidance']:g}" if told else ""
        return f"{scale} (a student of {self.method['teacher']})"


def classifier_free(process: Process, classes: int, scale: float) -> Callable[[Denoise], Denoise]:
    """What --guidance makes of a denoiser: nothing for 1; ValueError for a model without classes."""
    if not math.isfinite(scale):
        raise ValueError(f"--guidance {scale}: need a finite number, 1 for none")
    if scale == 1:
        return lambda denoise: denoise
    if not classes:
        raise ValueError(f"--guidance {scale:g}: this model knows no classes: leave it out")
    return lambda denoise: ClassifierFree(denoise, process, scale, {"label": classes})


def open_generator(name: str, device: str = "auto", threads: int = 0) -> Generator:
    """A bundled model or a folder; ValueError for one that restores, and needs a photograph."""
    denoiser, space = open_model(name, device, threads)
    card = read_card(name)
    facts: dict[str, Any] = card["training"]
    if isinstance(space, Residual):
        raise ValueError(f"model {name!r} restores photographs: use undrift restore, or give a generator")
    shape = facts.get("shape")
    if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)):
        raise ValueError(f"model {name!r}: its model.json names no shape of images under training: [C, H, W] wanted")
    names = facts.get("classes") or []
    return Generator(denoiser, space, tuple(shape), tuple(map(str, names)), method_of(card))
