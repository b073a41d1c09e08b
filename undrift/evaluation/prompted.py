"""Images of prompts, by a text-to-image pipeline or a student of one.

parts = open_text_to_image("pipeline")
images = pictures(parts, ["a photo of a boot"], [7], "ode-2:20", guidance=3.0)
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import times
from ..data import generator
from ..data.captioned import Captioned
from ..data.crop import central
from ..denoiser import Denoise, Denoiser
from ..generation import PRESETS
from ..guidance import ClassifierFree
from ..interop.diffusers_text import TextToImage
from ..noise import PerSample
from ..preset import STUDENT, Preset
from ..sample import sample
from ..training.files import digests
from .generation import Reference, Sampler
from .specs import Counted, known, parsed

__all__ = ["captioned_reference", "guided", "pictures", "pipeline_fingerprint", "preset_of", "prompted_sampler"]


def preset_of(denoiser: Denoiser, solver: str) -> Preset:
    """A solver for a pipeline. Students of pipelines leap from where LCMScheduler does, trailing indices, if taught."""
    preset = PRESETS[solver]
    return (replace(preset, grid=times.trailing) if solver == STUDENT[0] else preset).of(denoiser)


def guided(parts: TextToImage, denoise: Denoise, scale: float) -> tuple[Denoise, dict[str, Any]]:
    """The estimate under classifier-free guidance of that scale, 1 for none, and what it is to be told.

    A student has learnt its guidance: it is told the scale where it listens. ValueError for one that it has not seen.
    """
    if not math.isfinite(scale):
        raise ValueError(f"guidance = {scale}: need a finite number, 1 for none")
    if not parts.denoiser.student:
        return (denoise if scale == 1 else ClassifierFree(denoise, parts.denoiser.process, scale, parts.null())), {}
    seen = parts.facts["recipe"]["method"].get("guidance") or (1.0, 1.0)
    if not seen[0] <= scale <= seen[1]:
        raise ValueError(f"guidance = {scale:g}: this student has seen {seen[0]:g} to {seen[1]:g}")
    return denoise, {"guidance": torch.tensor(scale)}


@torch.no_grad()
def pictures(
    parts: TextToImage,
    captions: Sequence[str],
    seeds: Sequence[int],
    spec: str,
    guidance: float = 1.0,
    denoise: Denoise | None = None,
) -> Tensor:
    """Images (B, 3, side, side) in [0, 1], not clipped, of the captions; image i depends on seeds[i] and its caption.

    Arguments:
        spec: `solver:evaluations`.
        guidance: scale; each evaluation of a guided teacher asks the network twice.
        denoise: asked in the place of the pipeline's own denoiser, to count.

    Raises ValueError for values outside their ranges.
    """
    if len(captions) != len(seeds):
        raise ValueError(f"{len(captions)} captions for {len(seeds)} seeds: give one each")
    solver, steps = parsed(spec)
    process, device = parts.denoiser.process, next(parts.denoiser.parameters()).device
    preset, noise = preset_of(parts.denoiser, solver), PerSample(seeds)
    grid = preset.grid(process, steps)
    estimate, told = guided(parts, denoise or parts.denoiser, guidance)
    like = torch.zeros(len(seeds), *parts.shape, device=device)
    start = float(process.alpha_sigma(grid[0])[1]) * noise(like, grid[0], grid[0])
    cond = {name: value.to(device) for name, value in parts.encode(captions).items()}
    return sample(
        estimate, process, parts.space, shape=start.shape, times=grid, solver=preset.solver, noise=noise,
        start=start, **cond, **told,
    )  # fmt: skip


def prompted_sampler(
    parts: TextToImage, captions: Sequence[str], spec: str, *, seed: int = 0, guidance: float = 1.0, side: int = 0
) -> Sampler:
    """The sampler of a spec, `solver:evaluations`: image i is of caption i, and draws from (seed, i).

    Arguments:
        guidance: scale of classifier-free guidance; an evaluation of a guided teacher counts as two.
        side: of the central crop that is kept, in pixels; 0 for all.
    """
    solver, steps = parsed(spec)
    preset = preset_of(parts.denoiser, solver)
    grid = preset.grid(parts.denoiser.process, steps)
    guided(parts, parts.denoiser, guidance)  # checks

    def draw(numbers: range) -> tuple[Tensor, float]:
        counted = Counted(parts.denoiser)
        seeds = [generator("noise", seed, i).initial_seed() for i in numbers]
        images = pictures(parts, [captions[i] for i in numbers], seeds, spec, guidance, counted)
        return cropped(images, side).cpu(), counted.asked / len(numbers)

    return Sampler(spec, draw, known(preset.solver, grid) | {"guidance": guidance, "crop": side})


def captioned_reference(data: Captioned, count: int, side: int, crop: int) -> Reference:
    """The first `count` images of captioned data, central squares scaled to `side` pixels and cropped as the samples.

    They are held in memory, 8 bits a value: 3.9 GB for 5,000 of 512 x 512 pixels.
    """
    blocks = (range(first, min(first + 100, count)) for first in range(0, count, 100))
    images = torch.cat([cropped(data.images(block, side), crop).mul(255).round().byte() for block in blocks])
    return Reference(images, data.name, f"first {count}, captioned")


def cropped(images: Tensor, side: int) -> Tensor:
    """The central square of images (B, C, H, W); all of them for 0."""
    return central(images, side) if side else images


def pipeline_fingerprint(path: str | Path) -> dict[str, Any]:
    """What a pipeline or a student of one is: the sha256 of all its weights, and of each of them."""
    found = digests(path, ".safetensors")
    return {"weights": sha256("".join(found.values()).encode()).hexdigest(), "files": found}
