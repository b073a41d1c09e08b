"""Affine pairs against the definition of each target, on every process."""

import math

import pytest
import torch
from oracles import PROCESSES, STATIONARY, f64, inner_times

from undrift import prediction
from undrift.process import EDM, VP, MeanReverting

each = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())

TARGETS = {  # name: (prediction, F from z_0, eps, alpha, sigma)
    "data": (prediction.data, lambda z0, eps, a, s: z0),
    "data(0.2)": (prediction.Data(0.2), lambda z0, eps, a, s: z0 / 0.2),
    "noise": (prediction.noise, lambda z0, eps, a, s: eps),
    "score": (prediction.score, lambda z0, eps, a, s: -eps / s),
    "flow": (prediction.flow, lambda z0, eps, a, s: eps - z0),
    "velocity(1)": (prediction.velocity(), lambda z0, eps, a, s: (a * eps - s * z0) / (a**2 + s**2).sqrt()),
    "velocity(0.3)": (
        prediction.velocity(0.3),
        lambda z0, eps, a, s: (0.3 * a * eps - s / 0.3 * z0) / (0.09 * a**2 + s**2).sqrt(),
    ),
}


@each
@pytest.mark.parametrize("name", TARGETS)
def test_the_textbook_target_gives_back_the_data(process, name):
    meaning, target = TARGETS[name]
    t = inner_times(process, 40)
    alpha, sigma = process.alpha_sigma(t)
    z0, eps = torch.randn(2, 40, dtype=torch.float64)
    z = process.marginal(z0, t, eps)
    skip, out = meaning.affine(t, alpha, sigma)
    assert skip.shape == out.shape == t.shape
    assert skip.dtype == out.dtype == torch.float64
    # z / alpha, the largest term, has lost this much:
    slack = 1e-14 * float((1 / alpha).max()) * 10
    torch.testing.assert_close(skip * z + out * target(z0, eps, alpha, sigma), z0, rtol=1e-12, atol=slack)


@each
def test_every_pair_of_predictions_agrees_on_the_data(process):
    """F of one, through z_0, is F of the other: a network can be read in any language."""
    t = inner_times(process, 9)[2:]
    alpha, sigma = process.alpha_sigma(t)
    z, F = torch.randn(2, 7, dtype=torch.float64)
    pairs = {name: meaning.affine(t, alpha, sigma) for name, (meaning, _) in TARGETS.items()}
    for skip, out in pairs.values():
        z0 = skip * z + out * F
        eps = (z - alpha * z0) / sigma
        for name, (other_skip, other_out) in pairs.items():
            translated = (z0 - other_skip * z) / other_out
            torch.testing.assert_close(translated, TARGETS[name][1](z0, eps, alpha, sigma), rtol=1e-7, atol=1e-7)


@each
def test_the_weight_turns_an_error_of_the_data_into_one_of_the_output(process):
    t = inner_times(process, 20)
    alpha, sigma = process.alpha_sigma(t)
    for meaning, _ in TARGETS.values():
        _, out = meaning.affine(t, alpha, sigma)
        error = torch.randn(20, dtype=torch.float64)
        torch.testing.assert_close(meaning.weight(t, alpha, sigma) * (out * error) ** 2, error**2, rtol=1e-12, atol=0)


