"""The Frechet distance of two sets of features, each seen as a Gaussian: the one path that every FID here takes.

    |m_a - m_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2)

"GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (Heusel et al., 2017,
arXiv:1706.08500). Biased upwards for small sets, by about 1/n: compare only at equal numbers of images.
"""

from typing import final

import torch
from torch import Tensor

from .estimate import Estimate
from .features import Extractor, eight_bit

__all__ = ["Fid", "Moments", "frechet", "frechet_distance"]

BLOCK = 4096  # features at a time


def frechet(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of two Gaussians, float64, means (D,), covariances (D, D).

    Two symmetric eigenvalue problems: real by construction, and sound where a covariance is rank deficient.
    """
    a, b = cov_a.double(), cov_b.double()
    root = _root(a)
    cross = torch.linalg.eigvalsh(root @ b @ root).clamp_min(0).sqrt().sum()
    apart = (mean_a.double() - mean_b.double()).square().sum()
    distance: Tensor = apart + a.trace() + b.trace() - 2 * cross
    return distance


def _root(a: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(a)
    root: Tensor = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return root


class Moments:
    """Mean and unbiased covariance of features that arrive in batches, float64, in O(D^2) memory.

    Batches are merged by "Updating formulae and a pairwise algorithm for computing sample variances"
    (Chan et al., 1979), which does not cancel as a sum of squares does.
    """

    def __init__(self) -> None:
        self.count, self.mean, self.scatter = 0, torch.zeros(()).double(), torch.zeros(()).double()

    @classmethod
    def of(cls, features: Tensor) -> "Moments":
        """Those of features (N, D) at hand."""
        moments = cls()
        for block in features.split(BLOCK):
            moments.update(block)
        return moments

    def update(self, features: Tensor) -> None:
        """Takes in features (B, D)."""
        new = features.detach().double()
        n, mean = len(new), new.mean(0)
        centred, gap = new - mean, mean - self.mean
        total = self.count + n
        self.scatter = self.scatter + centred.T @ centred + torch.outer(gap, gap) * (self.count * n / total)
        self.mean = self.mean + gap * (n / total)
        self.count = total

    @property
    def cov(self) -> Tensor:
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self.count}")
        return self.scatter / (self.count - 1)


def frechet_distance(x: Tensor, y: Tensor) -> Estimate:
    """The distance of features x (N, D) from y (M, D), and its standard error.

    The error is the delta method's: the distance moves with one more image y_i by the potential of optimal transport,

        2 (m_y - m_x).(y_i - m_y) + (y_i - m_y)'(I - T)(y_i - m_y) - const,   T = A^1/2 (A^1/2 B A^1/2)^-1/2 A^1/2,

    likewise for x ("Limit laws of the empirical Wasserstein distance: Gaussian distributions", Rippl et al., 2016,
    arXiv:1507.04090). It does not know the bias.
    """
    a, b = Moments.of(x), Moments.of(y)
    variance = _potential_variance(x, a, b) / len(x) + _potential_variance(y, b, a) / len(y)
    return Estimate(float(frechet(a.mean, a.cov, b.mean, b.cov)), variance**0.5)


def _potential_variance(x: Tensor, own: Moments, other: Moments) -> float:
    root = _root(other.cov)
    values, vectors = torch.linalg.eigh(root @ own.cov @ root)
    floor = values.max() * len(values) * torch.finfo(values.dtype).eps  # below it, directions that no image has
    inverse = torch.where(values > floor, values.clamp_min(floor).rsqrt(), 0)
    half = root @ (vectors * inverse.sqrt())  # the transport is half half'
    blocks = []
    for block in x.split(BLOCK):
        centred = block.double() - own.mean
        bent = centred.square().sum(1) - (centred @ half).square().sum(1)
        blocks.append(2 * centred @ (own.mean - other.mean) + bent)
    return float(torch.cat(blocks).var())


@final
class Fid:
    """Frechet distance of two streams of images, of which nothing is held but the moments.

    Arguments:
        extractor: see `features`; FID proper is that of Inception.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor, self.x, self.y = extractor, Moments(), Moments()

    def update(self, x: Tensor | None = None, y: Tensor | None = None) -> None:
        """Takes in reference images ``x`` and / or others ``y``, (B, C, H, W) in [0, 1]; rounded to 8 bits."""
        for side, images in ((self.x, x), (self.y, y)):
            if images is not None:
                side.update(self.extractor(eight_bit(images))[0])

    def compute(self) -> Tensor:
        """The distance so far, () float64."""
        return frechet(self.x.mean, self.x.cov, self.y.mean, self.y.cov)
