"""What ONE optimisation step computes: a loss per phase. The loop is `training.fit`, and there is no other."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..data.batch import Batch

__all__ = ["Method"]


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
