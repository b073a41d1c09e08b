r"""Classifier guidance: the score of p_t(z | label) is that of p_t(z) plus the gradient of a classifier's logarithm,

    z_0 <- z_0 + scale sigma^2/alpha grad_z log p_t(label | z).

Score SDE (Song et al. 2021, arXiv 2011.13456), section 5; Diffusion Models Beat GANs (Dhariwal & Nichol 2021, arXiv
2105.05233), where scale > 1 sharpens. With scale = 1 and the exact classifier it is the exact conditional estimate.
"""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from ..classify import Classify
from ..denoiser import Denoise
from ..process import Process
from ..tensor import expand
from .gradient import inside, linearised

__all__ = ["Classifier"]


@final
@dataclass(frozen=True, eq=False)
class Classifier:
    """denoise(z, t, label=...) guided by `classify(z, t) -> logits (B, K)`, of the same process.

    Arguments:
        denoise: the estimate to guide.
        process: the path of both.
        classify: logits of the classes of noisy states; differentiable in z.
        scale: strength; 1 is Bayes' rule, 0 none.
        conditional: whether `denoise` is told the label too.
    """

    denoise: Denoise
    process: Process
    classify: Classify
    scale: float = 1.0
    conditional: bool = False

    def __call__(self, z: Tensor, t: Tensor, *, label: Tensor, **cond: Any) -> Tensor:
        """z (B, ...), t () or (B,), label (B,) in 0, ..., K - 1, or K for no guidance -> z_0 (B, ...)."""
        told = cond | {"label": label} if self.conditional else cond
        z0 = self.denoise(z, t, **told)
        t = inside(self.process, t)
        alpha, sigma = self.process.alpha_sigma(t)

        def log_prob(state: Tensor) -> Tensor:
            logits = self.classify(state, t)
            # one more column, of zeros: no class, no gradient
            logs = torch.cat([logits.log_softmax(1), torch.zeros_like(logits[:, :1])], 1)
            return logs.gather(1, label[:, None])

        value, pull = linearised(log_prob, z)
        return z0 + expand(self.scale * sigma**2 / alpha, z) * pull(torch.ones_like(value))
