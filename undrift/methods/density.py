r"""Which times a step trains on: `density(process, count, generator) -> t`, float64 (count,), in [t_min, t_max].

The draws of one batch are stratified, u_i = (u + i / count) mod 1 with one uniform u (Variational Diffusion
Models, Kingma et al. 2021, arXiv 2107.00630): each u_i alone is uniform, and together they cover the range.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import torch
from torch import Tensor

from ..draws import stratified
from ..process import Process

__all__ = ["Density", "LogNormal", "UniformIndex", "UniformLambda", "UniformTime"]


class Density(ABC):
    """A law over the times of a process."""

    @abstractmethod
    def __call__(self, process: Process, count: int, generator: torch.Generator) -> Tensor:
        """`count` times in [t_min, t_max], float64 (count,), on the CPU."""


@final
@dataclass(frozen=True)
class UniformTime(Density):
    """t uniform on [t_min, t_max]."""

    def __call__(self, process: Process, count: int, generator: torch.Generator) -> Tensor:
        return process.t_min + (process.t_max - process.t_min) * stratified(count, generator)


@final
@dataclass(frozen=True)
class UniformIndex(Density):
    """`count` equally spaced times from t_min to t_max, each as likely: the discrete objectives.

    On a `Table` of N levels count = N trains at its own levels, as DDPM does; on VE(t_min=0) at N geometric noise
    levels, as SMLD does (Song et al. 2021, arXiv 2011.13456, section 3.3).
    """

    count: int = 1000

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"UniformIndex count = {self.count}: need at least 2 levels")

    def __call__(self, process: Process, count: int, generator: torch.Generator) -> Tensor:
        index = (self.count * stratified(count, generator)).floor().clamp(max=self.count - 1)
        return process.t_min + (process.t_max - process.t_min) * index / (self.count - 1)


@final
@dataclass(frozen=True)
class UniformLambda(Density):
    r"""lambda uniform between the ends of the process, cut to [low, high].

    Because g^2 dt = -2 sigma^2 dlambda, these are the times of the likelihood objective's importance sampling
    (p proportional to g^2 / sigma^2; Song, Durkan et al. 2021, arXiv 2101.09258), for every process: with it,
    `weighting.Sigma2` is the likelihood weighting, at a twentieth of the spread that uniform times give it.
    """

    low: float = -10.0
    high: float = 10.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"UniformLambda({self.low}, {self.high}): need low < high")

    def __call__(self, process: Process, count: int, generator: torch.Generator) -> Tensor:
        return _time(process, self.low, self.high, stratified(count, generator))


@final
@dataclass(frozen=True)
class LogNormal(Density):
    """-lambda = log(sigma / alpha) normal, cut to the ends of the process (EDM, Karras et al. 2022, 2206.00364)."""

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"LogNormal std = {self.std}: need a positive standard deviation")

    def __call__(self, process: Process, count: int, generator: torch.Generator) -> Tensor:
        low, high = _ends(process, -10.0, 10.0)
        # The inverse distribution function restricted to [low, high]: no pile-up at the ends.
        first, last = (_phi((-lam - self.mean) / self.std) for lam in (high, low))
        u = first + (last - first) * stratified(count, generator)
        lam = -(self.mean + self.std * torch.special.ndtri(u))
        return _time(process, -10.0, 10.0, ((lam - low) / (high - low)).clamp(0, 1))


def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


@lru_cache(maxsize=32)
def _ends(process: Process, low: float, high: float) -> tuple[float, float]:
    """lambda at t_max and t_min, cut to [low, high]."""
    ends = process.half_log_snr(torch.tensor([process.t_max, process.t_min], dtype=torch.float64))
    bottom, top = ends.clamp(low, high).tolist()
    if not bottom < top:
        raise ValueError(f"{process}: no lambda in [{low}, {high}]; its own range is {ends.tolist()}")
    return bottom, top


@lru_cache(maxsize=32)
def _grid(process: Process, low: float, high: float) -> Tensor:
    return process.time(torch.linspace(*_ends(process, low, high), 4097, dtype=torch.float64))


def _time(process: Process, low: float, high: float, u: Tensor) -> Tensor:
    """t at the fraction u of the way in lambda. From a table: bisection at every step would cost 1 % of it."""
    grid = _grid(process, low, high)
    position = u * (len(grid) - 1)
    left = position.long().clamp(max=len(grid) - 2)
    return torch.lerp(grid[left], grid[left + 1], position - left)
