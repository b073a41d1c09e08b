"""The camera's own doing: noise, compression, underexposure. None of them is linear."""

import io
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .base import Degradation, Operator, Range, Shape, check_range
from .fields import integer, uniform

__all__ = ["JPEG", "Clipped", "Compressed", "LowLight", "Noise", "Underexposed"]


@final
@dataclass(frozen=True, eq=False)
class Clipped(Operator):
    """y = clip(x + noise, 0, 1). noise (C, H, W)."""

    noise: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return (x + self.noise.to(x)).clamp(0, 1)


@final
@dataclass(frozen=True)
class Noise(Degradation):
    """y = clip(x + sigma n, 0, 1), n standard normal, independent in each value; clipped as a photograph is.

    Like the denoising benchmarks at sigma = 25 and 50 (Zhang et al., DnCNN, 2016, arXiv:1608.03981).

    Args:
        sigma: standard deviation, 8-bit grey levels.
    """

    sigma: Range = (25.0, 50.0)

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, 0, 255)

    def draw(self, shape: Shape, generator: torch.Generator) -> Clipped:
        sigma = uniform(self.sigma, generator) / 255
        return Clipped(sigma * torch.randn(shape, generator=generator))


@final
@dataclass(frozen=True, eq=False)
class Compressed(Operator):
    """A JPEG round trip at `quality` through Pillow, chroma halved (4:2:0); one or three channels."""

    quality: int

    def __call__(self, x: Tensor) -> Tensor:
        levels = x.detach().clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
        picture = Image.fromarray(levels.permute(1, 2, 0).squeeze(-1).contiguous().numpy())
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=self.quality)
        decoded = torch.from_numpy(np.array(Image.open(buffer))).reshape(*x.shape[1:], x.shape[0])
        return decoded.permute(2, 0, 1).to(x) / 255


@final
@dataclass(frozen=True)
class JPEG(Degradation):
    """y = the photograph saved as JPEG and read back, on the 8-bit scale (ITU-T T.81, 1992).

    The benchmark (LIVE1) uses quality 10.

    Args:
        quality: as the encoder counts it, 1 to 95; both ends are drawn.
    """

    quality: tuple[int, int] = (8, 20)

    def __post_init__(self) -> None:
        check_range("quality", self.quality, 1, 95)

    def draw(self, shape: Shape, generator: torch.Generator) -> Compressed:
        if shape[0] not in (1, 3):
            raise ValueError(f"{shape[0]} channels: JPEG stores 1 or 3; convert the image to grey or RGB")
        return Compressed(integer(*self.quality, generator))


@final
@dataclass(frozen=True, eq=False)
class Underexposed(Operator):
    """y = Q((e L + sqrt(shot e L + read^2) n)^(1/2.2)), L = x^2.2 the light, Q clips and rounds to 8 bits.

    grain n (C, H, W) is standard normal. Rounding is kept because it is a real loss so near to black.
    """

    exposure: float
    shot: float
    read: float
    grain: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        light = self.exposure * x.clamp(0, 1) ** 2.2
        light = light + (self.shot * light + self.read**2).sqrt() * self.grain.to(x)
        return (light.clamp(0, 1) ** (1 / 2.2)).mul(255).round() / 255


@final
@dataclass(frozen=True)
class LowLight(Degradation):
    """Too short an exposure, e of the light, with the sensor's shot and read noise: see `Underexposed`.

    Like LOL (Wei et al., Deep Retinex Decomposition for Low-Light Enhancement, 2018, arXiv:1808.04560), whose
    dark photographs have about a seventh of the grey level of the bright ones.

    Args:
        gain: the factor on grey levels, e^(1/2.2).
        shot: variance of the noise per unit of light.
        read: standard deviation of the noise in the dark, in units of full light.
    """

    gain: Range = (0.12, 0.3)
    shot: Range = (1e-4, 4e-4)
    read: Range = (5e-5, 2e-4)

    def __post_init__(self) -> None:
        check_range("gain", self.gain, 0, 1)
        check_range("shot", self.shot, 0, 1)
        check_range("read", self.read, 0, 1)

    def draw(self, shape: Shape, generator: torch.Generator) -> Underexposed:
        exposure = uniform(self.gain, generator) ** 2.2
        shot, read = uniform(self.shot, generator), uniform(self.read, generator)
        return Underexposed(exposure, shot, read, torch.randn(shape, generator=generator))
