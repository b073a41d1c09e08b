r"""The official Score SDE code's ODE sampler and likelihood: one RK45 run in t for the whole batch.

| official quirk | how it is expressed |
|---|---|
| scipy's RK45 on the flattened batch: one step size, one error of all samples (and of log p) | `rk45` |
| the sampler's `denoise` is the mean of a whole reverse diffusion step of 1/N at eps, whose draw is left out | `ode` |
| the prior is N(0, 1) or N(0, sigma_max^2), whatever p_1 is | `prior` |
| one given epsilon for the whole solve; bits/dim = ... + 7 - inverse_scaler(-1) | `likelihood`, `Grey` |

`DormandPrince()` and `log_likelihood` are the same without them.
Source: Score-Based Generative Modeling through SDEs (Song et al. 2021, arXiv 2011.13456), appendix D.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..likelihood import Grey, Likelihood, log_likelihood
from ..noise import Noise, Replay
from ..solvers.adaptive import DormandPrince
from .score_sde import ScoreSDE

__all__ = ["likelihood", "ode", "prior", "rk45"]


def rk45(rtol: float = 1e-5, atol: float = 1e-5) -> DormandPrince:
    """`scipy.integrate.RK45` as the official code calls it: evaluations agree to the last one."""
    return DormandPrince(rtol, atol, variable="time", norm="batch")


def prior(sampler: ScoreSDE) -> Callable[[Tensor], Tensor]:
    """log N(z; 0, prior_std^2), (B,)."""
    variance = sampler.prior_std**2

    def log_density(z: Tensor) -> Tensor:
        return -0.5 * (z**2 / variance + math.log(2 * math.pi * variance)).flatten(1).sum(1)

    return log_density


def ode(
    sampler: ScoreSDE, denoise: Denoise, z: Tensor, noise: Noise, *, rtol: float = 1e-5, atol: float = 1e-5
) -> tuple[Tensor, int]:
    """The state at eps of a state z at t = 1, and the evaluations of the ODE (official `nfe`).

    With `noise_removal` the mean of one reverse diffusion step follows: one more evaluation, which is not counted, and
    one draw.
    """
    start, end = torch.tensor([1.0, sampler.end], dtype=torch.float64)
    process, solver = replace(sampler.process, t_min=sampler.end), rk45(rtol, atol)
    z, (evaluations,) = solver.step(denoise, process, z, start, end, solver.init(), noise)
    if sampler.noise_removal:
        last = replace(sampler, predictor="reverse_diffusion", corrector="none", probability_flow=False)
        clean = torch.tensor(process.t_clean, dtype=torch.float64)
        z, _ = last.step(denoise, sampler.process, z, end, clean, (), noise)
    return z, int(evaluations.max())


def likelihood(
    sampler: ScoreSDE,
    denoise: Denoise,
    z0: Tensor,
    epsilon: Tensor,
    *,
    centered: bool = True,
    eps: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Likelihood:
    """Bits/dim, code and evaluations of states z0 with the probe `epsilon` (B, ...), in [-1, 1] if `centered`.

    The official `nfe` are the evaluations; it calls the network twice for each.
    """
    return log_likelihood(
        denoise,
        replace(sampler.process, t_min=eps),
        z0,
        probes=1,
        kind="gaussian",  # the epsilon that is given, of whatever kind
        noise=Replay([epsilon]),
        solver=rk45(rtol, atol),
        prior=prior(sampler),
        grey=Grey(span=2.0 if centered else 1.0),
    )
