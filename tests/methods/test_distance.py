"""Distances against closed forms, and the energy score against what makes it a proper one."""

import math

import pytest
import torch

from undrift.methods import ElementHuber, Energy, Perceptual, PseudoHuber, Squared

ALL = [Squared(), PseudoHuber(0.3), ElementHuber(0.2)]
ids = pytest.mark.parametrize("distance", ALL, ids=lambda d: type(d).__name__)


def pair(count=7, shape=(3, 4)):
    return torch.randn(2, count, *shape, dtype=torch.float64).unbind()


def test_squared():
    f, y = pair()
    expected = torch.stack([((a - b) ** 2).mean() for a, b in zip(f, y, strict=True)])
    torch.testing.assert_close(Squared()(f[None], y), expected)


def test_pseudo_huber():
    """sqrt(|x - y|^2 + c^2) - c with c = factor sqrt(d), of whole samples."""
    f, y = pair()
    c = 0.00054 * math.sqrt(12)
    expected = torch.stack([((a - b).norm() ** 2 + c**2).sqrt() - c for a, b in zip(f, y, strict=True)])
    torch.testing.assert_close(PseudoHuber()(f[None], y), expected)


def test_element_huber():
    """torch.mean(torch.sqrt((x - y)^2 + c^2) - c), of each element by itself."""
    f, y = pair()
    expected = (((f - y) ** 2 + 1e-6).sqrt() - 1e-3).mean((1, 2))
    torch.testing.assert_close(ElementHuber()(f[None], y), expected)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_hubers_are_squares_of_small_errors_and_lengths_of_large_ones(scale):
    f, y = pair()
    f = y + scale * (f - y)
    error, d = f - y, 12
    length, squares = error.flatten(1).norm(dim=1), error.square().mean((1, 2))
    c = 0.3 * math.sqrt(d)
    small = scale < 1
    whole = squares * d / (2 * c) if small else length - c
    each = squares / (2 * 0.2) if small else error.abs().mean((1, 2)) - 0.2
    torch.testing.assert_close(PseudoHuber(0.3)(f[None], y), whole, rtol=1e-4, atol=0)
    torch.testing.assert_close(ElementHuber(0.2)(f[None], y), each, rtol=1e-4, atol=0)


@ids
def test_zero_where_equal_and_differentiable_there(distance):
    y = torch.randn(3, 5)
    f = y.clone().requires_grad_()
    value = distance(f[None], y)
    assert value.shape == (3,)
    assert value.abs().max() < 1e-7
    (slope,) = torch.autograd.grad(value.sum(), f)
    assert torch.equal(slope, torch.zeros_like(slope))


# The energy score -----------------------------------------------------------------------------------------------------


def gaussian_energy(scale, dim=3, count=400_000):
    """E of the score of draws of N(0, scale^2 I) where the target is N(0, I), by simulation."""
    draws = torch.randn(3, count, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Energy()(scale * draws[:2], draws[2])


def test_energy_by_hand():
    one, two, y = torch.randn(3, 6, 2, 2, dtype=torch.float64)
    near = ((one - y).flatten(1).norm(dim=1) + (two - y).flatten(1).norm(dim=1)) / 2
    expected = (near - (one - two).flatten(1).norm(dim=1) / 2) / 2
    torch.testing.assert_close(Energy()(torch.stack([one, two]), y), expected)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.7])
def test_energy_of_gaussians(scale):
    """E |N(0, v I_d)| = sqrt(2 v) G((d+1)/2) / G(d/2): the expectation is known for every width of the draws."""
    dim = 3
    mean = math.sqrt(2) * math.gamma((dim + 1) / 2) / math.gamma(dim / 2)
    expected = (mean * math.sqrt(1 + scale**2) - mean * math.sqrt(2) * scale / 2) / math.sqrt(dim)
    found = gaussian_energy(scale)
    assert float(found.mean()) == pytest.approx(expected, abs=4 * float(found.std()) / math.sqrt(len(found)) + 1e-6)


def test_energy_is_least_for_the_right_law():
    """A scan of widths and of means: the minimum is at the truth, where the squared distance wants no width at all."""
    scales = torch.arange(0.0, 1.65, 0.1).tolist()
    energies = [float(gaussian_energy(scale, count=100_000).mean()) for scale in scales]
    assert scales[energies.index(min(energies))] == pytest.approx(1.0, abs=0.01)
    one, two, y = torch.randn(3, 100_000, 2, generator=torch.Generator().manual_seed(1))
    means = [float(Energy()(torch.stack([one + m, two + m]), y).mean()) for m in (-0.5, -0.1, 0.0, 0.1, 0.5)]
    assert min(means) == means[2]
    squares = [float(Squared()((scale * one)[None], y).mean()) for scale in scales]
    assert min(squares) == squares[0]


def test_energy_sees_shape_that_moments_do_not():
    """The truth is +-1 by chance; a Gaussian of the same mean and variance costs more."""
    generator = torch.Generator().manual_seed(2)

    def coin():
        return 2.0 * torch.randint(2, (200_000, 1), generator=generator) - 1

    def bell():
        return torch.randn(200_000, 1, generator=generator)

    right, wrong = (float(Energy()(torch.stack([draw(), draw()]), coin()).mean()) for draw in (coin, bell))
    assert right == pytest.approx(0.5, abs=0.01)  # E |f - y| = 1, half of E |f_1 - f_2| = 1/2
    assert wrong > right + 0.05


def test_energy_has_gradients_where_draws_coincide():
    draws = torch.zeros(2, 3, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(Energy()(draws, torch.ones(3, 4)).sum(), draws)
    assert slope.isfinite().all()
    assert (slope < 0).all()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (lambda: PseudoHuber(0.0), "PseudoHuber factor = 0.0"),
        (lambda: ElementHuber(-1.0), "ElementHuber c = -1.0"),
        (lambda: Energy(3), "Energy draws = 3"),
    ],
)
def test_bad_numbers(bad, says):
    with pytest.raises(ValueError, match=says):
        bad()


def test_perceptual():
    """Pixels and directions of channels, in closed form; equal maps of another length are equal."""
    f, y = pair(shape=(3, 4, 4))

    def features(z, level):
        return [level * z, z[..., :2, :2] ** 2]

    def direction(phi):
        return phi / (phi.square().mean(1, keepdim=True) + 1e-6).sqrt()

    for scale in (2.0, 5.0):
        error = 0.3 * (f - y).square().mean((1, 2, 3))
        for a, b in zip(features(f, scale), features(y, scale), strict=True):
            error = error + (direction(a) - direction(b)).square().mean((1, 2, 3))
        distance = Perceptual(features, level=scale, pixels=0.3)
        torch.testing.assert_close(distance(f[None], y), (error + 1e-6).sqrt() - 1e-3)


def test_perceptual_has_the_gradient_of_the_student_in_both_parts():
    f, y = pair(2, (3, 4, 4))
    distance = Perceptual(lambda z, level: [z.sin()])
    assert torch.autograd.gradcheck(lambda x: distance(x[None], y), f.requires_grad_())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"level": math.nan}, "level = nan"), ({"pixels": 0}, "pixels = 0")],
)
def test_perceptual_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        Perceptual(lambda z, level: [z], **settings)


def test_perceptual_without_features_sees_nothing():
    with pytest.raises(ValueError, match="needs features of a generator's network"):
        Perceptual()(torch.zeros(1, 2, 3), torch.zeros(2, 3))
