r"""Linear inverse problems: E[z_0 | z_t, y] of an observation y = A z_0 + noise eps, from E[z_0 | z_t] alone.

With m = denoise(z_t, t), J its Jacobian and C the assumed covariance of z_0 given z_t,

    z_0 <- m + (sigma^2/alpha) J^T A^T (A C A^T + noise^2)^-1 (y - A m),

that is m + sigma^2/alpha grad_z log N(y; A m, A C A^T + noise^2), C held fixed, and shortened where it would overshoot
the observation, which the true C never does. Guidances of this kind differ in C:

| spread | C | exact for | Jacobian products per call |
|---|---|---|---|
| `Tweedie()` | sigma^2/alpha J, the true covariance | Gaussian z_0 of any mean and covariance | 1 + iterations |
| `Isotropic(v)` | sigma^2 v / (alpha^2 v + sigma^2) | Gaussian z_0 of covariance v | 1 |
| `Point()` | 0 | the limit sigma -> 0 | 1 |

Tweedie: moment matching, TMPD (Boys et al. 2023, arXiv 2310.06721) and MMPS (Rozet et al. 2024, arXiv 2405.13712).
Isotropic: pseudo-inverse guidance, PiGDM (Song et al. 2023, ICLR, "Pseudoinverse-Guided Diffusion Models for Inverse
Problems"), with noise. Point: diffusion posterior sampling, DPS (Chung et al. 2022, arXiv 2209.14687), with the
likelihood's own weight instead of a step size. For other z_0 all three are approximations that become exact as
sigma -> 0, too late to choose between distant modes: `solvers.twisted.Twisted` puts that right (README.md has numbers).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..process import Process
from ..tensor import expand
from .conjugate import conjugate_gradient
from .gradient import inside, linearised
from .linear import Operator

__all__ = ["Isotropic", "Point", "Posterior", "Replacement", "Spread", "Tweedie"]

Pull = Callable[[Tensor], Tensor]


class Spread(ABC):
    """What is assumed of the covariance C of z_0 given z_t."""

    @abstractmethod
    def solve(self, operator: Operator, r: Tensor, pull: Pull, alpha: Tensor, sigma: Tensor, noise: float) -> Tensor:
        """(A C A^T + noise^2)^-1 r; `pull` is v -> J^T v, alpha and sigma () or (B,)."""


@final
@dataclass(frozen=True)
class Tweedie(Spread):
    """C = sigma^2/alpha J, by conjugate gradients, each of whose iterations differentiates the network once.

    Iterations end early at a residual of `tolerance` |y - A m|; in exact arithmetic there are at most as many as
    numbers in y. A network, whose Jacobian is a covariance only nearly, is served by few.
    """

    iterations: int = 20
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.tolerance >= 0:
            raise ValueError(f"{self}: need at least 1 iteration and a tolerance >= 0")

    def solve(self, operator: Operator, r: Tensor, pull: Pull, alpha: Tensor, sigma: Tensor, noise: float) -> Tensor:
        gain = expand(sigma**2 / alpha, r)

        def gram(v: Tensor) -> Tensor:
            return gain * operator.forward(pull(operator.adjoint(v))) + noise**2 * v

        return conjugate_gradient(gram, r, self.iterations, self.tolerance)


@final
@dataclass(frozen=True)
class Isotropic(Spread):
    """C = sigma^2 v / (alpha^2 v + sigma^2) with v the variance of the data, or C = variance(alpha, sigma)."""

    variance: float | Callable[[Tensor, Tensor], Tensor] = 1.0

    def __post_init__(self) -> None:
        if not callable(self.variance) and not self.variance > 0:
            raise ValueError(f"Isotropic variance = {self.variance}: need the positive variance of the data")

    def solve(self, operator: Operator, r: Tensor, pull: Pull, alpha: Tensor, sigma: Tensor, noise: float) -> Tensor:
        if callable(self.variance):
            c = self.variance(alpha, sigma)
        else:
            c = sigma**2 * self.variance / (alpha**2 * self.variance + sigma**2)
        return operator.solve(r, c, torch.full_like(c, noise**2))


@final
@dataclass(frozen=True)
class Point(Spread):
    """C = 0: z_0 taken to be its estimate. `scale` multiplies the likelihood; below 1 makes it less abrupt."""

    scale: float = 1.0

    def solve(self, operator: Operator, r: Tensor, pull: Pull, alpha: Tensor, sigma: Tensor, noise: float) -> Tensor:
        if noise == 0:
            raise ValueError("Point with noise = 0: the likelihood of an estimate needs noise > 0; or take Tweedie()")
        return self.scale / noise**2 * r


@final
@dataclass(frozen=True, eq=False)
class Posterior:
    """denoise(z, t, **cond) given y = A z_0 + noise eps, in the coordinates of the state.

    Arguments:
        denoise: the estimate without the observation; differentiable in z.
        process: its path.
        operator: A.
        y: what was observed, (B, ...) or (1, ...), in the coordinates of the state: `operator.observe(image)`.
        noise: standard deviation of the observation's noise, in the same coordinates; 0 means that A z_0 = y.
        spread: what is assumed of the covariance of z_0 given z_t.
    """

    denoise: Denoise
    process: Process
    operator: Operator
    y: Tensor
    noise: float = 0.0
    spread: Spread = Tweedie()

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ValueError(f"Posterior noise = {self.noise}: need the standard deviation of the observation, >= 0")

    def __call__(self, z: Tensor, t: Tensor, **cond: Any) -> Tensor:
        """z (B, ...), t () or (B,) -> z_0 (B, ...)."""
        return self.twist(partial(self.denoise, **cond), z, t)[1]

    def twist(self, denoise: Denoise, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """m, the guided estimate, and log N(y; A m, A C A^T + noise^2) without its determinant, (B,).

        The determinant is constant where C is; in `Twisted`, weights put right what its absence does.
        """
        t = inside(self.process, t)
        alpha, sigma = self.process.alpha_sigma(t)
        mean, pull = linearised(lambda state: denoise(state, t), z)
        r = self.y.to(mean) - self.operator.forward(mean)
        weighted = self.spread.solve(self.operator, r, pull, alpha, sigma, self.noise)
        change = expand(sigma**2 / alpha, z) * pull(self.operator.adjoint(weighted))
        guided = mean + expand(_share(r, self.operator.forward(change)), z) * change
        return mean, guided, -(r.double() * weighted.double()).flatten(1).sum(1) / 2


def _share(r: Tensor, change: Tensor) -> Tensor:
    """The largest step, at most 1, that does not overshoot: argmin_e |r - e change|^2 in [0, 1], (B,).

    With the true C it is 1. A photograph's C has eigenvalues hundreds of times the variance of a pixel, which J knows
    and `Isotropic` does not: at high noise the whole step would land far beyond what was observed, and not come back.
    """
    both = (r * change).double().flatten(1).sum(1)
    own = change.double().square().flatten(1).sum(1)
    return torch.where(own > 0, both / torch.where(own > 0, own, 1.0), 1.0).clamp(0, 1)


@final
@dataclass(frozen=True, eq=False)
class Replacement:
    r"""What is observed replaced in the estimate, z_0 <- m + A^+ (y - A m): one call, no gradient, and BIASED.

    The idea of Score SDE's inpainting (Song et al. 2021, arXiv 2011.13456, I.2) and of DDNM (Wang et al. 2022, arXiv
    2212.00490): what is not observed never learns of y but through the noise, and falls 30 % short of its mean
    (tests/guidance/test_linear_posterior.py). For comparison, and where a network cannot be differentiated.
    """

    denoise: Denoise
    operator: Operator
    y: Tensor

    def __call__(self, z: Tensor, t: Tensor, **cond: Any) -> Tensor:
        """z (B, ...), t () or (B,) -> z_0 (B, ...)."""
        mean = self.denoise(z, t, **cond)
        r = self.y.to(mean) - self.operator.forward(mean)
        one = torch.ones((), dtype=torch.float64)
        return mean + self.operator.adjoint(self.operator.solve(r, one, 0 * one))
