"""Between the scene and the sensor: a moving camera, haze, cast shadows. All are linear or affine."""

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Degradation, Diagonal, Linear, Range, Shape, check_range, veil
from .fields import convolve, integer, smooth, uniform

__all__ = ["Blur", "Haze", "MotionBlur", "Shadow"]


@final
@dataclass(frozen=True, eq=False)
class Blur(Linear):
    """y = k * x, the edge pixels repeated outwards. kernel (K, K), K odd, sums to one."""

    kernel: Tensor

    def linear(self, x: Tensor) -> Tensor:
        r = self.kernel.shape[-1] // 2
        padded = F.pad(x[None], (r, r, r, r), mode="replicate")[0]
        frame = torch.zeros(padded.shape[-2:])
        frame[: 2 * r + 1, : 2 * r + 1] = self.kernel
        blurred = convolve(padded, frame.roll((-r, -r), (0, 1)))
        return blurred[..., r : r + x.shape[-2], r : r + x.shape[-1]]


@final
@dataclass(frozen=True)
class MotionBlur(Degradation):
    """Camera shake during the exposure: x convolved with the camera's path, in grey levels as they are.

    Like GoPro (Nah et al., Deep Multi-scale CNN for Dynamic Scene Deblurring, 2017, arXiv:1612.02177), whose
    blur is an average of frames; ours does not vary over the image. The lengths give Kodak24's photographs, whole,
    25.5 dB on the mean (20 to 30 dB); GoPro's blurred test images have 25.6 dB.

    Args:
        length: length of the path, pixels.
        bend: how far the path turns from end to end, radians, either way.
    """

    length: Range = (4.0, 11.0)
    bend: Range = (0.0, 1.6)

    def __post_init__(self) -> None:
        check_range("length", self.length, 0, 255)
        check_range("bend", self.bend, 0, math.pi)

    def draw(self, shape: Shape, generator: torch.Generator) -> Blur:
        """A path of slowly changing direction and speed, splatted bilinearly."""
        length, bend = uniform(self.length, generator), uniform(self.bend, generator)
        start, wobble, phase, haste = (2 * math.pi * torch.rand(4, generator=generator)).tolist()
        s = torch.linspace(0, 1, 4 * math.ceil(length) + 2)
        direction = start + bend * (s - 0.5) + 0.3 * torch.sin(2 * math.pi * s + wobble)
        speed = 1 + 0.6 * torch.sin(math.pi * s + phase) + 0.2 * torch.sin(2 * math.pi * s + haste)
        step = length * speed / speed.sum()
        path = torch.stack([step * direction.sin(), step * direction.cos()]).cumsum(1)  # (2, N)
        return Blur(_splat(path - (path.amin(1, True) + path.amax(1, True)) / 2))


def _splat(path: Tensor) -> Tensor:
    """The time a path (2, N), centred on the origin, spends on each pixel: (K, K), sums to one."""
    r = math.ceil(path.abs().max().item()) + 1
    base = path.floor()
    part = path - base
    kernel = torch.zeros(2 * r + 1, 2 * r + 1)
    y, x = (base + r).long()
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (part[0] if dy else 1 - part[0]) * (part[1] if dx else 1 - part[1])
            kernel.index_put_((y + dy, x + dx), weight, accumulate=True)
    return kernel / kernel.sum()


@final
@dataclass(frozen=True)
class Haze(Degradation):
    """Koschmieder's law y = t x + (1 - t) A, t = exp(-beta d), A the airlight and d in [0, 1] the depth.

    Like RESIDE (Li et al., Benchmarking Single Image Dehazing and Beyond, 2017, arXiv:1712.04143). We have no
    depth map: d rises to the top of the image, where the distance usually is, plus a smooth random field.

    Args:
        beta: optical thickness of the farthest point.
        light: brightness of the airlight A, nearly grey.
        tint: spread of A between the channels, either way.
    """

    beta: Range = (0.6, 1.8)
    light: Range = (0.7, 1.0)
    tint: float = 0.03

    def __post_init__(self) -> None:
        check_range("beta", self.beta, 0, math.inf)
        check_range("light", self.light, 0, 1)
        check_range("tint", (0.0, self.tint), 0, 1)

    def draw(self, shape: Shape, generator: torch.Generator) -> Diagonal:
        channels, height, width = shape
        beta, light = uniform(self.beta, generator), uniform(self.light, generator)
        colour = light + self.tint * (2 * torch.rand(channels, 1, 1, generator=generator) - 1)
        return veil((-beta * _depth(height, width, generator)).exp()[None], colour.clamp(0, 1))


def _depth(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A plausible depth map (H, W) in [0, 1]: 0 at the camera."""
    rise, lean = uniform((0.2, 0.8), generator), uniform((-0.2, 0.2), generator)
    y = torch.linspace(0.5, -0.5, height)[:, None] if height > 1 else torch.zeros(1, 1)
    x = torch.linspace(-0.5, 0.5, width)[None] if width > 1 else torch.zeros(1, 1)
    relief = 0.10 * smooth(height, width, 2, generator) + 0.02 * smooth(height, width, 4, generator)
    return (0.6 + rise * y + lean * x + relief).clamp_(0, 1)


@final
@dataclass(frozen=True)
class Shadow(Degradation):
    """y = x (1 - m (1 - k)): direct light is lost where m = 1, skylight stays, k_red < k_blue.

    Like SRD (Qu et al., DeshadowNet, CVPR 2017). m = sigmoid(d / penumbra), with d the signed distance
    to a random convex polygon, its outline roughened by smooth fields. The polygon is as large as the image.

    Args:
        light: what the shadow leaves of the light, k.
        penumbra: softness of the edge, pixels.
        tint: relative excess of blue over red within k.
    """

    light: Range = (0.2, 0.6)
    penumbra: Range = (0.7, 4.0)
    tint: Range = (0.0, 0.2)

    def __post_init__(self) -> None:
        check_range("light", self.light, 0, 1)
        check_range("penumbra", self.penumbra, 1e-3, math.inf)
        check_range("tint", self.tint, 0, 1)

    def draw(self, shape: Shape, generator: torch.Generator) -> Diagonal:
        channels, height, width = shape
        light, tint = uniform(self.light, generator), uniform(self.tint, generator)
        mask = (_cast(height, width, generator) / uniform(self.penumbra, generator)).sigmoid_()
        bluer = torch.linspace(-0.5, 0.5, channels) if channels > 1 else torch.zeros(1)
        left = (light * (1 + tint * bluer)).clamp(0, 1)
        return Diagonal(1 - mask * (1 - left[:, None, None]))


def _cast(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Signed distance (H, W), pixels, to the outline of a shadow: positive inside."""
    size = math.sqrt(height * width)
    sides = integer(2, 5, generator)
    turn = 2 * math.pi * (torch.arange(sides) + torch.rand(sides, generator=generator) * 0.8) / sides
    reach = size * (0.12 + 0.3 * torch.rand(sides, generator=generator))
    centre = 0.15 + 0.7 * torch.rand(2, generator=generator)
    y = (torch.arange(height) - centre[0] * height)[:, None]
    x = (torch.arange(width) - centre[1] * width)[None]
    distance = torch.full((height, width), math.inf)
    for cos, sin, r in zip(turn.cos().tolist(), turn.sin().tolist(), reach.tolist(), strict=True):
        distance = torch.minimum(distance, r - cos * x - sin * y)
    for cells, depth in ((4, 0.05), (12, 0.02)):
        distance += size * uniform((0, depth), generator) * smooth(height, width, cells, generator)
    return distance
