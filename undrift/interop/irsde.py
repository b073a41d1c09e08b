r"""The samplers of IR-SDE, DA-CLIP and DenoisingSDE, each a table of coefficients for `Multistep`.

Each official step is z <- carry z + weight z_0 + noise eps in z = x - mu, a sampler is a grid and three columns:

    times = indices(process, steps=10)
    for z in trajectory(denoise, process, z, times, posterior(process, times), noise): ...

| official quirk | how it is expressed |
|---|---|
| fewer steps skip indices, yet each is a step t -> t - 1 | the columns of t -> t - 1, at the `indices` |
| `num_steps=N`: int(np.linspace(1, T, N)), which may lose 1 | `indices(process, steps=N)` |
| `T=k`: the last k steps only | `indices(process, start=k)` |
| the noise of `reverse_sde` is subtracted | a negative noise coefficient |
| Euler's step adds its noise at t = 1 too | its row at t = 1, not the denoiser's own estimate |
| the prior is mu + lam eps, not sigma_T eps | start from z = lam eps |
| `sample_T=k` | `irsde_process(..., steps=k)` and the label `Time(T / k)` |
| MR Sampler does not subtract theta_0 | `irsde_process(..., subtract_theta0=False)` |
| the network gives noise at the index t | `Denoiser(network, process, prediction.noise, scale=None, label=Time())` |
| posterior variance clamped at 1e-20 dt, std 6e-12 at t = 1 | 0 |

`undrift.Exponential(order=1, tau=1)` is posterior sampling at any stride, without the first of them.
Sources: IR-SDE (Luo et al. 2023, arXiv 2301.11699), DA-CLIP (Luo et al. 2023, arXiv 2310.01018), posterior sampling
(Photo-Realistic Image Restoration in the Wild, Luo et al. 2024, arXiv 2404.09732).
"""

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from ..prediction import Prediction
from ..process import MeanReverting, Process
from ..solvers import Coefficients, Exponential, Multistep

__all__ = [
    "Denoising",
    "MLDenoising",
    "denoising_sde",
    "denoising_start",
    "indices",
    "irsde_process",
    "posterior",
    "reverse_ode",
    "reverse_sde",
]


def irsde_process(
    max_sigma: float = 50,
    steps: int = 100,
    schedule: Literal["constant", "linear", "cosine"] = "cosine",
    eps: float = 0.005,
    subtract_theta0: bool = True,
) -> MeanReverting:
    """The process of official options: `max_sigma` is in 1/255 from 1 on, `steps` is T (or `sample_T`).

    `subtract_theta0` is True for IR-SDE, Refusion and DA-CLIP, False for MR Sampler.
    """
    return MeanReverting(max_sigma / 255 if max_sigma >= 1 else max_sigma, schedule, steps, eps, subtract_theta0)


def indices(process: Process, *, steps: int | None = None, start: int | None = None) -> Tensor:
    """The indices that the official loops visit and the 0 behind them, float64 (N + 1,).

    All of T..1; `start`..1; or `steps` of them, spread as NumPy rounds. ValueError outside 1..T.
    """
    top = round(process.t_max)
    for name, value in (("steps", steps), ("start", start)):
        if value is not None and not 1 <= value <= top:
            raise ValueError(f"indices {name} = {value}: the schedule has the indices 1 to {top}; choose one of these")
    if steps is not None and start is not None:
        raise ValueError(f"indices with steps = {steps} and start = {start}: the official loops take one of them")
    last = top if start is None else start
    visited = np.linspace(1, last, last if steps is None else steps).astype(int)
    return torch.tensor([*visited[::-1], 0], dtype=torch.float64)


def posterior(process: Process, times: Tensor) -> Multistep:
    """`reverse_posterior`: a draw of z_{t-1} given z_t and z_0, at each of `times` (N + 1,) but the last."""
    whole = torch.arange(process.t_max, -1, -1, dtype=torch.float64)
    table = Exponential(order=1, tau=1.0).table(process, whole)
    rows = (process.t_max - times[:-1]).long()
    return _steps(table.carry[rows], table.weights[rows, 0], table.noise[rows])


