r"""Predictor-corrector sampling: Langevin steps at one noise level, between the steps of any solver.

    z <- z + e score(z, t) + sqrt(2 e) eps,    score = (alpha z_0 - z) / sigma^2,    e = 2 a (step length)^2,

leaves p_t as it is, up to O(e), and draws a state that has strayed from it back. a = (alpha_t / alpha_s)^2 of the step
t -> s beside it: 1 on VE, Song's 1 - beta on VP, and so defined on every process.
Source: Score-Based Generative Modeling through SDEs (Song et al. 2021, arXiv 2011.13456), algorithms 1 to 5.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..noise import Noise
from ..process import Process
from ..tensor import expand
from .base import Solver, State
from .exponential import Exponential

__all__ = ["AnnealedLangevin", "Corrected", "Corrector", "Langevin"]


class Corrector(ABC):
    """A frozen dataclass: `steps` Langevin steps with a `length`, one network call each."""

    snr: float
    steps: int

    @abstractmethod
    def length(self, score: Tensor, eps: Tensor, sigma: Tensor) -> Tensor:
        """The step length without its factor a; score and eps (B, ...), sigma () or (B,) -> float64 () or (B,)."""

    @final
    def correct(self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, factor: Tensor, noise: Noise) -> Tensor:
        """z at t (B, ...) corrected at t; t and the factor a float64, () or (B,). Where sigma_t = 0, z itself."""
        alpha, sigma = process.alpha_sigma(t)
        noisy = sigma > 0
        if not noisy.any():
            return z
        precision = torch.where(noisy, sigma**-2, 0.0)
        for _ in range(self.steps):
            score = expand(precision, z) * (expand(alpha, z) * denoise(z, t) - z)
            eps = noise(z, t, t)
            e = 2 * factor * torch.where(noisy, self.length(score, eps, sigma), 0.0) ** 2
            z = z + expand(e, z) * score + expand(torch.sqrt(2 * e), z) * eps
        return z


@final
@dataclass(frozen=True)
class Langevin(Corrector):
    r"""Step length r |eps| / |score|. On N(0, S) it ends at the variance (1 + a r^2) S, at the rate 1 - 2 a r^2 a step.

    Arguments:
        snr: r, the ratio of the noise in a step to its drift; 0.16 for CIFAR-10 in the paper.
        steps: per noise level, one network call each.
        norms: of each `"sample"` by itself, or their means over the `"batch"` as in the official code, which makes
            the samples depend on each other. Norms of a sample mean little in fewer than some 30 dimensions.
    """

    snr: float = 0.16
    steps: int = 1
    norms: Literal["sample", "batch"] = "sample"

    def __post_init__(self) -> None:
        _check(self)
        if self.norms not in ("sample", "batch"):
            raise ValueError(f"Langevin norms = {self.norms!r}: choose 'sample' or 'batch'")

    def length(self, score: Tensor, eps: Tensor, sigma: Tensor) -> Tensor:
        pull, kick = _norm(score), _norm(eps)
        if self.norms == "batch":
            pull, kick = pull.mean(), kick.mean()
        return torch.where(pull > 0, self.snr * kick / pull, 0.0)  # a vanishing score asks for no step


@final
@dataclass(frozen=True)
class AnnealedLangevin(Corrector):
    """Step length snr sigma_t: that of `Langevin` where the noise dominates, and the same for all samples."""

    snr: float = 0.16
    steps: int = 1

    def __post_init__(self) -> None:
        _check(self)

    def length(self, score: Tensor, eps: Tensor, sigma: Tensor) -> Tensor:
        return self.snr * sigma


@final
@dataclass(frozen=True)
class Corrected(Solver):
    """A step of `predictor`, and the `corrector` at the time where it ends (or, as the official code, starts).

    Network calls: those of the predictor and `corrector.steps` per step of the grid; none for a correction where
    sigma = 0. The noise must be fresh at every call: `Gaussian` or `PerSample`, not a `Brownian` path.

    Arguments:
        predictor: any solver, or None for the corrector alone, whose step to sigma = 0 is the denoiser's estimate.
            `Exponential(corrector=True)` is refused: it would take the correction back.
        corrector: `Langevin` or `AnnealedLangevin`.
        first: what comes first in a step; `"predictor"` is the paper's algorithm and a little more exact.
    """

    predictor: Solver | None
    corrector: Corrector
    first: Literal["predictor", "corrector"] = "predictor"

    def __post_init__(self) -> None:
        if self.first not in ("predictor", "corrector"):
            raise ValueError(f"Corrected first = {self.first!r}: choose 'predictor' or 'corrector'")
        if isinstance(self.predictor, Exponential) and self.predictor.corrector:
            raise ValueError("Corrected Exponential(corrector=True): two correctors of one state; set corrector=False")

    def plan(self, process: Process, times: Tensor) -> Solver:
        return self if self.predictor is None else replace(self, predictor=self.predictor.plan(process, times))

    def init(self) -> State:
        return () if self.predictor is None else self.predictor.init()

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        factor = (process.alpha_sigma(t)[0] / process.alpha_sigma(s)[0]) ** 2
        if self.first == "corrector":
            z = self.corrector.correct(denoise, process, z, t, factor, noise)
        if self.predictor is None:
            z = _stay(denoise, process, z, t, s)
        else:
            z, state = self.predictor.step(denoise, process, z, t, s, state, noise)
        if self.first == "predictor":
            z = self.corrector.correct(denoise, process, z, s, factor, noise)
        return z, state


def _stay(denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """z, and the denoiser's estimate where sigma_s = 0."""
    clean = process.alpha_sigma(s)[1] == 0
    return torch.where(expand(clean, z).bool(), denoise(z, t), z) if clean.any() else z


def _norm(x: Tensor) -> Tensor:
    """Euclidean norm of each sample, (B,), float64 on the CPU."""
    norm: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norm.to("cpu", torch.float64)


def _check(corrector: Corrector) -> None:
    if not (corrector.snr > 0 and corrector.steps >= 1):
        name = type(corrector).__name__
        raise ValueError(f"{name} snr = {corrector.snr}, steps = {corrector.steps}: need snr > 0, at least one step")
