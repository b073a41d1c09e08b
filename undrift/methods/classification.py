r"""A classifier of noisy states, trained by cross-entropy at every noise level:

    z_t = alpha_t z_0 + sigma_t eps,    loss = -mean_i log softmax(classify(z_t, t))_{label_i},    t ~ density.

Its optimum is p_t(label | z_t), whose gradient guides (Song et al. 2021, arXiv 2011.13456, appendix I; Dhariwal &
Nichol 2021, arXiv 2105.05233).
"""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batch import Batch
from ..process import Process
from ..space import Space
from .base import Method, noised
from .density import Density

__all__ = ["Classification"]


@final
@dataclass
class Classification(Method):
    """Trains `classifier`, a module with `forward(z (B, ...), t (B,)) -> logits (B, K)`, on `batch.cond["label"]`.

    A label of K means that the class is not known: that sample does not count. Logs the accuracy over all times.
    """

    classifier: nn.Module
    process: Process
    space: Space
    density: Density

    @property
    def phases(self) -> tuple[str, ...]:
        return ("classifier",)

    def loss(self, phase: str, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        if "label" not in batch.cond:
            raise ValueError(f"batch with conditions {sorted(batch.cond)}: a classifier needs 'label', LongTensor (B,)")
        _, t, z = noised(batch, self.process, self.space, self.density, generator)
        logits = self.classifier(z, t)
        label, none = batch.cond["label"], logits.shape[1]
        known = (label != none).sum().clamp(min=1)
        loss = F.cross_entropy(logits, label, ignore_index=none, reduction="sum") / known
        return loss, {"accuracy": ((logits.argmax(1) == label).sum() / known).item()}
