r"""The official Score SDE inpainter and colorizer: the sampler of `score_sde`, overwritten after every update.

    control = inpainter(ScoreSDE(VE(), 1000, "reverse_diffusion", "langevin"), data, mask)
    z = control.start(noise)
    for z in trajectory(denoise, control.sampler.process, z, control.times, control, noise): ...

| official quirk | how it is expressed |
|---|---|
| after corrector and predictor, what is known is drawn afresh at the SAME t | `step` |
| the mean of the last predictor step is thrown away: the unknown keeps its noise | `step` |
| `denoise` replaces the noisy known part alone | `clean` |
| colours are rotated by rounded literals, and back by their inverse, not their transpose | `MATRIX` |
| the colorizer's prior is masked in RGB, where channel 0 is red, before it is rotated | `start` |
| the first state of the known part carries no noise | `start` |
| eps is 1e-5 for every process | `inpainter`, `colorizer` |

Biased without a corrector (research: 30 %); `undrift.guidance.Posterior` is not.
Source: Score-Based Generative Modeling through SDEs (Song et al. 2021, arXiv 2011.13456), appendix I.
"""

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..noise import Noise
from ..process import Process
from ..solvers import Solver, State
from ..tensor import expand
from .score_sde import ScoreSDE

__all__ = ["MATRIX", "Controlled", "colorizer", "inpainter"]

MATRIX = (
    (5.7735014e-01, -8.1649649e-01, 4.7008697e-08),
    (5.7735026e-01, 4.0824834e-01, 7.0710671e-01),
    (5.7735026e-01, 4.0824822e-01, -7.0710683e-01),
)
"""Row i, column j: the share of RGB channel i in coordinate j; coordinate 0 is grey."""


@final
@dataclass(frozen=True, eq=False)
class Controlled(Solver):
    """One corrector and one predictor update of `sampler`, each followed by the known coordinates, noised to t.

    Arguments:
        sampler: predictor, corrector and process; its `noise_removal` is not used.
        data: the known image in the state's range (B, C, H, W); anything where unknown.
        mask: 1 where known, broadcasts against data, in the rotated coordinates.
        matrix: the rotation of the channels, (C, C) nested; None for none.
        clean: whether the last update ends with the known part free of noise (official `denoise`).
    """

    sampler: ScoreSDE
    data: Tensor
    mask: Tensor
    matrix: tuple[tuple[float, ...], ...] | None = None
    clean: bool = True

    @property
    def times(self) -> Tensor:
        """The sampler's grid, (N + 1,)."""
        return self.sampler.times

    def start(self, noise: Noise) -> Tensor:
        """The clean data where known, the prior elsewhere."""
        known, mask = self._rotate(self.data), self.mask.to(self.data)
        prior = self.sampler.start(self.data, noise)
        return self._back(known * mask + self._rotate(prior * (1 - mask)))

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        noisy = replace(self.sampler, noise_removal=False)
        z, _ = replace(noisy, predictor="none").step(denoise, process, z, t, s, state, noise)
        z, _ = self._project(process, z, t, noise)
        z, _ = replace(noisy, corrector="none").step(denoise, process, z, t, s, state, noise)
        z, mean = self._project(process, z, t, noise)
        return mean if self.clean and bool(s == self.times[-1]) else z, state

    def _project(self, process: Process, z: Tensor, t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """z with the known part replaced by a draw of its marginal at t, and by that marginal's mean."""
        alpha, sigma = (expand(c, z) for c in process.alpha_sigma(t))
        mean, mask, free = alpha * self._rotate(self.data.to(z)), self.mask.to(z), self._rotate(z)
        draw = mean + sigma * noise(z, t, t)
        return self._back(free * (1 - mask) + draw * mask), self._back(free * (1 - mask) + mean * mask)

    def _rotate(self, x: Tensor) -> Tensor:
        return x if self.matrix is None else _mixed(x, x.new_tensor(self.matrix))

    def _back(self, x: Tensor) -> Tensor:
        return x if self.matrix is None else _mixed(x, torch.inverse(x.new_tensor(self.matrix)))


def inpainter(sampler: ScoreSDE, data: Tensor, mask: Tensor, clean: bool = True) -> Controlled:
    """Official `get_pc_inpainter`: data (B, C, H, W) in the state's range, mask 1 where known, broadcast to it."""
    return Controlled(_ending(sampler), data, mask, None, clean)


def colorizer(sampler: ScoreSDE, grey: Tensor, clean: bool = True) -> Controlled:
    """Official `get_pc_colorizer`: grey (B, 3, H, W) in the state's range, three equal channels."""
    if grey.ndim != 4 or grey.shape[1] != 3:
        raise ValueError(f"grey image {tuple(grey.shape)}: need (B, 3, H, W) with three equal channels")
    mask = grey.new_tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    return Controlled(_ending(sampler), grey, mask, MATRIX, clean)


def _ending(sampler: ScoreSDE) -> ScoreSDE:
    return replace(sampler, eps=1e-5) if sampler.eps is None else sampler


def _mixed(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("bihw,ij->bjhw", x, matrix)
