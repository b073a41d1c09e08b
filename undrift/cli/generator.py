"""The generator that a command works with: its model, the shape of its images, the names of its classes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from ..denoiser import Denoise, Denoiser
from ..evaluation.prompted import preset_of
from ..guidance import ClassifierFree
from ..interop.diffusers_student import is_pipeline
from ..preset import STUDENT
from ..process import Process
from ..space import Residual, Space
from ..training.checkpoint import method_of, read_card
from .model import open_model
from .pipeline import open_pipeline

if TYPE_CHECKING:
    from ..interop.diffusers import Imported

__all__ = ["Generator", "classifier_free", "open_generator"]


@final
@dataclass(frozen=True)
class Generator:
    """A model that makes images from noise alone.

    Arguments:
        shape: (C, H, W) of the images, or of the states of latent diffusion, that it was trained on.
        names: of the classes, by number; empty for a model without.
        method: that a student was distilled by; None for a model that is none.
        pipeline: of diffusers that it came in, which also reads prompts; None for a model of ours.
    """

    denoiser: Denoiser
    space: Space
    shape: tuple[int, ...]
    names: tuple[str, ...]
    method: Mapping[str, Any] | None = None
    pipeline: "Imported | None" = None

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
        pixels = getattr(getattr(self.space, "codec", None), "stride", 1)  # of one state
        least = getattr(self.denoiser.network, "stride", 1) * pixels
        if side is not None and self.pipeline is not None and (side < least or side % least):
            raise ValueError(f"--size {side}: need a multiple of {least} for this pipeline; it was trained on "
                             f"{self.shape[2] * pixels} x {self.shape[1] * pixels} pixels")  # fmt: skip
        if side is None or side >= least:
            return self.shape if side is None else (self.shape[0], side // pixels, side // pixels)
        raise ValueError(
            f"--size {side}: need at least {least}, one pixel of this model's coarsest level; it was trained on "
            f"{' x '.join(map(str, reversed(self.shape[1:])))} pixels"
        )

    def reading(self, prompt: str | None, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """What --prompt says to images with states of that shape, one row each; ValueError where nobody reads it."""
        if self.pipeline is None or not self.pipeline.textual:
            if prompt is None:
                return {}
            raise ValueError("--prompt: this model reads no text: leave it out, or give a text-to-image pipeline")
        if prompt is None:
            raise ValueError("this pipeline reads text: say what to make with --prompt, or --prompt '' for anything")
        return self.pipeline.encode(prompt, shape)

    def grid(self, solver: str, steps: int) -> Tensor | None:
        """Times other than the usual ones of that solver: those at which a pipeline's students were trained."""
        leaps = self.pipeline is not None and solver == STUDENT[0]
        return preset_of(self.denoiser, solver).grid(self.process, steps) if leaps else None

    def guided(self, scale: float | None, negative: str | None = None) -> tuple[Denoise, dict[str, Any]]:
        """The denoiser, with classifier-free guidance unless scale = 1, and what it is to be told.

        A student that imitates guidance is told the scale instead: None is the middle of what it has seen.
        """
        teacher = self.pipeline if self.method is None else None
        if teacher is not None and teacher.textual:
            return teacher.guided(1.0 if scale is None else finite(scale), negative or ""), {}
        if negative is not None:
            why = "this model reads no text" if teacher or self.pipeline is None else "a student's is in its weights"
            raise ValueError(f"--negative: {why}: leave it out")
        if teacher is not None and scale not in (None, 1.0):
            raise ValueError(f"--guidance {scale:g}: this pipeline names no class for none: leave it out, or say which "
                             "in Python, from_pipeline(..., null=K)")  # fmt: skip
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


def finite(scale: float) -> float:
    """The scale of guidance, if it is one."""
    if not math.isfinite(scale):
        raise ValueError(f"--guidance {scale}: need a finite number, 1 for none")
    return scale


def classifier_free(process: Process, classes: int, scale: float) -> Callable[[Denoise], Denoise]:
    """What --guidance makes of a denoiser: nothing for 1; ValueError for a model without classes."""
    if finite(scale) == 1:
        return lambda denoise: denoise
    if not classes:
        raise ValueError(f"--guidance {scale:g}: this model knows no classes: leave it out")
    return lambda denoise: ClassifierFree(denoise, process, scale, {"label": classes})


def open_generator(name: str, device: str = "auto", threads: int = 0) -> Generator:
    """A bundled model, a folder, or that of a diffusers pipeline; ValueError for one that restores photographs."""
    if is_pipeline(name):
        return _of_diffusers(name, device, threads)
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


def _of_diffusers(folder: str, device: str, threads: int) -> Generator:
    pipeline, method = open_pipeline(folder, device, threads)
    names = tuple(map(str, range(getattr(pipeline.denoiser.network, "classes", 0))))
    return Generator(pipeline.denoiser, pipeline.space, pipeline.shape, names, method, pipeline)
