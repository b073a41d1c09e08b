r"""A photograph without the motion that it shows: its blur seen in its cepstrum, then divided out (Wiener).

    y = k * x + n,    C = F^-1 log |F y|^2 = C_x + C_k,    k_hat = softmax(MLP(C)),
    x_hat = F^-1 [ conj(K) / (|K|^2 + r |f|^2) F y ],    f in units of the Nyquist frequency.

A sharp photograph's |F x|^2 falls as 1/|f|^2 and has no structure of its own (Field 1987); a camera's path leaves
parallel dark lines in it, in the cepstrum peaks at its ends (Rom, On the cepstrum of two-dimensional functions, 1975).
Neither tells k(u) from k(-u): both are tried, and the one whose x_hat has the sparser gradients is right (Levin et al.,
Understanding and evaluating blind deconvolution algorithms, 2009).
"""

from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Deblur"]

RADIUS = 8  # of the kernel, pixels
LAG = 14  # of the cepstrum, up to which it is looked at
REACH = 32  # of the correlations behind it
SIDES = 2 * RADIUS + 1
FEATURES = (LAG + 1) * (2 * LAG + 1)
LEAST = 48  # pixels a side: smaller photographs show too little of it
LUMA = (0.299, 0.587, 0.114)


@final
class Deblur(nn.Module):
    """y (B, C, H, W) in [0, 1] -> (B, C, H, W), about in [0, 1]; y itself where it is smaller than 48 pixels a side.

    The blur is taken to be one for the whole image: photographs in tiles may have another in each.

    Arguments:
        width: of the two hidden layers.
        ratio: r, the noise's power over the signal's at the Nyquist frequency.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int = 320, ratio: float = 0.1) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width = {width}: need at least 1")
        self.ratio = ratio
        # Buffers, for what it knows of blur is learnt apart, by `recipes/deblur.py`, and no gradient passes.
        sizes = (FEATURES, width, width, SIDES * SIDES)
        self.register_buffer("mean", torch.zeros(FEATURES))  # of the cepstra it has seen
        self.register_buffer("deviation", torch.ones(FEATURES))
        for number, (inputs, outputs) in enumerate(pairwise(sizes)):
            self.register_buffer(f"weight{number}", torch.randn(outputs, inputs) * inputs**-0.5)
            self.register_buffer(f"bias{number}", torch.zeros(outputs))

    @torch.no_grad()
    def forward(self, y: Tensor) -> Tensor:
        if min(y.shape[-2:]) < LEAST:
            return y
        with torch.autocast(y.device.type, enabled=False):
            return self._deblurred(y.float()).to(y.dtype)

    def kernel(self, grey: Tensor) -> Tensor:
        """k_hat (B, 17, 17) or its mirror image, of grey (B, H, W)."""
        x = ((cepstrum(grey) - self.mean.float()) / self.deviation.float()).clamp(-6, 6)
        for number in range(3):
            weight, bias = (getattr(self, f"{name}{number}").float() for name in ("weight", "bias"))
            x = F.linear(F.silu(x) if number else x, weight, bias)
        return x.softmax(-1).view(-1, SIDES, SIDES)

    def _deblurred(self, y: Tensor) -> Tensor:
        grey = luma(y)
        kernel = self.kernel(grey)
        forth, back = (wiener(grey[:, None], k, self.ratio)[:, 0] for k in (kernel, kernel.flip(1, 2)))
        right = (sparsity(forth) <= sparsity(back))[:, None, None]
        return wiener(y, torch.where(right, kernel, kernel.flip(1, 2)), self.ratio).clamp(-0.5, 1.5)


def luma(y: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W)."""
    return torch.einsum("bchw,c->bhw", y, y.new_tensor(LUMA)) if y.shape[1] == len(LUMA) else y.mean(1)


