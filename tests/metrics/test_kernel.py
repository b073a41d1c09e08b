"""KID: its closed form for Gaussians, no bias at any size, and torchmetrics on one pair of subsets."""

import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from undrift.metrics import kid
from undrift.metrics.kernel import _mmd

RNG = torch.Generator().manual_seed(0)


def normal(n, d, shift=0.0):
    return torch.randn(n, d, generator=RNG, dtype=torch.float64) + shift


def test_one_pair_of_subsets_is_torchmetrics():
    x, y = normal(50, 7), normal(50, 7, 0.3)
    theirs = poly_mmd(x, y, degree=3, gamma=None, coef=1.0)
    torch.testing.assert_close(_mmd(x, y), theirs)


@pytest.mark.parametrize("size", [5, 20])
def test_subsets_of_any_size_expect_the_same(size):
    """On the line with y = x + c the kernel's moments are known: E k = E (ab + 1)^3."""
    c = 0.8

    def expected(m1, m2, m3, n1, n2, n3):
        return m3 * n3 + 3 * m2 * n2 + 3 * m1 * n1 + 1

    x, y = (0, 1, 0), (c, 1 + c * c, c**3 + 3 * c)
    true = expected(*x, *x) + expected(*y, *y) - 2 * expected(*x, *y)
    found = [kid(normal(200, 1), normal(200, 1, c), subset=size, repeats=2) for _ in range(150)]
    values = torch.tensor([each.value for each in found])
    assert float(values.mean()) == pytest.approx(true, abs=4 * float(values.std()) / 150**0.5)


def test_it_is_zero_on_average_for_one_law_and_its_error_does_not_understate():
    found = [kid(normal(120, 6), normal(100, 6), subset=25, repeats=4) for _ in range(150)]
    values, errors = (torch.tensor(column) for column in zip(*found, strict=True))
    spread = float(values.std())
    assert abs(float(values.mean())) < 4 * spread / 150**0.5
    assert spread < float(errors.mean()) < 4 * spread
    far = [kid(normal(100, 6), normal(100, 6, 0.6), subset=25, repeats=4) for _ in range(80)]
    values, errors = (torch.tensor(column) for column in zip(*far, strict=True))
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.35)


def test_cuts_are_seeded_and_too_few_images_refused():
    x, y = normal(60, 3), normal(50, 3)
    assert kid(x, y, seed=2) == kid(x, y, seed=2) != kid(x, y, subset=10, seed=3)
    with pytest.raises(ValueError, match="KID of 3 images"):
        kid(x[:3], y)
