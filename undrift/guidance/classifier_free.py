r"""Classifier-free guidance: the implicit classifier of a network trained with and without its condition,

    z_0 <- z_0(null) + scale (z_0(cond) - z_0(null)).

Classifier-Free Diffusion Guidance (Ho & Salimans 2022, arXiv 2207.12598), whose w is scale - 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..process import Process
from ..tensor import expand

__all__ = ["ClassifierFree"]


@final
@dataclass(frozen=True, eq=False)
class ClassifierFree:
    """denoise(z, t, **cond), extrapolated from the estimate without the conditions.

    Arguments:
        denoise: an estimate that was trained with some conditions dropped.
        process: its path.
        scale: 0 is the estimate without the conditions, 1 the one with them (no extra call), more exaggerates;
            a number, or one per sample, (B,).
        null: what stands for "no condition": for each condition to replace a number that fills its tensor (the class
            K for `label`), a tensor that broadcasts to it, or None to leave it out.
        interval: of lambda = log(alpha/sigma), outside of which scale is 1 (Applying Guidance in a Limited Interval,
            Kynkaanniemi et al. 2024, arXiv 2404.07724).
        batched: one call with 2 B samples, or two with B, which needs half the memory.

    Raises ValueError for an empty interval, for an empty `null`, and in a call that lacks a condition to replace.
    """

    denoise: Denoise
    process: Process
    scale: float | Tensor
    null: Mapping[str, Any]
    interval: tuple[float, float] = (-math.inf, math.inf)
    batched: bool = True

    def __post_init__(self) -> None:
        if not self.interval[0] < self.interval[1]:
            raise ValueError(f"ClassifierFree interval = {self.interval}: need lambda as (low, high), low < high")
        if not self.null:
            raise ValueError(f"ClassifierFree null = {self.null}: name what is left out, e.g. {{'label': classes}}")

    def __call__(self, z: Tensor, t: Tensor, **cond: Any) -> Tensor:
        """z (B, ...), t () or (B,), conditions each (B, ...) -> z_0 (B, ...)."""
        missing = sorted(set(self.null) - set(cond))
        if missing:
            raise ValueError(f"condition {missing[0]!r} is not given, only {sorted(cond)}: guidance compares with and "
                             "without it; pass it")  # fmt: skip
        lam = self.process.half_log_snr(t)
        scale = torch.where(
            (self.interval[0] <= lam) & (lam <= self.interval[1]), torch.as_tensor(self.scale).to(lam), 1.0
        )
        if bool((scale == 1).all()):
            return self.denoise(z, t, **cond)
        bare = {k: v for k, v in cond.items() if k not in self.null} | _nothing(self.null, cond)
        if self.batched and bare.keys() == cond.keys():
            pair = {k: torch.cat([v, bare[k]]) if torch.is_tensor(v) else v for k, v in cond.items()}
            both = self.denoise(torch.cat([z, z]), torch.cat([t, t]) if t.ndim else t, **pair)
            given, without = both.chunk(2)
        else:
            given, without = self.denoise(z, t, **cond), self.denoise(z, t, **bare)
        return without + expand(scale, z) * (given - without)


def _nothing(null: Mapping[str, Any], cond: Mapping[str, Any]) -> dict[str, Tensor]:
    kept = {k: torch.as_tensor(v) for k, v in null.items() if v is not None}
    return {k: v.to(cond[k]).expand_as(cond[k]) for k, v in kept.items()}
