r"""Heun's method for the probability-flow ODE, in the coordinates of Karras et al. (2022, arXiv 2206.00364).

With x = z / alpha and v = sigma / alpha every path is dx/dv = (x - z_0) / v: Euler's step there is DDIM.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..noise import Noise
from ..process import Process
from ..tensor import expand
from .base import Solver, State

__all__ = ["Heun"]


@final
@dataclass(frozen=True)
class Heun(Solver):
    """Order 2 with two network calls per step, one where the step ends at sigma = 0 or starts at alpha = 0.

    Arguments:
        churn: raise v by the factor 1 + churn with fresh noise before each step (EDM's gamma, at most sqrt(2) - 1
            there); 0 is the plain ODE.
        inflate: standard deviation of that noise (EDM's S_noise).
    """

    churn: float = 0.0
    inflate: float = 1.0

    def __post_init__(self) -> None:
        if not (self.churn >= 0 and self.inflate > 0):
            raise ValueError(f"Heun churn = {self.churn}, inflate = {self.inflate}: need churn >= 0, inflate > 0")

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        if self.churn:
            z, t = self._raise(process, z, t, noise)
        z0 = denoise(z, t)
        euler = process.bridge(z, z0, t, s)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
        edge = (sigma_s == 0) | (alpha_t == 0)
        if bool(edge.all()):
            return euler, ()
        # x_s = x_t + (v_s - v_t)/2 (d_t + d_s) with d = (x - z_0)/v, written as a change of Euler's step.
        v_t, v_s = sigma_t / alpha_t, sigma_s / alpha_s
        d_t = (expand(1 / alpha_t, z) * z - z0) * expand(1 / v_t, z)
        d_s = (expand(1 / alpha_s, z) * euler - denoise(euler, s)) * expand(1 / v_s, z)
        change = expand(alpha_s * (v_s - v_t) / 2, z) * (d_s - d_t)
        return torch.where(expand(edge, z).bool(), euler, euler + change), ()

    def _raise(self, process: Process, z: Tensor, t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        alpha_t, sigma_t = process.alpha_sigma(t)
        higher = process.time(
            alpha_t.log() - sigma_t.log() - torch.log1p(torch.tensor(self.churn, dtype=torch.float64))
        )
        higher = torch.maximum(higher, t)
        alpha, sigma = process.alpha_sigma(higher)
        a = torch.where(alpha == alpha_t, 1.0, alpha / alpha_t)  # nowhere to go from pure noise, alpha = 0
        std = self.inflate * torch.sqrt((sigma**2 - (a * sigma_t) ** 2).clamp(min=0.0))
        return expand(a, z) * z + expand(std, z) * noise(z, higher, t), higher
