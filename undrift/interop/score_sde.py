r"""The predictor-corrector sampler of the official Score SDE code, with its tables, its grid and its defects.

    sampler = ScoreSDE(VE(), 1000, "reverse_diffusion", "langevin")
    denoise = Denoiser(network, sampler.process, sampler.prediction, scale=None, label=sampler.label)
    z = sampler.start(like, noise)
    for z in trajectory(denoise, sampler.process, z, sampler.times, sampler, noise): ...

| official quirk | how it is expressed |
|---|---|
| N times linspace(1, eps, N), yet every update is one of N, the last of them at eps | `times`, which end in t_clean |
| beta, alpha and sigma come from tables at the index t (N - 1), truncated | `index`, `betas`, `sigmas` |
| sigma before index 0 is 0; sub-VP has no table, only Euler's 1/N | `discretize` |
| the corrector comes first, at the same t; one draw per corrector step, then one for the predictor | `step` |
| Langevin norms are means over the batch | the core's `Langevin(norms="batch")` |
| the last predictor step draws its noise and leaves it out (`denoise`) | `noise_removal` |
| the prior is N(0, 1) or N(0, sigma_max^2), whatever p_1 is | `start` |
| what the network is told, and how its output becomes a score | `label`, `prediction` |
| settings on which the official code fails, or divides by 0 | ValueError |

`undrift.Corrected` on a grid of `undrift.times` is the same sampler without them.
Source: Score-Based Generative Modeling through SDEs (Song et al. 2021, arXiv 2011.13456), appendices D to G.
"""

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from .. import prediction
from ..denoiser import Denoise, Label, Level, Sigma, Time
from ..noise import Noise
from ..process import VE, VP, Process, SubVP
from ..solvers import AnnealedLangevin, Corrector, Langevin, Solver, State
from ..tensor import expand

__all__ = ["DiscreteNoise", "ScoreSDE"]


