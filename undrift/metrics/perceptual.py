"""Perceptual similarity of pairs: ``haarpsi`` and ``gmsd`` need no weights, ``lpips`` needs two local files.

All take x (reference) and y, (B, 3, H, W) in [0, 1], the whole image without rounding, and return (B,).
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Lpips", "gmsd", "haarpsi", "lpips"]

YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def _check(x: Tensor, y: Tensor, least: int) -> None:
    if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"expected two batches (B, 3, H, W), got {tuple(x.shape)} and {tuple(y.shape)}")
    if min(x.shape[-2:]) < least:
        raise ValueError(f"{x.shape[-1]} x {x.shape[-2]} pixels: this measure needs at least {least} x {least}")


def _halved_yiq(x: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> YIQ of [0, 255], float64, 2 x 2 means; odd sides see zeros, as in the papers."""
    x = torch.einsum("kc,bchw->bkhw", x.new_tensor(YIQ, dtype=torch.float64), x.double().clamp(0, 1) * 255)
    return F.avg_pool2d(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)), 2)


def _alike(a: Tensor, b: Tensor, constant: float) -> Tensor:
    ratio: Tensor = (2 * a * b + constant) / (a * a + b * b + constant)
    return ratio


def _same(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolution of each channel with zero borders, output of the input's size."""
    n = kernel.shape[-1]
    padded = F.pad(x, ((n - 1) // 2, n // 2) * 2)
    out: Tensor = F.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None])[:, 0].unflatten(0, x.shape[:2])
    return out


def _haar(y: Tensor) -> Tensor:
    """|Haar coefficients| of the luma (B, 1, H, W): (B, 2 directions, 3 scales, H, W)."""
    scales = []
    for scale in (1, 2, 3):
        kernel = torch.full((2**scale, 2**scale), 2.0**-scale, dtype=y.dtype, device=y.device)
        kernel[: 2 ** (scale - 1)] *= -1
        scales.append(torch.cat([_same(y, kernel), _same(y, kernel.T)], 1).abs())
    return torch.stack(scales, 2)


def haarpsi(x: Tensor, y: Tensor) -> Tensor:
    """Haar wavelet-based perceptual similarity index, in [0, 1], 1 where equal: (B,) float64.

        HaarPSI = l^-1( sum_k l(S_k) W_k / sum_k W_k )^2,   l(s) = 1 / (1 + exp(-alpha s)),

    S_k the similarity of the two finest Haar magnitudes in each direction and of the chroma, W_k the coarsest.
    "A Haar wavelet-based perceptual similarity index for image quality assessment" (Reisenhofer et al., 2018,
    arXiv:1607.06140), C = 30, alpha = 4.2.
    """
    _check(x, y, 16)
    alpha, constant = 4.2, 30.0
    a, b = _halved_yiq(x), _halved_yiq(y)
    ha, hb = _haar(a[:, :1]), _haar(b[:, :1])
    luma = _alike(ha[:, :, :2], hb[:, :, :2], constant).mean(2)  # (B, 2, H, W)
    weight = torch.maximum(ha[:, :, 2], hb[:, :, 2])
    mean = x.new_full((2, 2), 0.25, dtype=torch.float64)
    chroma = _alike(_same(a[:, 1:], mean).abs(), _same(b[:, 1:], mean).abs(), constant).mean(1, keepdim=True)
    similarity = torch.cat((luma, chroma), 1)
    # the floor decides only where both images are flat, where the formula says 0 / 0
    weight = torch.cat((weight, weight.mean(1, keepdim=True)), 1).clamp_min(1e-9)
    score = (torch.sigmoid(alpha * similarity) * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    return (torch.logit(score) / alpha).square()


def gmsd(x: Tensor, y: Tensor) -> Tensor:
    """Gradient magnitude similarity deviation of the luma, 0 where equal: (B,) float64.

    The standard deviation of (2 m_x m_y + 170) / (m_x^2 + m_y^2 + 170), m the Prewitt gradients. "Gradient magnitude
    similarity deviation: a highly efficient perceptual image quality index" (Xue et al., 2014, arXiv:1308.3052).
    """
    _check(x, y, 4)
    kernel = x.new_tensor([[1.0, 0.0, -1.0]] * 3, dtype=torch.float64) / 3
    mx, my = (
        torch.hypot(_same(luma, kernel), _same(luma, kernel.T))
        for luma in (_halved_yiq(x)[:, :1], _halved_yiq(y)[:, :1])
    )
    return _alike(mx, my, 170.0).std((1, 2, 3))


# Trunks as torchvision numbers them: (index in `features`, channels in, out, kernel, stride, padding) with its
# ReLU; "tap" where activations are compared.
Layer = tuple[int, int, int, int, int, int] | Literal["pool", "tap"]
ALEX: list[Layer] = [
    (0, 3, 64, 11, 4, 2), "tap", "pool", (3, 64, 192, 5, 1, 2), "tap", "pool", (6, 192, 384, 3, 1, 1), "tap",
    (8, 384, 256, 3, 1, 1), "tap", (10, 256, 256, 3, 1, 1), "tap",
]  # fmt: skip
VGG: list[Layer] = [
    (0, 3, 64, 3, 1, 1), (2, 64, 64, 3, 1, 1), "tap", "pool", (5, 64, 128, 3, 1, 1), (7, 128, 128, 3, 1, 1), "tap",
    "pool", (10, 128, 256, 3, 1, 1), (12, 256, 256, 3, 1, 1), (14, 256, 256, 3, 1, 1), "tap", "pool",
    (17, 256, 512, 3, 1, 1), (19, 512, 512, 3, 1, 1), (21, 512, 512, 3, 1, 1), "tap", "pool",
    (24, 512, 512, 3, 1, 1), (26, 512, 512, 3, 1, 1), (28, 512, 512, 3, 1, 1), "tap",
]  # fmt: skip
TRUNKS = {"alex": (ALEX, "alexnet-owt-7be5be79.pth", 3), "vgg": (VGG, "vgg16-397923af.pth", 2)}


class Lpips(nn.Module):
    """LPIPS v0.1: sum over layers of the mean over pixels of w . (f_x/|f_x| - f_y/|f_y|)^2.

    "The unreasonable effectiveness of deep features as a perceptual metric" (Zhang et al., 2018, arXiv:1801.03924).

    Arguments:
        net: "alex" (what benchmarks report) or "vgg".
        weights: torchvision's ImageNet trunk, a file or the folder it is in; default the folder UNDRIFT_WEIGHTS.
        heads: the linear heads; default those inside the installed torchmetrics.
    """

    def __init__(
        self,
        net: Literal["alex", "vgg"] = "alex",
        weights: str | os.PathLike[str] | None = None,
        heads: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if net not in TRUNKS:
            raise ValueError(f"net = {net!r}: expected one of {', '.join(TRUNKS)}")
        self.layers, name, self.window = TRUNKS[net]
        path = _local(weights, name)
        trunk = _weights(path)
        self.convs = nn.ModuleDict()
        for layer in self.layers:
            if isinstance(layer, str):
                continue
            index, inner, outer, kernel, stride, padding = layer
            conv = self.convs[str(index)] = nn.Conv2d(inner, outer, kernel, stride, padding)
            try:
                conv.load_state_dict({k: trunk[f"features.{index}.{k}"] for k in ("weight", "bias")})
            except (KeyError, TypeError, RuntimeError):
                raise ValueError(f"{path}: not the weights of torchvision's {name}") from None
        linear = _weights(Path(heads) if heads is not None else _shipped(net))
        self.heads = nn.ParameterList([linear[f"lin{i}.model.1.weight"] for i in range(5)])
        self.requires_grad_(False).eval()

    def taps(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> five unit-length feature maps."""
        shift, scale = x.new_tensor((-0.030, -0.088, -0.188)), x.new_tensor((0.458, 0.448, 0.450))
        h = (2 * x - 1 - shift.view(3, 1, 1)) / scale.view(3, 1, 1)
        taps = []
        for layer in self.layers:
            if layer == "pool":
                h = F.max_pool2d(h, self.window, 2)
            elif layer == "tap":
                taps.append(h / (h.norm(dim=1, keepdim=True) + 1e-10))
            else:
                h = F.relu(self.convs[str(layer[0])](h))
        return taps

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance (B,) float32 of x, y (B, 3, H, W) in [0, 1]."""
        _check(x, y, 32)
        layers = zip(self.heads, self.taps(x), self.taps(y), strict=True)
        return torch.stack([F.conv2d((a - b).square(), w).mean((1, 2, 3)) for w, a, b in layers]).sum(0)


def lpips(
    x: Tensor, y: Tensor, net: Literal["alex", "vgg"] = "alex", weights: str | os.PathLike[str] | None = None
) -> Tensor:
    """``Lpips(net, weights)(x, y)``: keep the module instead where there are many pairs."""
    return Lpips(net, weights).to(x.device)(x, y)  # type: ignore[no-any-return]


def _local(weights: str | os.PathLike[str] | None, name: str) -> Path:
    """The trunk file, or one line that says how to get it."""
    given = weights or os.environ.get("UNDRIFT_WEIGHTS")
    path = Path(given or ".")
    path = path / name if path.is_dir() else path
    if given is None or not path.is_file():
        raise FileNotFoundError(
            f"LPIPS needs {name} ({'no ' + str(path) if given else 'nowhere given'}): download it from "
            f"https://download.pytorch.org/models/{name} and pass weights= or set UNDRIFT_WEIGHTS to its folder"
        )
    return path


def _shipped(net: str) -> Path:
    """The linear heads inside torchmetrics, found without importing it."""
    spec = find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("LPIPS heads are those of torchmetrics: pip install torchmetrics, or pass heads=")
    return Path(spec.origin).parent / "functional/image/lpips_models" / f"{net}.pth"


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
    except Exception as error:
        raise ValueError(f"{path}: not a file of weights ({str(error).splitlines()[0]})") from None
