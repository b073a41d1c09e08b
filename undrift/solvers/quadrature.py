r"""Exact weights of the exponential integrators.

With u = (lambda - lambda_t) / h in units of the step, a step needs int_0^1 r e^{-r(1-u)} p(u) du for the
polynomial p through the last predictions: linear in them, with weights that depend on the nodes and r alone.
"""

from math import factorial

import torch
from torch import Tensor

__all__ = ["lagrange_weights", "moments"]


def moments(r: Tensor, count: int) -> Tensor:
    r"""M_k = int_0^1 r e^{-r(1-u)} u^k du for k < count, float64; r (*) of any sign -> (*, count).

    M_0 = 1 - e^{-r}, M_k = 1 - k M_{k-1} / r; near 0, where the recursion cancels, the series
    r sum_j (-r)^j k! / (k+1+j)!. r = infinity gives 1.
    """
    near = r.abs() < 2  # the recursion loses about 2 digits per order here; 30 terms leave 1e-24
    x = torch.where(near, r, 1.0)
    series = [x * sum((-x) ** j * (factorial(k) / factorial(k + 1 + j)) for j in range(30)) for k in range(count)]
    safe = torch.where(near, 2.0, r)
    exact = [-torch.expm1(-safe)]
    for k in range(1, count):
        exact.append(1 - k * exact[-1] / safe)
    return torch.where(near[..., None], torch.stack(series, -1), torch.stack(exact, -1))


def lagrange_weights(nodes: Tensor, r: Tensor, published: bool = False, midpoint: bool = False) -> Tensor:
    """w with int r e^{-r(1-u)} p(u) du = sum_j w_j p(u_j), for distinct nodes u (*, n) and r (*); -> (*, n).

    `published` halves the second-difference term of n = 3, as DPM-Solver(++), diffusers, k-diffusion and the official
    MR Sampler have it: their third order converges with order 2. `midpoint` replaces M_1 by M_0 / 2 for n = 2, as the
    usual DPM-Solver++(2M) has it: order 2 with another constant.
    """
    count = nodes.shape[-1]
    powers = torch.stack([nodes**k for k in range(count)], -2)
    m = moments(r, count)
    if published and count == 3:
        m = m * torch.tensor([1.0, 1.0, 0.5], dtype=m.dtype)
    if midpoint and count == 2:
        m = torch.stack([m[..., 0], m[..., 0] / 2], -1)
    weights: Tensor = torch.linalg.solve(powers, m[..., None])[..., 0]
    return weights
