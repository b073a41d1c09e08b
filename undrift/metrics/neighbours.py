"""Fidelity and diversity apart, by balls that reach from each image to its k-th nearest neighbour in its own set.

| | share or number | paper |
|---|---|---|
| precision | of y inside a ball of x | Kynkaanniemi et al., 2019, arXiv:1904.06991 |
| recall | of x inside a ball of y | the same |
| density | balls of x around each y, / k; can exceed 1 | Naeem et al., 2020, arXiv:2002.09797 |
| coverage | of balls of x with a y inside | the same |

For two sets of one law E density = 1 and E coverage = 1 - prod_{i=1..k} (N - i) / (N + M - i), in any number of
dimensions; precision and recall have no such number.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .estimate import Estimate, mean_of, share_of

__all__ = ["PRDC", "expected_coverage", "prdc"]

ENTRIES = 2**23  # of a block of distances: 64 MiB


class PRDC(NamedTuple):
    """Standard errors are over the images that are counted, given the balls."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def prdc(x: Tensor, y: Tensor, k: int = 5) -> PRDC:
    """Precision, recall, density and coverage of features y (M, D) in x (N, D), the reference; O(N M D) time.

    Distances are Euclidean, float64, and never more than 64 MiB of them held.

    Raises ValueError unless 1 <= k < N, M.
    """
    if not 1 <= k < min(len(x), len(y)):
        raise ValueError(f"k = {k} neighbours in sets of {len(x)} and {len(y)}: need at least 1 and fewer than both")
    centre = x.double().mean(0)  # near zero, |a|^2 + |b|^2 - 2 a.b cancels least
    x, y = x.double() - centre, y.double() - centre
    reach_x, reach_y = _reach(x, k), _reach(y, k)
    around_y = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    covered, recalled = [], []
    for rows, squares in _distances(x, y):
        inside = squares <= reach_x[rows, None]
        around_y += inside.view(torch.uint8).sum(0, dtype=torch.int32)
        covered.append(inside.any(1))
        recalled.append((squares <= reach_y).any(1))
    precision, recall, coverage = map(share_of, (around_y > 0, torch.cat(recalled), torch.cat(covered)))
    return PRDC(precision, recall, mean_of(around_y / k), coverage)


def expected_coverage(n: int, m: int, k: int) -> float:
    """E coverage of n reference images by m others of the same law: a ball misses all with prod (n-i)/(n+m-i)."""
    missed = 1.0
    for i in range(1, k + 1):
        missed *= (n - i) / (n + m - i)
    return 1 - missed


def _reach(x: Tensor, k: int) -> Tensor:
    """Squared distance of each to its k-th nearest other, (N,)."""
    return torch.cat([squares.topk(k + 1, dim=1, largest=False).values[:, k] for _, squares in _distances(x, x)])


def _distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of some rows of x to all of y."""
    size = max(1, ENTRIES // len(y))
    norms = y.square().sum(1)
    for start in range(0, len(x), size):
        part = x[start : start + size]
        yield slice(start, start + len(part)), torch.addmm(norms + part.square().sum(1, True), part, y.T, alpha=-2)
