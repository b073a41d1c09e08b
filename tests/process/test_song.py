"""VE, VP and SubVP against the formulas and golden values of score-sde.md 1.2 and 1.3 (mpmath, 40 digits)."""

import math

import pytest
import torch
from oracles import f64

from undrift.process import VE, VP, SubVP

TIMES = (1e-5, 1e-3, 0.1, 0.5, 1.0)
BETA = (0.100199, 0.1199, 2.09, 10.05, 20.0)
VP_ALPHA = (0.999999499503, 0.999945026511, 0.946721798821, 0.281182880797, 0.00657158649493)
VP_SIGMA = (0.00100049712594, 0.0104854163351, 0.322052535525, 0.959654202068, 0.999978406892)
VP_G = (0.316542256263, 0.346265793864, 1.44568322948, 3.17017349683, 4.472135955)
SUBVP_SIGMA = (1.000994499e-6, 1.0994395572e-4, 0.103717835638, 0.920936187547, 0.999956814251)
SUBVP_G = (4.47880782366e-4, 5.13450204691e-3, 0.641137745776, 3.16024944922, 4.47213595083)
VE_SIGMA = (0.0100008517556, 0.0100855356768, 0.0234367291159, 0.707106781187, 50.0)
VE_G = (0.0412762502333, 0.0416257639354, 0.0967297905498, 2.91842306587, 206.363674025)


@pytest.mark.parametrize(
    ("process", "alpha", "sigma", "g"),
    [
        (VP(), VP_ALPHA, VP_SIGMA, VP_G),
        (SubVP(), VP_ALPHA, SUBVP_SIGMA, SUBVP_G),
        (VE(), (1.0,) * 5, VE_SIGMA, VE_G),
    ],
    ids=["VP", "SubVP", "VE"],
)
def test_golden_values(process, alpha, sigma, g):
    t = f64(TIMES)
    close = {"rtol": 2e-10, "atol": 0.0}
    for found, expected in zip(process.alpha_sigma(t), (alpha, sigma), strict=True):
        torch.testing.assert_close(found, f64(expected), **close)
    torch.testing.assert_close(process.drift_diffusion(t)[1].sqrt(), f64(g), **close)


@pytest.mark.parametrize("t", [*TIMES, 0.77])
def test_textbook_drift_and_diffusion(t):
    beta = 0.1 + t * 19.9
    integral = 0.1 * t + 19.9 * t**2 / 2
    for process, f, g2 in (
        (VP(), -beta / 2, beta),
        (SubVP(), -beta / 2, beta * -math.expm1(-2 * integral)),
        (VE(), 0.0, (0.01 * 5000**t) ** 2 * 2 * math.log(5000)),
    ):
        found = [float(c) for c in process.drift_diffusion(f64(t))]
        assert found == pytest.approx([f, g2], rel=1e-11)


def test_beta_and_noise_levels_are_arguments():
    assert [float(c) for c in VP(0.2, 8.0).drift_diffusion(f64(0.25))] == pytest.approx([-2.15 / 2, 2.15], rel=1e-12)
    assert float(VE(0.1, 9.0).alpha_sigma(f64(0.5))[1]) == pytest.approx(math.sqrt(0.9), rel=1e-14)


def test_small_times_keep_their_digits():
    """sigma^2 = int beta to first order: 1 - alpha^2 would lose eleven digits here."""
    t = 1e-10
    sigma = float(VP().alpha_sigma(f64(t))[1])
    assert sigma == pytest.approx(math.sqrt(0.1 * t + 19.9 * t**2 / 2 - (0.1 * t) ** 2 / 2), rel=1e-13)
