r"""Stochasticity tau of the reverse process: 0 the probability-flow ODE, 1 the reverse SDE, or anything between.

The part of a step's contraction that is due to noise is e^{-A}, A = int tau(lambda)^2 dlambda: `noise_exponent`. A
number and a function of lambda are integrated; a `NoiseControl` knows its A itself. With the noise-to-signal ratio
x = sigma / alpha = e^{-lambda}, a first-order step from t to s shrinks the noise in z / alpha by r = (x_s/x_t) e^{-A}:

| control | r |
|---|---|
| 0, `DDIM(0)` | x_s / x_t |
| 1, `DDIM(1)` | (x_s / x_t)^2 |
| `DDIM(eta)` | (x_s / x_t) sqrt(1 - eta^2 (1 - x_s^2 / x_t^2)) |
| `ERSDE5()` | phi(x_s) / phi(x_t),  phi(x) = x (exp(x^0.3) + 10) |
| `Fresh(1)` | 0: the re-noising of consistency models |
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

__all__ = ["DDIM", "ERSDE5", "Fresh", "Interval", "NoiseControl", "Phased", "Stochasticity", "noise_exponent"]


class NoiseControl(ABC):
    """A rule for the stochasticity of a step, in closed form. Subclasses are frozen dataclasses."""

    @abstractmethod
    def exponent(self, lam_t: Tensor, lam_s: Tensor) -> Tensor:
        """A >= 0 of the steps from lambda_t to lambda_s >= lambda_t, float64 (*); either may be infinite."""


Stochasticity = float | Callable[[Tensor], Tensor] | NoiseControl
"""tau: a number, a function of lambda, or a `NoiseControl`. 0 is the probability-flow ODE, 1 the reverse SDE."""


@final
@dataclass(frozen=True)
class DDIM(NoiseControl):
    """DDIM's coefficient eta in [0, 1], constant in t: 0 is deterministic, 1 ancestral sampling.

    Song et al., "Denoising Diffusion Implicit Models", 2021, arXiv 2010.02502, eq. 16. In small steps it is tau = eta.
    """

    eta: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM eta = {self.eta}: need a number from 0 (the ODE) to 1 (ancestral sampling)")

    def exponent(self, lam_t: Tensor, lam_s: Tensor) -> Tensor:
        h = torch.where(lam_t == lam_s, 0.0, lam_s - lam_t)  # also between equal infinities
        return -0.5 * torch.log1p(self.eta**2 * torch.expm1(-2 * h))


@final
@dataclass(frozen=True)
class ERSDE5(NoiseControl):
    """The fifth noise scale of ER-SDE, phi(x) = x (exp(x^0.3) + 10) of the noise-to-signal ratio x: SCott's choice.

    Cui et al., "Elucidating the solution space of extended reverse-time SDE", 2023, arXiv 2309.06169. tau falls from
    0.6 at x = 15 to 0.16 at x = 0.15. Not scale invariant: meant for data of about unit variance.
    """

    def exponent(self, lam_t: Tensor, lam_s: Tensor) -> Tensor:
        ten = torch.tensor(math.log(10), dtype=torch.float64)
        high, low = (torch.logaddexp(torch.exp(-0.3 * lam), ten) for lam in (lam_t, lam_s))
        return torch.where(lam_t == lam_s, 0.0, high - low)


@final
@dataclass(frozen=True)
class Interval(NoiseControl):
    """tau for lambda in [low, high], the ODE elsewhere."""

    tau: float = 1.0
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        if not (self.tau >= 0 and self.low < self.high):
            raise ValueError(f"Interval({self.tau}, {self.low}, {self.high}): need tau >= 0 and lambda with low < high")

    def exponent(self, lam_t: Tensor, lam_s: Tensor) -> Tensor:
        inside = lam_s.clamp(self.low, self.high) - lam_t.clamp(self.low, self.high)
        return torch.where((lam_t == lam_s) | (inside == 0) | (self.tau == 0), 0.0, self.tau**2 * inside)


@final
@dataclass(frozen=True)
class Fresh(NoiseControl):
    """`share` in [0, 1] of the noise of every state is new, whatever the step: 1 forgets the old noise altogether.

    The re-noising of consistency models (Song et al. 2023, arXiv 2303.01469, algorithm 1); less is the partial one of
    trajectory consistency distillation (Zheng et al. 2024, arXiv 2402.19159).
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"Fresh share = {self.share}: need a number from 0 (keep the noise) to 1 (all new)")

    def exponent(self, lam_t: Tensor, lam_s: Tensor) -> Tensor:
        whole = -0.5 * math.log1p(-(self.share**2)) if self.share < 1 else math.inf
        return torch.where(lam_t == lam_s, 0.0, torch.full_like(lam_t, whole))