@each
@pytest.mark.parametrize("std", [0.2, 1.0])
def test_a_velocity_has_unit_variance_and_is_uncorrelated_with_its_input(process, std):
    """For data of standard deviation s: the best-conditioned target there is."""
    t = inner_times(process, 20)
    alpha, sigma = process.alpha_sigma(t)
    skip, out = prediction.velocity(std).affine(t, alpha, sigma)
    # F = (z_0 - skip z) / out with z = alpha z_0 + sigma eps
    by_data, by_noise = (1 - skip * alpha) / out, -skip * sigma / out
    torch.testing.assert_close((by_data * std) ** 2 + by_noise**2, torch.ones_like(t), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(by_data * std**2 * alpha + by_noise * sigma, torch.zeros_like(t), rtol=0, atol=1e-9)


def test_edm_preconditioning_is_minus_a_velocity():
    """Karras et al. 2022, table 1: c_skip = s^2/(sigma^2 + s^2), c_out = sigma s / sqrt(sigma^2 + s^2)."""
    sigma, s = f64([0.002, 0.5, 80.0]), 0.5
    skip, out = prediction.velocity(s).affine(sigma, *EDM().alpha_sigma(sigma))
    torch.testing.assert_close(skip, s**2 / (sigma**2 + s**2), rtol=1e-14, atol=0)
    torch.testing.assert_close(out, -sigma * s / (sigma**2 + s**2).sqrt(), rtol=1e-14, atol=0)


def test_mr_samplers_velocity_is_the_derivative_along_the_circle():
    """v = dy/dphi with cos phi = alpha, in units of lam: x_0 = mu + alpha (x - mu) - (sigma / lam) v."""
    process, t = MeanReverting(), f64([1.0, 30.5, 77.0, 100.0])
    alpha, sigma = process.alpha_sigma(t)
    skip, out = prediction.velocity(STATIONARY).affine(t, alpha, sigma)
    torch.testing.assert_close(skip, alpha, rtol=1e-13, atol=0)
    torch.testing.assert_close(out, -sigma, rtol=1e-13, atol=0)  # F = v / lam


def test_v_prediction_of_salimans_and_ho():
    t = f64([0.01, 0.5, 1.0])
    alpha, sigma = VP().alpha_sigma(t)
    skip, out = prediction.velocity(1.0).affine(t, alpha, sigma)
    torch.testing.assert_close(skip, alpha, rtol=1e-13, atol=0)
    torch.testing.assert_close(out, -sigma, rtol=1e-13, atol=0)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_ml_noise_undoes_the_maximum_likelihood_loss(schedule):
    """The loss wants one Euler step, (1 + p) y - 2 lam^2 p F / sigma, to land on the posterior mean: solve for F."""
    process, t = MeanReverting(schedule=schedule), torch.arange(1, 101, dtype=torch.float64)
    (alpha, sigma), (before, _) = process.alpha_sigma(t), process.alpha_sigma(t - 1)
    p = (before / alpha).log()
    y0, eps = torch.randn(2, 100, dtype=torch.float64)
    y = alpha * y0 + sigma * eps
    A, B, C = alpha / before, alpha, before
    optimal = A * (1 - C**2) / (1 - B**2) * y + C * (1 - A**2) / (1 - B**2) * y0
    F = ((1 + p) * y - optimal) * sigma / (2 * STATIONARY**2 * p)
    skip, out = prediction.ml_noise(process).affine(t, alpha, sigma)
    found = (y - alpha * (skip * y + out * F)) / sigma
    torch.testing.assert_close(found, eps, rtol=0, atol=2e-9)
    biased = (F - eps)[-1] / eps[-1]
    assert schedule != "cosine" or abs(biased) > 1e-3  # what is undone is there


@pytest.mark.parametrize(("t", "k1", "k2"), [(50, 0.0637664678, 0.9995374833), (100, 0.1374121467, 0.9981972011)])
def test_ml_noise_golden_constants(t, k1, k2):
    """eps = (F + k1 y) k2, mr-sampler.md 1.7; there k1 carries sigma / lam^2."""
    process = MeanReverting()
    alpha, sigma = process.alpha_sigma(f64(t))
    skip, out = prediction.ml_noise(process).affine(f64(t), alpha, sigma)
    found_k2 = float(-out * alpha / sigma)
    assert found_k2 == pytest.approx(k2, abs=1e-10)
    assert float((1 - alpha * skip) / sigma) / found_k2 == pytest.approx(k1, abs=1e-10)


@pytest.mark.parametrize("rate", [3e-5, 9.9e-5, 1.01e-4, 1e-3])
def test_ml_noise_near_its_series(rate):
    """The step's log-contraction on both sides of the threshold, in 40-digit arithmetic."""
    mpmath = pytest.importorskip("mpmath")

    class Slow:
        t_clean = 0.0

        def alpha_sigma(self, t):
            return torch.exp(-rate * t), torch.sqrt(-torch.expm1(-2 * rate * t))

    t = f64(2000.0)
    alpha, sigma = Slow().alpha_sigma(t)
    skip, out = prediction.ml_noise(Slow()).affine(t, alpha, sigma)
    with mpmath.workdps(40):
        p = mpmath.mpf(rate)
        k1 = (mpmath.exp(p) - 1 - p) / (2 * p) * (1 - mpmath.exp(-2 * p * 2000)) / mpmath.mpf(float(sigma))
        k2 = p / mpmath.sinh(p)
        k1, k2 = float(k1), float(k2)
    assert float(-out * alpha / sigma) == pytest.approx(k2, rel=1e-12)
    assert float((1 - alpha * skip) / sigma) == pytest.approx(k1 * k2, rel=1e-7)


@pytest.mark.parametrize(
    ("t", "bias"), [(1, 0), (2, 0), (5, 1e-4), (10, 4e-4), (20, 1.9e-3), (50, 1.33e-2), (80, 2.27e-2), (100, 2.51e-2)]
)
def test_how_far_the_maximum_likelihood_optimum_is_from_the_noise(t, bias):
    """Relative RMS of F - E[eps | y] for data mu + N(-0.3, 0.05^2), mr-sampler.md 1.7."""
    process, mean, std = MeanReverting(), -0.3, 0.05
    alpha, sigma = (float(c) for c in process.alpha_sigma(f64(t)))
    skip, out = (float(c) for c in prediction.ml_noise(process).affine(f64(t), f64(alpha), f64(sigma)))
    y = alpha * mean + math.hypot(alpha * std, sigma) * torch.randn(
        2, dtype=torch.float64
    )  # F is affine in y: two points
    eps = sigma * (y - alpha * mean) / ((alpha * std) ** 2 + sigma**2)
    F = ((y - sigma * eps) / alpha - skip * y) / out
    slope = float((F - eps).diff() / y.diff())
    offset = float((F - eps)[0] - slope * (y[0] - alpha * mean))
    spread = math.hypot(alpha * std, sigma)
    assert math.hypot(slope * spread, offset) / (sigma / spread) == pytest.approx(bias, abs=5.5e-5)
