"""KID: the maximum mean discrepancy of two sets of features under a polynomial kernel, unbiased at any size.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),    k(a, b) = (a.b / D + 1)^3

"Demystifying MMD GANs" (Binkowski et al., 2018, arXiv:1801.01401). Zero in expectation for two sets of one law, so
it can be negative.
"""

import torch
from torch import Tensor

from .estimate import Estimate, mean_of

__all__ = ["kid"]


def kid(x: Tensor, y: Tensor, *, subset: int = 1000, repeats: int = 10, seed: int = 0) -> Estimate:
    """KID of features x (N, D) and y (M, D), in units of the kernel.

    The mean over disjoint pairs of subsets, so that their spread is an honest standard error, and over `repeats`
    random ways to cut them, which can only lower it. The size of a subset moves the spread, never the expectation.

    Arguments:
        subset: images in each; at most a tenth of the smaller set, for two subsets tell little of a spread.
        seed: of the cuts.

    Raises ValueError for fewer than 4 images a side, or other sizes below 1.
    """
    count = min(len(x), len(y))
    if count < 4 or subset < 2 or repeats < 1:
        raise ValueError(f"KID of {count} images, subset = {subset}, repeats = {repeats}: need at least 4, 2 and 1")
    subset = min(subset, max(count // 10, 2))
    blocks = count // subset
    generator = torch.Generator().manual_seed(seed)
    cuts = []
    for _ in range(repeats):
        a, b = (side[torch.randperm(len(side), generator=generator)[: blocks * subset]] for side in (x, y))
        pairs = zip(a.split(subset), b.split(subset), strict=True)
        cuts.append(mean_of(torch.stack([_mmd(p.double(), q.double()) for p, q in pairs])))
    return Estimate(sum(cut.value for cut in cuts) / repeats, (sum(cut.error**2 for cut in cuts) / repeats) ** 0.5)


def _mmd(x: Tensor, y: Tensor) -> Tensor:
    within = sum(_between_others(side) for side in (x, y))
    return within - 2 * _kernel(x, y).mean()


def _between_others(x: Tensor) -> Tensor:
    """Mean of k(x_i, x_j) over i != j: a pair of equals would be the bias."""
    gram = _kernel(x, x)
    return (gram.sum() - gram.trace()) / (len(x) * (len(x) - 1))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
