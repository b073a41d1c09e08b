"""A number with its standard error."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["Estimate", "mean_of", "share_of"]


class Estimate(NamedTuple):
    """What was found, and the standard deviation that it would have over other draws of equally many images."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.4g} +- {self.error:.2g}"


def mean_of(values: Tensor) -> Estimate:
    """Mean of independent values (n,), n >= 2, with std / sqrt(n)."""
    return Estimate(float(values.mean()), float(values.std() / len(values) ** 0.5))


def share_of(hits: Tensor) -> Estimate:
    """Share of True among (n,), with the error of one that saw two more of each, which is not 0 where all are alike.

    "Approximate is better than 'exact' for interval estimation of binomial proportions" (Agresti and Coull, 1998).
    """
    count, share = len(hits) + 4, (float(hits.sum()) + 2) / (len(hits) + 4)
    return Estimate(float(hits.double().mean()), (share * (1 - share) / count) ** 0.5)
