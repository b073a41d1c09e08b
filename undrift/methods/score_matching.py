r"""Denoising score matching, through the one interface denoise(z_t, t) -> z0_hat:

    z_t = alpha_t z_0 + sigma_t eps,    loss = mean_i w(|z0_hat_i - z_0i|^2; t_i),    t ~ density.

Every parameterisation is trained by this line; with `weighting.Raw` it is the loss of that parameterisation.
(Vincent 2011; Song et al. 2021, arXiv 2011.13456.)

Its minimiser is the mean of all images that fit, which is smooth where they differ. `perceptual` adds

    perceptual * (1 - HaarPSI(x, x_hat)),    x_hat the image of z0_hat,

which pulls estimates from that mean towards an image with the edges of x. No longer exactly a score: for restoring.
Where the mean is sharp already it only costs: `perceptual_labels` names the classes that bear the term.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from ..data.batch import Batch
from ..metrics import haarpsi
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
        perceptual: weight of the dissimilarity above, >= 0; images in colour, in [0, 1], of 16 pixels a side or more.
        perceptual_labels: the values of `label` whose images bear it; all images where empty.

    Raises ValueError for a negative weight, and where there are labels to look for and a batch has none.
    """

    denoiser: nn.Module
    process: Process
    space: Space
    density: Density
    weighting: Weighting
    perceptual: float = 0.0
    perceptual_labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.perceptual >= 0:
            raise ValueError(f"perceptual = {self.perceptual}: need a number >= 0")

    @property
    def phases(self) -> tuple[str, ...]:
        return ("denoiser",)

    def loss(self, phase: str, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        z0, t, z = noised(batch, self.process, self.space, self.density, generator)
        estimate = self.denoiser(z, t, **batch.cond)
        error = (estimate - z0).square().flatten(1).mean(1)
        loss = self.weighting(error, t, *self.process.alpha_sigma(t)).mean()
        logs = {"mse": error.detach().mean().item()}
        if self.perceptual:
            unlike = (1 - haarpsi(batch.x, self.space.decode(estimate, batch.y))) * self._bears(batch)
            loss = loss + self.perceptual * unlike.mean().to(loss.dtype)
            logs["unlike"] = unlike.detach().mean().item()
        return loss, logs

    def _bears(self, batch: Batch) -> Tensor:
        """(B,), 1 where the perceptual term counts."""
        if not self.perceptual_labels:
            return torch.ones(len(batch.x), device=batch.x.device)
        if "label" not in batch.cond:
            raise ValueError(
                "perceptual_labels without labels in the batch: tell the network (data.told), or leave them out"
            )
        label = batch.cond["label"]
        return torch.isin(label, torch.tensor(self.perceptual_labels, device=label.device)).float()
