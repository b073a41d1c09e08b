"""A teacher with its student, made of one network or another: what a distillation needs of both."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ..denoiser import Denoiser
from ..interop.diffusers_student import low_rank, with_guidance
from ..interop.diffusers_text import open_text_to_image
from ..interop.diffusers_unet import DiffusersUNet
from ..space import Space

__all__ = ["Pupil", "of_pipeline"]


class Pupil(NamedTuple):
    """Who learns from whom.

    Arguments:
        teacher: frozen.
        student: a copy of it, of which what is trained requires gradients.
        space: of both.
        null: what stands for no condition, see `guidance.ClassifierFree`; empty where there is none to leave out.
        features: what the teacher sees in clean states, see `methods.Perceptual`; None where it needs more than those.
    """

    teacher: Denoiser
    student: Denoiser
    space: Space
    null: dict[str, Any]
    features: Callable[[Tensor, float], Sequence[Tensor]] | None = None


def of_pipeline(path: str, rank: int, embedding: int) -> Pupil:
    """Of the U-Net of a text-to-image pipeline of diffusers.

    Arguments:
        rank: of the trained changes; 0 trains the whole.
        embedding: width of what a whole student is told of guidance; 0 for one that is told nothing.

    Raises ValueError or FileNotFoundError, in one line, for a folder that cannot be read, or holds a student.
    """
    parts = open_text_to_image(path)
    if parts.facts:
        base = parts.facts["recipe"]["method"]["teacher"]
        raise ValueError(f"{path}: a student itself, whose steps follow no path: distil its teacher, {base}")
    teacher = parts.denoiser
    unet: Any = teacher.network.unet
    copy = low_rank(unet, rank) if rank else with_guidance(unet, embedding)
    student = Denoiser(DiffusersUNet(copy.eval()), teacher.process, teacher.prediction, scale=None, label=teacher.label)
    student.student = True
    return Pupil(teacher, student, parts.space, parts.null())
