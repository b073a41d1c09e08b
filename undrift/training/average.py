r"""Averages of the weights over a training run:

    average_n = beta_n average_{n-1} + (1 - beta_n) theta_n,    n = 1, 2, ...

`beta_1 = 0` for every rule here, so the initial weights never enter.
"""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, final

import torch
from torch import Tensor, nn

__all__ = ["Average", "Decay", "Exponential", "Power"]

M = TypeVar("M", bound=nn.Module)


class Decay(ABC):
    """A rule for beta_n."""

    @abstractmethod
    def __call__(self, count: int) -> float:
        """beta of update number `count` = 1, 2, ..."""


@final
@dataclass(frozen=True)
class Exponential(Decay):
    """beta_n = min(decay, (n - 1) / (n + warmup)): the classic average, shorter at first."""

    decay: float = 0.999
    warmup: float = 9.0

    def __post_init__(self) -> None:
        if not (0 <= self.decay < 1 and self.warmup >= 0):
            raise ValueError(f"Exponential({self.decay}, {self.warmup}): need 0 <= decay < 1 and warmup >= 0")

    def __call__(self, count: int) -> float:
        return min(self.decay, (count - 1) / (count + self.warmup))


@final
@dataclass(frozen=True)
class Power(Decay):
    r"""beta_n = (1 - 1/n)^(gamma + 1): weights proportional to n^gamma, a profile that stretches with the run.

    Karras et al. 2024, arXiv 2312.02696. `width` is the standard deviation of the profile relative to the
    length of the run, width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), in (0, 0.28).
    """

    width: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.width < 0.28:
            raise ValueError(f"Power width = {self.width}: need a fraction of the run in (0, 0.28), e.g. 0.05")

    @cached_property
    def gamma(self) -> float:
        low, high = 0.0, 1 / self.width  # the width falls with gamma, and is below 1 / gamma
        for _ in range(60):
            middle = (low + high) / 2
            wider = (middle + 1) / ((middle + 2) ** 2 * (middle + 3)) > self.width**2
            low, high = (middle, high) if wider else (low, middle)
        return low

    def __call__(self, count: int) -> float:
        return float((1 - 1 / count) ** (self.gamma + 1))


@final
class Average(Generic[M]):
    """A running average of the weights of `source`, held by `module`, a copy of it in evaluation mode.

    Floating-point parameters and buffers are averaged, other buffers copied. `source` should already be on
    its device.
    """

    def __init__(self, source: M, decay: Decay) -> None:
        self.source, self.decay, self.count = source, decay, 0
        self.module: M = deepcopy(source).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present weights of the source."""
        self.count += 1
        pairs = list(zip(_tensors(self.module), _tensors(self.source), strict=True))
        ours = [a for a, _ in pairs if a.is_floating_point()]
        torch._foreach_lerp_(ours, [b for a, b in pairs if a.is_floating_point()], 1 - self.decay(self.count))
        for a, b in pairs:
            if not a.is_floating_point():
                a.copy_(b)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.count = state["count"]


def _tensors(module: nn.Module) -> list[Tensor]:
    # Of weights cut over processes each averages its part.
    both: list[Any] = [*module.parameters(), *module.buffers()]
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in both]
