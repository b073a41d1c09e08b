"""What ONE optimisation step computes: a loss per phase. The loop is `training.fit`, and there is no other."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..data.batch import Batch
from ..draws import normal
from ..process import Process
from ..space import Space
from .density import Density

__all__ = ["Method", "noised"]


class Method(ABC):
    """A training objective. Knows no device, no loop, no network class, no prediction and no optimiser."""

    @property
    @abstractmethod
    def phases(self) -> tuple[str, ...]:
        """Names of the attributes that are trained, in the order in which they are stepped."""

    @abstractmethod
    def loss(self, phase: str, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss, (), of one phase on one batch, and numbers to log; all randomness from `generator`."""

    def after_step(self, step: int) -> None:
        """Called after step number `step`, counted from 1; a place to move a target network."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs beyond the trained modules."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        return None


def noised(
    batch: Batch, process: Process, space: Space, density: Density, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """z_0 (B, ...), times t (B,) from the density, and z_t = alpha_t z_0 + sigma_t eps; randomness from `generator`."""
    z0 = space.encode(batch.x, batch.y)
    t = density(process, len(z0), generator)
    eps = normal(tuple(z0.shape), generator, z0.dtype).to(z0.device)
    return z0, t, process.marginal(z0, t, eps)