def reverse_sde(process: Process, times: Tensor) -> Multistep:
    """`reverse_sde`: an Euler-Maruyama step of length 1 at each of `times` (N + 1,) but the last."""
    return _euler(process, times, torch.ones_like(times))


def reverse_ode(process: Process, times: Tensor) -> Multistep:
    """`reverse_ode`: an Euler step of length 1 at each of `times` (N + 1,) but the last."""
    return _euler(process, times, torch.zeros_like(times))


@final
@dataclass(frozen=True)
class Denoising(Process):
    """The path of DenoisingSDE, which reverts to the clean image itself: alpha = 1, sigma that of `path`.

    Images are its states, without a mean. The official `path` has eps = 0.04 and keeps max_sigma = 1 as it is.

    Arguments:
        path: the mean-reverting process whose noise it has.
        start: the index at which an image to restore lies, its noise level that of the image; None for the last one.

    Raises ValueError for a start outside 2..T.
    """

    path: MeanReverting
    start: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None and not 2 <= self.start <= self.path.steps:
            raise ValueError(f"Denoising start = {self.start}: need an index from 2 to {self.path.steps}")

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return self.path.t_min

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.path.t_max if self.start is None else float(self.start)

    @property
    def t_clean(self) -> float:
        return self.path.t_clean

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.path.alpha_sigma(t)
        return torch.ones_like(alpha), sigma


@final
@dataclass(frozen=True)
class MLDenoising(Prediction):
    r"""The noise predictor that the maximum-likelihood loss produces on `Denoising`, with its bias undone.

    That loss asks one Euler step of the reverse SDE to land on the posterior mean of the state before. With
    p = theta_t dt and B = alpha_t of the path, both are affine in the noise, and

        eps = F p (1 + B^2) / ((1 - e^{-p}) (1 + B^2 e^p)).

    Arguments:
        path: the mean-reverting process of the training.
    """

    path: MeanReverting

    def affine(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        earlier, last = self.path.alpha_sigma((t - 1).clamp(min=self.path.t_clean))[0], self.path.alpha_sigma(t)[0]
        p = (earlier.log() - last.log()).clamp(min=1e-12)
        factor = p * (1 + last**2) / (-torch.expm1(-p) * (1 + last**2 * torch.exp(p)))
        return 1 / alpha, -sigma / alpha * factor


def denoising_sde(process: Denoising, times: Tensor) -> Multistep:
    """DenoisingSDE's `reverse_sde`: its noise g against sigma's own g alpha_t is stochasticity tau = 1 / alpha_t.

    `reverse_ode` is the one of this module.
    """
    return _euler(process, times, 1 / process.path.alpha_sigma(times)[0])


def denoising_start(process: Denoising, sigma: float) -> int:
    """The index at which DenoisingSDE starts for an image of noise level `sigma`, images in [0, 1]."""
    alpha, _ = process.path.alpha_sigma(torch.arange(process.path.t_max + 1, dtype=torch.float64))
    if not 0 < sigma < process.path.lam:
        raise ValueError(f"noise of deviation {sigma:g}: the schedule has from 0 to {process.path.lam:g}")
    target = -0.5 * math.log(1 - sigma**2 / process.path.lam**2 + 1e-6)
    return int((-alpha.log() - target).abs().argmin())


def _euler(process: Process, times: Tensor, tau: Tensor) -> Multistep:
    """z - (f z - (1 + tau^2)/2 g^2 score) - tau g eps, with score = (alpha z_0 - z) / sigma^2."""
    t, tau = times[:-1], tau[:-1]
    alpha, sigma = process.alpha_sigma(t)
    f, g2 = process.drift_diffusion(t)
    pull = (1 + tau**2) / 2 * g2 / sigma**2
    return _steps(1 - f - pull, pull * alpha, -tau * g2.sqrt())


def _steps(carry: Tensor, weight: Tensor, noise: Tensor) -> Multistep:
    """carry z + weight z_0 + noise eps, each (N,)."""
    basis = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(len(carry), 2)
    return Multistep.of(Coefficients(carry, weight[:, None], noise, basis, torch.zeros_like(basis)))
