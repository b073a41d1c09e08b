"""Special cases of `bridge`, each from its own paper's formula: one identity behind four samplers."""

import pytest
import torch
from oracles import PROCESSES, STATIONARY, ddpm_table, f64, inner_times

from undrift.process import VE, VP, MeanReverting

Z, Z0, EPS = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
close = {"rtol": 1e-13, "atol": 1e-13}


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_renoising_leads_to_the_marginal(process):
    """From s to a noisier t as from the data at once: the same mean and variance; and no step changes nothing."""
    s, t = (times := inner_times(process, 6))[3:], times[:3]
    x, none, one = torch.ones(3, 1, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64), torch.ones(3, 1)
    mean = process.renoise(process.marginal(x, s, none), s, t, none)
    torch.testing.assert_close(mean, process.marginal(x, t, none), rtol=1e-12, atol=0)
    kept, fresh = process.renoise(process.marginal(none, s, one), s, t, none), process.renoise(none, s, t, one)
    torch.testing.assert_close((kept**2 + fresh**2)[:, 0], process.alpha_sigma(t)[1] ** 2, rtol=1e-9, atol=0)
    noisiest = f64(process.t_max)
    for still in (t, noisiest):
        assert torch.equal(process.renoise(x, still, still, one), x)


@pytest.mark.parametrize("i", [1, 2, 500, 999])
def test_ddpm_posterior(i):
    """Ho et al. 2020, eq. 7, from the betas."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    product = (1 - betas).cumprod(0)
    now, before, beta = product[i], product[i - 1], betas[i]
    mean = before.sqrt() * beta / (1 - now) * Z0 + (1 - beta).sqrt() * (1 - before) / (1 - now) * Z
    std = ((1 - before) / (1 - now) * beta).sqrt()
    found = ddpm_table("log_alpha").bridge(Z, Z0, f64(i), f64(i - 1), 1.0, EPS)
    torch.testing.assert_close(found, mean + std * EPS, rtol=1e-11, atol=1e-12)  # 1 - product cancels in the formula


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.9), (0.7, 0.2), (0.3, 0.299)])
def test_songs_ancestral_step_on_ve(t, s):
    """Song et al. 2021, eq. 47, with the score of the true z_0."""
    process = VE()
    high, low = (process.alpha_sigma(f64(u))[1] for u in (t, s))
    score = (Z0 - Z) / high**2
    mean = Z + (high**2 - low**2) * score
    std = (low**2 * (high**2 - low**2) / high**2).sqrt()
    torch.testing.assert_close(process.bridge(Z, Z0, f64(t), f64(s), 1.0, EPS), mean + std * EPS, **close)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("t", "s"), [(100, 99), (100, 80), (50, 49), (63, 20), (2, 1)])
def test_posterior_of_ir_sde_at_any_stride(schedule, t, s):
    """Luo et al. 2024: A = alpha_t / alpha_s, B = alpha_t, C = alpha_s."""
    process = MeanReverting(schedule=schedule)
    B, C = (process.alpha_sigma(f64(u))[0] for u in (t, s))
    A = B / C
    mean = A * (1 - C**2) / (1 - B**2) * Z + C * (1 - A**2) / (1 - B**2) * Z0
    std = STATIONARY * ((1 - A**2) * (1 - C**2) / (1 - B**2)).sqrt()
    found = process.bridge(Z, Z0, f64(t), f64(s), 1.0, EPS)
    torch.testing.assert_close(found, mean + std * EPS, rtol=1e-12, atol=1e-12)  # 1 - C^2 cancels in the formula


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_with_its_eta(eta):
    """Song et al. 2021, arXiv 2010.02502, eqs. 12 and 16; tau chosen to inject the same noise."""
    process, t, s = VP(), f64(0.6), f64(0.35)
    (a, b), (c, d) = process.alpha_sigma(t), process.alpha_sigma(s)
    eps = (Z - a * Z0) / b
    std = eta * torch.sqrt(d**2 / b**2) * torch.sqrt(1 - a**2 / c**2)
    expected = c * Z0 + (d**2 - std**2).sqrt() * eps + std * EPS
    h = (c / d).log() - (a / b).log()
    tau = float((-torch.log1p(-((std / d) ** 2)) / (2 * h)).sqrt())
    assert (tau == pytest.approx(eta)) == (eta in (0.0, 1.0))  # one family, two ways to count along it
    torch.testing.assert_close(process.bridge(Z, Z0, t, s, tau, EPS), expected, **close)


def test_a_function_that_is_constant_is_that_number():
    process, t, s = VP(), f64([0.9, 0.5, 0.2, 0.1]), f64([0.3, 0.45, 0.0, 0.01])
    torch.testing.assert_close(
        process.bridge(Z, Z0, t, s, lambda lam: torch.full_like(lam, 0.8), EPS),
        process.bridge(Z, Z0, t, s, 0.8, EPS),
        **close,
    )


def test_a_function_of_lambda_is_integrated():
    """tau^2 = e^lambda has the integral alpha_s/sigma_s - alpha_t/sigma_t: the noise scale of an ER-SDE."""
    process, t, s = VP(), f64(0.5), f64(0.3)
    (a, b), (c, d) = process.alpha_sigma(t), process.alpha_sigma(s)
    exponent = c / d - a / b
    contraction = torch.exp(-exponent)
    expected = d / b * contraction * Z + (c - a * d / b * contraction) * Z0 + d * (1 - contraction**2).sqrt() * EPS
    torch.testing.assert_close(process.bridge(Z, Z0, t, s, lambda lam: (lam / 2).exp(), EPS), expected, **close)
