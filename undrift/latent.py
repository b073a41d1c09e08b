r"""Latent codes: the probability-flow ODE is an invertible map between a state z_0 and the noise z_T it comes from.

    encode: t_min -> t_max,    decode: t_max -> t_min.

It has no parameters of its own, so that two networks that learnt the same data give the same codes. A code is close to
N(0, sigma_T^2): `interpolate` moves along the sphere, and a factor below 1 in `decode` gives the more typical image.
Source: Score-Based Generative Modeling through SDEs (Song et al. 2021, arXiv 2011.13456), section 4.3 and appendix D.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoise, check
from .noise import Replay
from .process import Process
from .solvers.adaptive import DormandPrince
from .solvers.base import Solver

__all__ = ["decode", "encode", "interpolate"]


@torch.no_grad()
def encode(
    denoise: Denoise, process: Process, z0: Tensor, *, solver: DormandPrince = DormandPrince(), **cond: Any
) -> Tensor:
    """The code, z at t_max, of states z0 (B, ...) taken to lie at t_min; shape and dtype of z0.

    `decode` returns to z0 up to ten times the tolerance.
    """
    return _move(denoise, process, z0, process.t_min, process.t_max, solver, cond)


@torch.no_grad()
def decode(
    denoise: Denoise,
    process: Process,
    latent: Tensor,
    *,
    temperature: float = 1.0,
    solver: Solver = DormandPrince(),
    **cond: Any,
) -> Tensor:
    """The state at t_min of a code (B, ...), multiplied by `temperature` first; shape and dtype of the code.

    Raises ValueError for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: need a positive factor of the code, 1 for the code itself")
    return _move(denoise, process, temperature * latent, process.t_max, process.t_min, solver, cond)


def interpolate(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    r"""Points on the great circle from code a to code b (B, ...), a for weight 0 and b for 1:

        (sin((1 - w) omega) a + sin(w omega) b) / sin(omega),    omega the angle between a and b, for each sample.

    If a and b are draws of the prior, so is every point, whatever the angle. Weights () give (B, ...), weights (N,)
    give (N, B, ...). Codes in line (omega 0 or pi) are joined by that line. Raises ValueError for unequal shapes.
    """
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"codes of shapes {tuple(a.shape)} and {tuple(b.shape)}: need two of the same shape (B, ...)")
    flat_a, flat_b = a.double().flatten(1), b.double().flatten(1)
    one, other = (flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-300) for flat in (flat_a, flat_b))
    # Twice the angle of half the triangle: accurate where the cosine is flat.
    omega = 2 * torch.atan2((one - other).norm(dim=1), (one + other).norm(dim=1))
    w = torch.as_tensor(weights, dtype=torch.float64, device=a.device)[..., None]
    line = omega.sin() < 1e-6
    safe = torch.where(line, 1.0, omega)
    shares = (torch.where(line, v, torch.sin(v * safe) / torch.sin(safe))[..., None] for v in (1 - w, w))
    left, right = (share * flat for share, flat in zip(shares, (flat_a, flat_b), strict=True))
    return (left + right).reshape(*w.shape[:-1], *a.shape).to(a.dtype)


def _move(
    denoise: Denoise, process: Process, z: Tensor, t: float, s: float, solver: Solver, cond: dict[str, Any]
) -> Tensor:
    check(denoise, z.shape, cond)
    start, end = torch.tensor([t, s], dtype=torch.float64)
    out, _ = solver.step(partial(denoise, **cond), process, z, start, end, solver.init(), Replay([]))
    return out
