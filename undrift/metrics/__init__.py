"""How good is it, and by which convention: a number without its protocol is not a number.

| measure | wants | says |
|---|---|---|
| `psnr`, `ssim` | pairs | fidelity; `Protocol` names channel, crop and quantisation |
| `haarpsi`, `gmsd` | pairs | perceptual similarity, offline, without learned weights |
| `lpips` | pairs, two weight files | learned perceptual distance |
| `swd` | two sets | distance of distributions of patches, offline |
| `Fid` | two sets, an extractor | distance of distributions of features, streaming |
| `set_distances` | features of two sets | Frechet, KID, Inception score, precision, recall, density, coverage |
"""

from .distribution import swd
from .diversity import InceptionScore
from .estimate import Estimate
from .features import Classified, Extractor, Features, Function, Grey, TorchScript, eight_bit
from .frechet import Fid, Moments, frechet, frechet_distance
from .kernel import kid
from .neighbours import PRDC, expected_coverage, prdc
from .perceptual import Lpips, gmsd, haarpsi, lpips
from .pixel import Protocol, psnr, ssim
from .sets import set_distances

__all__ = [
    "PRDC",
    "PROTOCOLS",
    "Classified",
    "Estimate",
    "Extractor",
    "Features",
    "Fid",
    "Function",
    "Grey",
    "InceptionScore",
    "Lpips",
    "Moments",
    "Protocol",
    "TorchScript",
    "eight_bit",
    "expected_coverage",
    "frechet",
    "frechet_distance",
    "gmsd",
    "haarpsi",
    "kid",
    "lpips",
    "prdc",
    "psnr",
    "set_distances",
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
    "fd": "Frechet distance of features, 8 bits, unbiased covariances, lower is better",
    "kid": "KID x 1e3, unbiased, kernel (a.b / D + 1)^3, disjoint subsets of up to {subset}, lower is better",
    "is": "Inception score of the extractor's classes, the whole set at once, higher is better",
    "precision": "precision, Kynkaanniemi 2019, k = {k}, share of samples near data, higher is better",
    "recall": "recall, Kynkaanniemi 2019, k = {k}, share of data near samples, higher is better",
    "density": "density, Naeem 2020, k = {k}, 1 is right",
    "coverage": "coverage, Naeem 2020, k = {k}, higher is better",
}
