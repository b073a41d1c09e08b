r"""Losses of a critic D and of the student that it judges, from logits: of any shape, averaged over all of them.

| class | critic minimises | student minimises | at best, for densities p real and q fake |
|---|---|---|---|
| `Hinge` | E_p max(0, 1 - D) + E_q max(0, 1 + D) | -E_q D | D = sign(p - q), loss 2 - 2 TV(p, q) |
| `LeastSquares` | 1/2 E_p (D - 1)^2 + 1/2 E_q D^2 | 1/2 E_q (D - 1)^2 | D = p / (p + q) |
| `NonSaturating` | E_p softplus(-D) + E_q softplus(D) | E_q softplus(-D) | D = log(p / q), loss 2 log 2 - 2 JS(p, q) |

Geometric GAN (Lim & Ye 2017, arXiv 1705.02894); Least Squares GAN (Mao et al. 2016, arXiv 1611.04076); Generative
Adversarial Nets (Goodfellow et al. 2014, arXiv 1406.2661). All in float32 or better, autocast or not.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["Adversarial", "Hinge", "LeastSquares", "NonSaturating", "r1"]


class Adversarial(ABC):
    """A pair of losses."""

    middle: ClassVar[float] = 0.0
    """The logit of a critic that cannot tell."""

    @abstractmethod
    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Logits of real and of fake states, each of any shape -> the critic's loss ()."""

    @abstractmethod
    def student(self, fake: Tensor) -> Tensor:
        """Logits of fake states -> the student's loss ()."""

    def accuracy(self, real: Tensor, fake: Tensor) -> float:
        """Share of right verdicts, real and fake counted alike: 1/2 is chance. To log."""
        right = (real > self.middle).float().mean() + (fake < self.middle).float().mean()
        return right.item() / 2


@final
@dataclass(frozen=True)
class Hinge(Adversarial):
    """No gradient from what the critic knows by a margin."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - _wide(real)).mean() + F.relu(1 + _wide(fake)).mean()

    def student(self, fake: Tensor) -> Tensor:
        return -_wide(fake).mean()


@final
@dataclass(frozen=True)
class LeastSquares(Adversarial):
    """Real is 1 and fake 0, and overshooting either costs."""

    middle: ClassVar[float] = 0.5

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * (_wide(real) - 1).square().mean() + 0.5 * _wide(fake).square().mean()

    def student(self, fake: Tensor) -> Tensor:
        return 0.5 * (_wide(fake) - 1).square().mean()


@final
@dataclass(frozen=True)
class NonSaturating(Adversarial):
    """The logistic loss; its gradient on the student is largest where the critic is sure."""

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-_wide(real)).mean() + F.softplus(_wide(fake)).mean()

    def student(self, fake: Tensor) -> Tensor:
        return F.softplus(-_wide(fake)).mean()


def r1(critic: Callable[..., Tensor], z: Tensor, c: Tensor, **cond: Any) -> Tensor:
    r"""E |grad_z D(z, c)|^2 over real states z (B, ...), (), with D the mean of a sample's logits.

    Times gamma/2 it is the penalty R1 (Which Training Methods for GANs do actually Converge?, Mescheder et al. 2018,
    arXiv 1801.04406). Two derivatives: in full precision, and with the plain attention, the one that has both.
    """
    z = z.detach().requires_grad_()
    with torch.autocast(z.device.type, enabled=False), sdpa_kernel(SDPBackend.MATH):
        each = critic(z, c, **cond).flatten(1).mean(1)
        (slope,) = torch.autograd.grad(each.sum(), z, create_graph=True)
    return slope.flatten(1).square().sum(1).mean()


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