@final
@dataclass(frozen=True)
class DiscreteNoise(prediction.Prediction):
    """F = eps of a discretely trained VP network: its score is -F / sqrt(1 - abar_i), i = t (N - 1) truncated."""

    process: VP
    steps: int = 1000

    def affine(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        noises = torch.sqrt(1 - (1 - _betas(self.process, self.steps)).cumprod(0))
        return 1 / alpha, -(sigma**2) / alpha / noises[_index(t, self.steps)]


@final
@dataclass(frozen=True)
class ScoreSDE(Solver):
    """A solver for the `times` of its own; its steps do not depend on where they end.

    It asks for the class of its process, as no solver of the core may: the official tables, grids and labels are one
    set per class, and no functions of alpha and sigma.

    Arguments:
        process: VE, VP or SubVP.
        steps: N.
        predictor, corrector: by their official names.
        snr, corrector_steps: `snr` and `n_steps_each` of the corrector.
        probability_flow: half the score and no noise; for reverse_diffusion.
        continuous: how the network was trained; sub-VP is always continuous.
        noise_removal: return the mean of the last predictor step (official `denoise`).
        eps: the last time; None for the official 1e-5 of VE and 1e-3 of the others.
    """

    process: VE | VP | SubVP
    steps: int = 1000
    predictor: Literal["euler_maruyama", "reverse_diffusion", "ancestral_sampling", "none"] = "reverse_diffusion"
    corrector: Literal["langevin", "ald", "none"] = "none"
    snr: float = 0.16
    corrector_steps: int = 1
    probability_flow: bool = False
    continuous: bool = True
    noise_removal: bool = True
    eps: float | None = None

    def __post_init__(self) -> None:
        if self.predictor not in ("euler_maruyama", "reverse_diffusion", "ancestral_sampling", "none"):
            raise ValueError(
                f"predictor {self.predictor!r}: choose euler_maruyama, reverse_diffusion, ancestral_sampling or none"
            )
        if self.corrector not in ("langevin", "ald", "none"):
            raise ValueError(f"corrector {self.corrector!r}: choose langevin, ald or none")
        if not (self.steps >= 1 and 0 < self.end < 1):
            raise ValueError(f"ScoreSDE steps = {self.steps}, eps = {self.end}: need steps >= 1 and 0 < eps < 1")
        if isinstance(self.process, SubVP) and (self.corrector != "none" or self.predictor == "ancestral_sampling"):
            raise ValueError(
                f"{self.predictor} and {self.corrector} on SubVP: the official code has no table for it; use "
                "euler_maruyama or reverse_diffusion with corrector none, or undrift.Corrected"
            )
        if self.probability_flow and self.predictor not in ("reverse_diffusion", "none"):
            raise ValueError(f"probability_flow with {self.predictor}: the official code fails; use reverse_diffusion")
        if isinstance(self.process, VP) and self.predictor == "ancestral_sampling" and float(self.betas[-1]) >= 1:
            raise ValueError(f"ancestral_sampling with steps = {self.steps}: beta reaches 1; take more steps")

    @property
    def end(self) -> float:
        """eps, the time of the last update."""
        return (1e-5 if isinstance(self.process, VE) else 1e-3) if self.eps is None else self.eps

    @property
    def times(self) -> Tensor:
        """linspace(1, eps, N), and t_clean for where the last update leads, (N + 1,)."""
        grid = torch.linspace(1, self.end, self.steps, dtype=torch.float64)
        return torch.cat([grid, torch.tensor([self.process.t_clean], dtype=torch.float64)])

    @property
    def betas(self) -> Tensor:
        """beta of VP's forward steps, (N,)."""
        return _betas(self.process, self.steps) if isinstance(self.process, VP) else torch.zeros(self.steps)

    @property
    def sigmas(self) -> Tensor:
        """sigma of VE's levels, cleanest first, (N,)."""
        ends = (math.log(self.process.sigma_min), math.log(self.process.sigma_max))  # type: ignore[union-attr]
        return torch.linspace(*ends, self.steps, dtype=torch.float64).exp()

    @property
    def prediction(self) -> prediction.Prediction:
        """What the network's output means: the score on VE, noise on the others."""
        if isinstance(self.process, VE):
            return prediction.score
        if isinstance(self.process, VP) and not self.continuous:
            return DiscreteNoise(self.process, self.steps)
        return prediction.noise

    @property
    def label(self) -> Label:
        """What the network is told: sigma or a level on VE, 999 t on the others, t (N - 1) if discrete."""
        if isinstance(self.process, VE):
            return Sigma() if self.continuous else Level(self.steps)
        return Time(self.steps - 1 if isinstance(self.process, VP) and not self.continuous else 999)

    @property
    def prior_std(self) -> float:
        return self.process.sigma_max if isinstance(self.process, VE) else 1.0

    def start(self, like: Tensor, noise: Noise) -> Tensor:
        """A draw of the prior, of the shape of `like`."""
        return self.prior_std * noise(like, self.times[0], self.times[0])

    def discretize(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a and G of the forward step z <- a z + G eps at t, float64, shape of t; official f = (a - 1) z."""
        index = _index(t, self.steps)
        if isinstance(self.process, VE):
            sigma, before = self._levels(t)
            return torch.ones_like(sigma), torch.sqrt(sigma**2 - before**2)
        if isinstance(self.process, VP):
            beta = self.betas[index]
            return torch.sqrt(1 - beta), torch.sqrt(beta)
        return self._euler(t)

    def update(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """carry, pull, std of the predictor z <- carry z + pull score + std eps at t, float64, shape of t."""
        if self.predictor == "none":
            return torch.ones_like(t), torch.zeros_like(t), torch.zeros_like(t)
        a, g = self._euler(t) if self.predictor == "euler_maruyama" else self.discretize(t)
        if self.predictor != "ancestral_sampling":
            flow = self.probability_flow
            return 2 - a, g**2 * (0.5 if flow else 1.0), torch.zeros_like(g) if flow else g
        if isinstance(self.process, VP):
            return 1 / a, g**2 / a, g
        sigma, before = self._levels(t)
        return a, g**2, g * before / sigma

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        if self._corrector:
            factor = 1 - self.betas[_index(t, self.steps)]
            z = self._corrector.correct(denoise, process, z, t, factor, noise)
        if self.predictor == "none":
            return z, state
        alpha, sigma = process.alpha_sigma(t)
        carry, pull, std = self.update(t)
        if self.noise_removal:
            std = torch.where(s == process.t_clean, 0.0, std)
        score = expand(sigma**-2, z) * (expand(alpha, z) * denoise(z, t) - z)
        return expand(carry, z) * z + expand(pull, z) * score + expand(std, z) * noise(z, t, s), state

    @property
    def _corrector(self) -> Corrector | None:
        if self.corrector == "none":
            return None
        if self.corrector == "ald":
            return AnnealedLangevin(self.snr, self.corrector_steps)
        return Langevin(self.snr, self.corrector_steps, norms="batch")

    def _euler(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a and G of Euler's step of 1/N."""
        f, g2 = self.process.drift_diffusion(t)
        return 1 + f / self.steps, torch.sqrt(g2 / self.steps)

    def _levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """VE's sigma at the index of t, and the one below it, which is 0 at index 0."""
        index = _index(t, self.steps)
        return self.sigmas[index], torch.where(index == 0, 0.0, self.sigmas[index - 1])


def _index(t: Tensor, steps: int) -> Tensor:
    return (t * (steps - 1)).long()


def _betas(process: VP, steps: int) -> Tensor:
    return torch.linspace(process.beta_min / steps, process.beta_max / steps, steps, dtype=torch.float64)
