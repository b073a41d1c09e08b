"""IR-SDE's schedules against mr-sampler.md 1.4 and a plain-Python reading of its definitions."""

import math

import pytest
import torch
from oracles import SCHEDULES, STATIONARY, f64

from undrift.process import MeanReverting

# schedule: (dt, {t: (theta, alpha, sigma, lambda)}), T = 100, eps = 0.005, lam = 50/255, theta_0 subtracted
GOLDEN = {
    "cosine": (0.104093807857, {
        1: (0.0016946156, 0.999823616562, 0.003682600193, 5.6039598031),
        10: (0.0320852370, 0.985364926748, 0.033423155298, 3.3837631244),
        50: (0.5061564096, 0.360821613943, 0.182869578376, 0.6796104797),
        80: (0.9005346505, 0.037446976906, 0.195940905096, -1.6548871259),
        100: (0.9997665725, 0.005, 0.196075980377, -3.6690643267),
    }),
    "linear": (0.527247700893, {
        1: (0.0029603960, 0.998440355506, 0.010946826318, 4.5131448367),
        50: (0.0995049505, 0.259080757843, 0.189383463249, 0.3133659538),
    }),
    "constant": (0.052983173665, {
        1: (1.0, 0.948395970376, 0.062174205342, 2.7248318967),
        50: (1.0, 0.070710678119, 0.195587621012, -1.0174118726),
    }),
}  # fmt: skip


def theta(schedule: str, steps: int) -> list[float]:
    """theta_0 .. theta_T, one formula per schedule."""
    if schedule == "constant":
        return [1.0] * (steps + 1)
    if schedule == "linear":
        scale = 1000 / (steps + 1)
        return [scale * (1e-4 + (2e-2 - 1e-4) * i / steps) for i in range(steps + 1)]
    c = [math.cos((i / (steps + 2) + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 3)]
    return [1 - c[j + 1] / c[0] for j in range(steps + 1)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_golden_values(schedule):
    process = MeanReverting(schedule=schedule)
    dt, rows = GOLDEN[schedule]
    for t, (speed, *expected) in rows.items():
        alpha, sigma = process.alpha_sigma(f64(t))
        found = [float(c) for c in (alpha, sigma, process.half_log_snr(f64(t)))]
        assert found == pytest.approx(expected, rel=5e-10)
        # On an index the derivative is the increment of the discrete step t -> t - 1: f = -theta dt.
        f, g2 = process.drift_diffusion(f64(t))
        assert float(f) == pytest.approx(-speed * dt, rel=2e-7)
        assert float(g2) == pytest.approx(2 * STATIONARY**2 * speed * dt, rel=2e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [20, 100, 1000])
@pytest.mark.parametrize("subtract", [True, False])
def test_schedule_is_the_cumulative_sum_of_theta(schedule, steps, subtract):
    process = MeanReverting(0.3, schedule, steps, 0.01, subtract)
    speed = theta(schedule, steps)
    total = sum(speed) - speed[0] * subtract
    running = 0.0
    for i, value in enumerate(speed):
        running += value * (i > 0 or not subtract)
        alpha, sigma = (float(c) for c in process.alpha_sigma(f64(i)))
        decay = -math.log(0.01) * running / total
        assert alpha == pytest.approx(math.exp(-decay), rel=1e-12)
        assert sigma == pytest.approx(0.3 * math.sqrt(-math.expm1(-2 * decay)), rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "ratios"),
    [("cosine", {0: 0.01131, 1: 0.02192, 2: 0.03398, 5: 0.07781}), ("linear", {0: 0.0323}), ("constant", {0: 0.3156})],
)
def test_the_official_samplers_variant_keeps_theta0(schedule, ratios):
    process = MeanReverting(schedule=schedule, subtract_theta0=False)
    for t, ratio in ratios.items():
        assert float(process.alpha_sigma(f64(t))[1]) / STATIONARY == pytest.approx(ratio, abs=6e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_is_a_variance_preserving_path_of_scale_lam(schedule):
    t = torch.linspace(0, 100, 777, dtype=torch.float64)
    alpha, sigma = MeanReverting(schedule=schedule).alpha_sigma(t)
    torch.testing.assert_close(alpha**2 + (sigma / STATIONARY) ** 2, torch.ones_like(t), rtol=0, atol=1e-15)


def test_between_indices_log_alpha_is_linear():
    alpha, _ = MeanReverting().alpha_sigma(f64([40.0, 40.25, 41.0]))
    assert float(alpha[1].log()) == pytest.approx(
        0.75 * float(alpha[0].log()) + 0.25 * float(alpha[2].log()), rel=1e-14
    )


def test_posterior_step_golden_coefficients():
    """mr-sampler.md 1.5: from t = 50 to 49 the coefficients of x_t - mu, of x_0 - mu, and the noise."""
    process, one, zero = MeanReverting(), torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    rows = ((one, zero, zero), (zero, one, zero), (zero, zero, one))
    found = [float(process.bridge(z, z0, f64(50), f64(49), 1.0, eps)) for z, z0, eps in rows]
    assert found == pytest.approx([0.9328963609, 0.0437330546, 0.0614917421], abs=6e-11)