@final
@dataclass(frozen=True)
class Phased(NoiseControl):
    """To the end e of t's segment without noise, then back to s: of the old noise e^{lambda_s - lambda_e} stays.

    The steps of a student that was taught segment by segment (Phased Consistency Models, Wang et al. 2024, arXiv
    2405.18407): none of the noise is new in a leap to the end itself, all of it in one of the last segment, whose end
    the data are. Without edges it is `Fresh(1)`.

    Arguments:
        edges: half log-SNR of the segments' ends, increasing, the data left out.

    Raises ValueError for edges that do not increase, and where a step passes over one.
    """

    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not all(a < b for a, b in pairwise((-math.inf, *self.edges, math.inf))):
            raise ValueError(f"Phased edges = {self.edges}: need finite half log-SNRs that increase")

    def exponent(self, lam_t: Tensor, lam_s: Tensor) -> Tensor:
        near = 1e-6  # times make the round trip through lambda with less
        ends = torch.tensor([*self.edges, math.inf], dtype=torch.float64)
        end = ends[torch.searchsorted(ends, lam_t.double() + near, right=True).clamp(max=len(self.edges))]
        if (lam_s > end + near).any():
            raise ValueError(
                f"a step passes over one of lambda = {self.edges}, where segments end: put these on the grid"
            )
        left = torch.where(end.isinf(), math.inf, (end - lam_s).clamp(min=0.0))
        return torch.where((lam_t == lam_s) | (left < near), 0.0, left)


_NODES = torch.tensor(
    [-0.9602898564975363, -0.7966664774136267, -0.5255324099163290, -0.1834346424956498], dtype=torch.float64
)
_WEIGHTS = torch.tensor(
    [0.1012285362903763, 0.2223810344533745, 0.3137066458778873, 0.3626837833783620], dtype=torch.float64
)


def noise_exponent(tau: Stochasticity, lam_t: Tensor, lam_s: Tensor) -> Tensor:
    r"""A = int tau(lambda)^2 dlambda over [lam_t, lam_s], float64, the contraction by stochasticity alone.

    Exact for a number and a `NoiseControl`; eight-point Gauss-Legendre for a function of lambda. tau = 0 gives 0 on
    infinite intervals too; a positive tau gives infinity there.
    """
    if isinstance(tau, NoiseControl):
        return tau.exponent(lam_t, lam_s)
    h = lam_s - lam_t
    if not callable(tau):
        if tau < 0:
            raise ValueError(f"tau = {tau}: stochasticity is a number >= 0 (0 is the ODE, 1 the SDE)")
        return torch.zeros_like(h) if tau == 0 else tau**2 * h
    finite = lam_t.isfinite() & lam_s.isfinite()
    a, b = torch.where(finite, lam_t, 0.0), torch.where(finite, lam_s, 0.0)
    nodes = torch.cat([_NODES, -_NODES])
    square = tau((a + b)[..., None] / 2 + (b - a)[..., None] / 2 * nodes) ** 2
    inside = (square * torch.cat([_WEIGHTS, _WEIGHTS])).sum(-1) * h / 2
    edge = tau(torch.where(lam_t.isfinite(), lam_t, torch.where(lam_s.isfinite(), lam_s, 0.0))) ** 2
    return torch.where(finite, inside, torch.where(edge > 0, torch.inf, 0.0))
