"""The Frechet distance against Gaussians and torchmetrics, and its standard error against repetition."""

import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from undrift.metrics import Fid, Function, Moments, frechet, frechet_distance

RNG = torch.Generator().manual_seed(0)


def test_frechet_of_commuting_covariances():
    basis = torch.linalg.qr(torch.randn(6, 6, generator=RNG).double()).Q
    a, b = torch.rand(6, generator=RNG).double(), torch.rand(6, generator=RNG).double()
    mean = torch.randn(6, generator=RNG).double()
    got = frechet(mean, basis * a @ basis.T, mean * 0, basis * b @ basis.T)
    torch.testing.assert_close(got, mean.square().sum() + (a.sqrt() - b.sqrt()).square().sum())


def test_frechet_of_rank_deficient_covariances():
    u, v = torch.randn(2, 300, generator=RNG).double()
    zero = torch.zeros(300).double()
    cross = (u @ v).abs()  # tr((uu' vv')^1/2)
    want = u @ u + v @ v - 2 * cross
    torch.testing.assert_close(frechet(zero, torch.outer(u, u), zero, torch.outer(v, v)), want, rtol=1e-6, atol=0)


def test_moments_in_batches_are_the_moments():
    features = torch.randn(50, 5, generator=RNG).double() + 1e4  # a large mean, where sums of squares cancel
    moments = Moments()
    for part in features.split((1, 7, 30, 12)):
        moments.update(part)
    torch.testing.assert_close(moments.mean, features.mean(0))
    torch.testing.assert_close(moments.cov, features.T.cov(), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="at least 2"):
        _ = Moments().cov


class Colours(nn.Module):
    """Eight features of an image, in place of Inception's."""

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images.float(), (2, 2)).flatten(1)[:, :8]


class Levels(Colours):
    """Of 8-bit images."""

    def forward(self, images):
        return super().forward(images / 255)


def test_fid_is_torchmetrics():
    x, y = torch.rand(40, 3, 8, 8, generator=RNG), torch.rand(30, 3, 8, 8, generator=RNG) ** 2
    theirs = FrechetInceptionDistance(feature=Levels(), input_img_size=(3, 8, 8))
    ours = Fid(Function(Colours(), "colours"))
    for part in x.split(16):
        theirs.update(part.mul(255).round().byte(), real=True)
        ours.update(x=part)
    theirs.update(y.mul(255).round().byte(), real=False)
    ours.update(y=y)
    torch.testing.assert_close(ours.compute(), theirs.compute().double(), rtol=1e-3, atol=1e-6)


def gaussian(n, mean, basis, stds, rng):
    return mean + (torch.randn(n, len(stds), generator=rng, dtype=torch.float64) * stds) @ basis.T


def test_the_distance_of_samples_and_its_error_are_those_of_their_gaussians():
    """Two Gaussians with one eigenbasis: distance known, the spread of 150 repetitions measured."""
    rng = torch.Generator().manual_seed(4)
    basis = torch.linalg.qr(torch.randn(5, 5, generator=rng).double()).Q
    a, b = torch.tensor([1, 0.5, 2, 1, 0.1]).double(), torch.tensor([1.5, 0.5, 1, 2, 0.3]).double()
    shift = torch.tensor([0.5, 0, 0.2, 0, 0]).double()
    true = float(shift.square().sum() + (a - b).square().sum())
    found = [frechet_distance(gaussian(800, 0, basis, a, rng), gaussian(500, shift, basis, b, rng)) for _ in range(150)]
    values, errors = (torch.tensor(column) for column in zip(*found, strict=True))
    assert float(values.mean()) == pytest.approx(true, abs=0.05)  # biased by O(1/n)
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.2)


def test_the_error_is_finite_where_covariances_are_singular_and_zero_where_sets_are_equal():
    x = torch.randn(30, 50, generator=RNG).double()
    y = torch.randn(40, 50, generator=RNG).double() + 1
    value, error = frechet_distance(x, y)
    assert 0 < error < value
    value, error = frechet_distance(x, x)
    assert value == pytest.approx(0, abs=1e-5)
    assert error == pytest.approx(0, abs=1e-3)