def cepstrum(grey: Tensor) -> Tensor:
    """grey (B, H, W) -> (B, FEATURES): its lags up to LAG, half of them, for C(-u) = C(u)."""
    height, width = grey.shape[-2:]
    sides = [torch.hann_window(n, periodic=False, device=grey.device).sqrt() for n in (height, width)]
    window = sides[0][:, None] * sides[1]
    flat = (grey - (grey * window).sum((1, 2), keepdim=True) / window.sum()) * window
    size = [-(-(n + REACH) // 32) * 32 for n in (height, width)]
    correlation = torch.fft.irfft2(torch.fft.rfft2(flat, s=size).abs().square(), s=size)
    near = torch.cat([correlation[:, -REACH:], correlation[:, :REACH]], 1)
    near = torch.cat([near[..., -REACH:], near[..., :REACH]], 2)
    lags = torch.hann_window(2 * REACH, device=grey.device)
    power = torch.fft.rfft2((near * lags[:, None] * lags).roll((-REACH, -REACH), (1, 2))).real
    white = power.clamp_min(0) * (_frequency(2 * REACH, 2 * REACH, grey.device) + 1e-3)
    log = (white / (white.mean((1, 2), keepdim=True) + 1e-6) + 1e-4).log()
    full: Tensor = torch.fft.irfft2(log, s=(2 * REACH, 2 * REACH)).roll((REACH, REACH), (1, 2))
    return full[:, REACH - LAG : REACH + 1, REACH - LAG : REACH + LAG + 1].flatten(1)


def wiener(y: Tensor, kernel: Tensor, ratio: float) -> Tensor:
    """y (B, C, H, W) without kernel (B, K, K), K odd; past its edges y runs on smoothly to the opposite ones."""
    height, width = y.shape[-2:]
    closed = _closed(_closed(y, 2), 3)
    spectrum, size = torch.fft.rfft2(closed), closed.shape[-2:]
    transfer = torch.fft.rfft2(embedded(kernel, size[0], size[1]))
    power = transfer.abs().square() + ratio * _frequency(size[0], size[1], y.device) + 1e-6
    clear: Tensor = torch.fft.irfft2(spectrum * (transfer.conj() / power)[:, None], s=size)
    return clear[..., :height, :width]


def embedded(kernel: Tensor, height: int, width: int) -> Tensor:
    """(B, K, K) -> (B, height, width), its middle at the pixel (0, 0) of the torus."""
    reach = kernel.shape[-1] // 2
    frame = kernel.new_zeros(*kernel.shape[:-2], height, width)
    frame[..., : kernel.shape[-2], : kernel.shape[-1]] = kernel
    return frame.roll((-reach, -reach), (-2, -1))


def sparsity(x: Tensor) -> Tensor:
    """(B, H, W) -> (B,): the 0.7-norm of the differences of neighbours over their 2-norm, small where few are large."""
    inner = x[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
    total = torch.zeros(len(x), device=x.device)
    for axis in (1, 2):
        step = inner.diff(dim=axis).abs()
        total += (step + 1e-4).pow(0.7).mean((1, 2)) / step.square().mean((1, 2)).clamp_min(1e-12).pow(0.35)
    return total


def _closed(y: Tensor, axis: int) -> Tensor:
    """y with a margin after its end, which leads back to its start: a period of a function without a jump."""
    size = y.shape[axis]
    margin = 2 * RADIUS + -(size + 2 * RADIUS) % 16  # a multiple of 16 is quick to transform
    share = ((torch.arange(margin, device=y.device) + 0.5) / margin).view([-1 if n == axis else 1 for n in range(4)])
    share = share * share * (3 - 2 * share)
    ends, starts = y.narrow(axis, size - 1, 1), y.narrow(axis, 0, 1)
    return torch.cat([y, ends * (1 - share) + starts * share], axis)


def _frequency(height: int, width: int, device: torch.device) -> Tensor:
    """|f|^2 of `rfft2`, the Nyquist frequency being 1."""
    rows, columns = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)
    squares: Tensor = 4 * (rows[:, None].square() + columns.square())
    return squares
