"""Fidelity, pixel by pixel: PSNR and SSIM, with the conventions that move them written in the result's name.

The default protocol is that of the IR-SDE, DA-CLIP and MR Sampler test scripts: clamp, round to uint8, cut 4 px
off each side, all RGB values together.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Protocol", "psnr", "ssim"]

WINDOW, SIGMA = 11, 1.5
LUMA = (65.481, 128.553, 24.966)  # BT.601, studio range, from R, G, B in [0, 1]; black is 16


@dataclass(frozen=True)
class Protocol:
    """What is compared: ``f"PSNR-{Protocol()}"`` is ``PSNR-RGB crop4 uint8``.

    Arguments:
        channel: "rgb" (all three channels) or "y" (BT.601 studio-range luma, not rounded).
        crop: pixels cut off each side.
        quantise: round to 8 bits first, as a file would.
    """

    channel: Literal["rgb", "y"] = "rgb"
    crop: int = 4
    quantise: bool = True

    def __post_init__(self) -> None:
        if self.channel not in ("rgb", "y") or self.crop < 0:
            raise ValueError(f"{self!r}: expected channel 'rgb' or 'y' and crop >= 0")

    def __str__(self) -> str:
        return f"{self.channel.upper()} crop{self.crop} {'uint8' if self.quantise else 'float'}"

    def prepare(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3 or 1, H - 2 crop, W - 2 crop) float64 in [0, 255]."""
        height, width = x.shape[-2:]
        if min(height, width) <= 2 * self.crop:
            raise ValueError(f"crop = {self.crop} leaves nothing of {width} x {height} pixels: lower Protocol.crop")
        x = x[..., self.crop : height - self.crop, self.crop : width - self.crop].double().clamp(0, 1) * 255
        x = x.round() if self.quantise else x
        if self.channel == "rgb":
            return x
        return 16 + (x * x.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True) / 255


def _pair(x: Tensor, y: Tensor, protocol: Protocol) -> tuple[Tensor, Tensor]:
    if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"expected two batches (B, 3, H, W), got {tuple(x.shape)} and {tuple(y.shape)}")
    return protocol.prepare(x), protocol.prepare(y)


def psnr(x: Tensor, y: Tensor, protocol: Protocol = Protocol()) -> Tensor:
    """10 log10(255^2 / mean (x - y)^2) in dB, per image: (B,) float64, infinite where equal."""
    x, y = _pair(x, y, protocol)
    return 10 * torch.log10(255.0**2 / (x - y).square().mean((1, 2, 3)))


def ssim(x: Tensor, y: Tensor, protocol: Protocol = Protocol()) -> Tensor:
    """Structural similarity, mean over the valid region and the channels, per image: (B,) float64.

    "Image quality assessment: from error visibility to structural similarity" (Wang et al., 2004):
    Gaussian window 11 x 11 of sigma 1.5, K1 = 0.01, K2 = 0.03, biased local variances.
    """
    x, y = _pair(x, y, protocol)
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(
            f"SSIM needs {WINDOW} x {WINDOW} pixels, {x.shape[-1]} x {x.shape[-2]} are left after crop "
            f"{protocol.crop}: lower Protocol.crop or use a larger image"
        )
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = _blur(x), _blur(y)
    vx, vy, cov = _blur(x * x) - mx * mx, _blur(y * y) - my * my, _blur(x * y) - mx * my
    local = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return local.mean((1, 2, 3))


def _blur(x: Tensor) -> Tensor:
    """Gaussian window means over the valid region; shifted sums, since a float64 convolution is ten times slower."""
    weight = torch.exp(-(torch.arange(WINDOW, dtype=x.dtype) - WINDOW // 2).square() / (2 * SIGMA**2))
    for axis in (2, 3):
        valid = x.shape[axis] - WINDOW + 1
        total = torch.zeros_like(x.narrow(axis, 0, valid))
        for shift, w in enumerate((weight / weight.sum()).tolist()):
            total.add_(x.narrow(axis, shift, valid), alpha=w)
        x = total
    return x
