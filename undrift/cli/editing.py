"""What `undrift edit` does to one image: rows of pictures, (N, C, H, W) in [0, 1], the given ones first."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import latent
from ..data import read
from ..generation import PRESETS
from ..guidance import Channels, Isotropic, Mask, Operator, Posterior
from ..noise import PerSample
from ..sample import sample
from ..space import Latent
from .generator import Generator

__all__ = ["as_model", "editor", "interpolated"]

# Half a grey level, in states from -1 to 1: what 8 bits leave unknown of the observation.
ROUNDING = 1 / 255


def as_model(generator: Generator, path: str) -> Tensor:
    """The image at `path` as (C, H, W) of the model; ValueError where its size is not the model's."""
    if isinstance(generator.space, Latent):
        raise ValueError("a model of codes, and this works on pixels: give another model")
    pixels = read(path).pixels
    if pixels.shape[1:] != torch.Size(generator.shape[1:]):
        sizes = " x ".join(map(str, reversed(generator.shape[1:])))
        height, width = pixels.shape[1:]
        raise ValueError(f"{path}: {width} x {height} pixels, but the model makes images of {sizes}: scale it first")
    if generator.shape[0] == 3:
        return pixels
    if float((pixels.amax(0) - pixels.amin(0)).max()) > 2 / 255:
        raise ValueError(f"{path}: in colour, but the model makes grey images: convert it first")
    return pixels.mean(0, keepdim=True)


def editor(what: str, generator: Generator, mask: str | None = None) -> Callable[..., Tensor]:
    """`(path, samples, label, steps, seed) -> pictures` for inpaint or colourise.

    Raises ValueError for a mask, or a model, that suits no image at all.
    """
    if what == "inpaint":
        return partial(_inpainted, generator, _hole(generator, mask))
    if generator.shape[0] != 3:
        raise ValueError("colourise: this model makes grey images; give --model one of colour")
    return partial(_colourised, generator)


def _hole(generator: Generator, mask: str | None) -> Tensor:
    """(1, H, W): what is filled in; the lower half by default."""
    if mask is None:
        hole = torch.zeros(1, *generator.shape[1:], dtype=torch.bool)
        hole[:, hole.shape[1] // 2 :] = True
        return hole
    hole = as_model(generator, mask).mean(0, keepdim=True) > 0.5
    if not hole.any() or hole.all():
        raise ValueError(f"--mask {mask}: {'nothing' if not hole.any() else 'everything'} is to be filled in")
    return hole


def _inpainted(
    generator: Generator, hole: Tensor, path: str, samples: int, label: Tensor | None, steps: int, seed: int
) -> Tensor:
    """The image, the image with its hole, and samples that fill it."""
    image = as_model(generator, path)
    found = _posterior(generator, Mask(~hole), (~hole * image)[None], samples, label, steps, seed)
    return torch.cat([image[None], torch.where(hole, 0.5, image)[None], torch.where(hole, found, image[None])])


def _colourised(generator: Generator, path: str, samples: int, label: Tensor | None, steps: int, seed: int) -> Tensor:
    """The image, its grey, and samples of that grey."""
    image = as_model(generator, path)
    operator = Channels.luma()
    grey = operator.forward(image[None])
    found = _posterior(generator, operator, grey, samples, label, steps, seed)
    return torch.cat([image[None], grey.expand(1, 3, -1, -1), found])


def _posterior(
    generator: Generator, operator: Operator, y: Tensor, samples: int, label: Tensor | None, steps: int, seed: int
) -> Tensor:
    # The true covariance, Tweedie's, asks for the Jacobian of a network where it is least reliable, at high noise.
    spread = Isotropic((generator.denoiser.scale or 1.0) ** 2)
    guided = Posterior(generator.denoiser, generator.process, operator, operator.observe(y), ROUNDING, spread)
    preset = PRESETS["sde-2"]
    given = {} if label is None else {"label": label.expand(samples)}
    return sample(
        guided, generator.process, generator.space, shape=(samples, *generator.shape),
        times=preset.grid(generator.process, steps), solver=preset.solver,
        noise=PerSample(range(seed, seed + samples)), **given,
    )  # fmt: skip


def interpolated(generator: Generator, paths: Sequence[str], samples: int, label: Tensor | None) -> Tensor:
    """The first image, `samples` between the two along the great circle of their codes, the second image."""
    if len(paths) != 2:
        raise ValueError(f"interpolate: {len(paths)} images: give two")
    ends = torch.stack([as_model(generator, path) for path in paths])
    process, space = generator.process, generator.space
    one: dict[str, Any] = {} if label is None else {"label": label.expand(1)}
    two: dict[str, Any] = {k: v.expand(2) for k, v in one.items()}
    codes = latent.encode(generator.denoiser, process, space.encode(ends), **two)
    weights = torch.linspace(0, 1, samples + 2, dtype=torch.float64)[1:-1]
    between = latent.interpolate(codes[:1], codes[1:], weights)[:, 0]
    given: dict[str, Any] = {k: v.expand(samples) for k, v in one.items()}
    states = latent.decode(generator.denoiser, process, between, **given)
    return torch.cat([ends[:1], space.decode(states).clamp(0, 1), ends[1:]])
