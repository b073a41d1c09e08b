"""How good is it, and by which convention: a number without its protocol is not a number.

| measure | wants | says |
|---|---|---|
| `psnr`, `ssim` | pairs | fidelity; `Protocol` names channel, crop and quantisation |
| `haarpsi`, `gmsd` | pairs | perceptual similarity, offline, without learned weights |
| `lpips` | pairs, two weight files | learned perceptual distance |
| `swd` | two sets | distance of distributions of patches, offline |
| `Fid` | two sets, a weight file | distance of distributions of Inception features |
"""

from .distribution import Fid, Moments, frechet, inception, swd
from .perceptual import Lpips, gmsd, haarpsi, lpips
from .pixel import Protocol, psnr, ssim

__all__ = [
    "PROTOCOLS",
    "Fid",
    "Lpips",
    "Moments",
    "Protocol",
    "frechet",
    "gmsd",
    "haarpsi",
    "inception",
    "lpips",
    "psnr",
    "ssim",
    "swd",
]

PROTOCOLS: dict[str, str] = {
    "psnr": f"PSNR [dB] {Protocol()}, higher is better",
    "ssim": f"SSIM {Protocol()}, Gaussian 11x11 sigma 1.5 valid, mean over channels, higher is better",
    "haarpsi": "HaarPSI YIQ, C 30, alpha 4.2, 2x2 mean, whole image, float, in [0, 1], higher is better",
    "gmsd": "GMSD luma, T 170, 2x2 mean, whole image, float, lower is better",
    "lpips": "LPIPS v0.1 alex, whole image, float in [-1, 1], lower is better",
    "swd": "SWD x 1e3, 7x7 patches, 128 an image and level, 512 directions, mean of levels, lower is better",
    "fid": "FID, uint8, Inception pool 2048, lower is better",
}
