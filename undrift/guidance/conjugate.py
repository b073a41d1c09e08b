"""Conjugate gradients on a batch, without a matrix (Hestenes & Stiefel 1952)."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..tensor import expand

__all__ = ["conjugate_gradient"]


def conjugate_gradient(apply: Callable[[Tensor], Tensor], r: Tensor, iterations: int, tolerance: float) -> Tensor:
    """x with M x = r, for M symmetric and positive semidefinite on each sample; `apply(v)` is M v, (B, ...).

    A sample stops on its own, whatever its batch mates do: when its residual falls below `tolerance` |r|, after
    `iterations`, and where M shows no positive curvature (r outside its range, or an estimate of M that is no
    covariance); it then keeps what it has.
    """
    x, direction = torch.zeros_like(r), r
    left = first = _dot(r, r)
    for _ in range(iterations):
        going = left > tolerance**2 * first
        if not bool(going.any()):
            break
        image = apply(direction)
        curvature = _dot(direction, image)
        going = going & (curvature > 0)
        step = torch.where(going, left / torch.where(going, curvature, 1.0), 0.0)
        x = x + expand(step, r) * direction
        r = r - expand(step, r) * image
        after = torch.where(going, _dot(r, r), 0.0)
        direction = r + expand(torch.where(going, after / left.clamp(min=1e-300), 0.0), r) * direction
        left = after
    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> per sample, (B,), float64: sums over images lose digits in float32."""
    return (a.double() * b.double()).flatten(1).sum(1)
