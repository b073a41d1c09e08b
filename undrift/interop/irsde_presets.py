"""The settings of the released IR-SDE, Refusion and DA-CLIP models, which their weight files do not hold.

They are those of the option files beside the official code. Where its files for training and testing disagree, both are
here, and the weights' own documentation decides. Sources: IR-SDE (Luo et al. 2023, arXiv 2301.11699), Refusion (Luo et
al. 2023, arXiv 2304.08291), DA-CLIP (Luo et al. 2023, arXiv 2310.01018), Photo-Realistic Image Restoration in the Wild
(Luo et al. 2024, arXiv 2404.09732).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

from ..denoiser import Time
from ..prediction import MLNoise, Noise, Prediction
from ..process import Process
from ..space import Noisy, Residual, Space
from .irsde import Denoising, MLDenoising, denoising_start, irsde_process

__all__ = ["OFFICIAL", "Official", "official", "settings"]

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Official:
    """The `sde:` section of an official option file.

    Arguments:
        max_sigma: stationary deviation of the noise in 1/255, or of an image in [0, 1] if below 1.
        steps: number of indices T.
        schedule: theta by index.
        eps: alpha at the noise end.
        noise: deviation, in 1/255, of the noise to remove by DenoisingSDE; 0 for IR-SDE itself.
        matched: whether the network was trained to match the noise; False for the maximum-likelihood loss.

    Raises ValueError for values outside the ranges of `MeanReverting` and `Denoising`.
    """

    max_sigma: float
    steps: int = 100
    schedule: Schedule = "cosine"
    eps: float = 0.005
    noise: float = 0.0
    matched: bool = False

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule {self.schedule!r}: choose one of {', '.join(get_args(Schedule))}")
        if not 0 < self.max_sigma < math.inf:
            raise ValueError(f"max_sigma = {self.max_sigma:g}: need a positive deviation in 1/255, e.g. 50")
        self.parts()

    def parts(self) -> tuple[Process, Prediction, Space, Time]:
        """Process, meaning of the network's output, coordinates of the state, and what it is told of the time."""
        path = irsde_process(self.max_sigma, self.steps, self.schedule, self.eps)
        if not self.noise:
            return path, Noise() if self.matched else MLNoise(path), Residual(), Time()
        start = denoising_start(Denoising(path), self.noise / 255)
        return Denoising(path, start), Noise() if self.matched else MLDenoising(path), Noisy(), Time()


def _denoising(noise: float, max_sigma: float, steps: int) -> Official:
    return Official(max_sigma, steps, eps=0.04, noise=noise)


OFFICIAL: dict[str, Official] = {
    "deraining": Official(10),
    "deblurring": Official(10),
    "deshadowing": Official(10),
    "deshadowing-30": Official(30),
    "inpainting": Official(30),
    "super-resolution": Official(30),
    "super-resolution-10": Official(10),
    "denoising-sigma15": _denoising(15, 75, 100),
    "denoising-sigma25": _denoising(25, 75, 100),
    "denoising-sigma50": _denoising(50, 75, 100),
    "refusion": Official(50),
    "refusion-denoising-sigma15": _denoising(15, 70, 1000),
    "refusion-denoising-sigma25": _denoising(25, 70, 1000),
    "refusion-denoising-sigma50": _denoising(50, 70, 1000),
    "latent-dehazing": Official(50),
    "daclip": Official(50),
    "wild-ir": Official(50),
}


def official(name: str) -> Official:
    """The settings of that name; ValueError that lists all names."""
    if name not in OFFICIAL:
        close = get_close_matches(name, OFFICIAL, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"unknown preset {name!r}: {hint}There are {', '.join(OFFICIAL)}")
    return OFFICIAL[name]


def settings(preset: str | None, given: Mapping[str, Any]) -> Official:
    """Those of a preset, or of its own `given` arguments of `Official`; ValueError where they are not all known.

    A checkpoint does not say its schedule, and a wrong one gives noise or nothing: none is ever assumed.
    """
    if preset is not None:
        known = official(preset)
        return Official(**{name: given.get(name, getattr(known, name)) for name in known.__dataclass_fields__})
    missing = [name for name in ("max_sigma", "steps", "schedule", "eps") if name not in given]
    if missing:
        flags = " ".join("--" + name.replace("_", "-") for name in missing)
        raise ValueError(
            f"which schedule was it trained with? The file does not say: give --preset NAME, one of "
            f"{', '.join(OFFICIAL)}, or {flags}"
        )
    return Official(**given)
