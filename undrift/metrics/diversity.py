"""Inception score: are images each of one class, and all together of every class? It sees no reference at all.

    IS = exp(E_x KL(p(c | x) || p(c)))

"Improved techniques for training GANs" (Salimans et al., 2016, arXiv:1606.03498), here over the whole set at once,
not over ten tenths of it ("A note on the inception score", Barratt and Sharma, 2018, arXiv:1801.01973).
"""

import math
from typing import final

import torch
from torch import Tensor

from .estimate import Estimate
from .frechet import Moments

__all__ = ["InceptionScore"]


@final
class InceptionScore:
    """Of a stream of class probabilities, in O(K^2) memory.

    KL(p_i || p) = sum_c p_ic log p_ic - p_i.log p is linear in (p_i, -entropy_i), so that the moments of these tell
    the mean and, by the delta method, the standard error.
    """

    def __init__(self) -> None:
        self.moments = Moments()

    def update(self, probabilities: Tensor) -> None:
        """Takes in p(c | x), (B, K)."""
        p = probabilities.detach().double()
        self.moments.update(torch.cat([p, -torch.special.entr(p).sum(1, keepdim=True)], 1))

    def compute(self) -> Estimate:
        """The score so far, from 1 to K."""
        mean, cov = self.moments.mean, self.moments.cov
        weights = torch.cat([-mean[:-1].clamp_min(torch.finfo(mean.dtype).tiny).log(), mean.new_ones(1)])
        score = math.exp(float(weights @ mean))
        return Estimate(score, score * math.sqrt(max(float(weights @ cov @ weights), 0) / self.moments.count))
