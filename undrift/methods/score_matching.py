r"""Denoising score matching, through the one interface denoise(z_t, t) -> z0_hat:

    z_t = alpha_t z_0 + sigma_t eps,    loss = mean_i w(|z0_hat_i - z_0i|^2; t_i),    t ~ density.

Every parameterisation is trained by this line; with `weighting.Raw` it is the loss of that parameterisation.
(Vincent 2011; Song et al. 2021, arXiv 2011.13456.)
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..process import Process
from ..space import Space
from .base import Method, noised
from .density import Density
from .weighting import Weighting

__all__ = ["ScoreMatching"]


@final
@dataclass
class ScoreMatching(Method):
    """Trains `denoiser`, a module with `forward(z (B, ...), t (B,), **cond) -> z0_hat`.

    Arguments:
        denoiser: what is trained; wrapped, compiled or exact, only its `forward` is used.
        process, space: the path, and the coordinates in which it runs.
        density: which times are seen.
        weighting: what an error counts.
    """

    denoiser: nn.Module
    process: Process
    space: Space
    density: Density
    weighting: Weighting

    @property
    def phases(self) -> tuple[str, ...]:
        return ("denoiser",)

    def loss(self, phase: str, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        z0, t, z = noised(batch, self.process, self.space, self.density, generator)
        estimate = self.denoiser(z, t, **batch.cond)
        error = (estimate - z0).square().flatten(1).mean(1)
        loss = self.weighting(error, t, *self.process.alpha_sigma(t)).mean()
        return loss, {"mse": error.detach().mean().item()}
