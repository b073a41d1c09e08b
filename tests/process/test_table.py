"""Discrete schedules: golden DDPM values, diffusers' own arrays, and IR-SDE's schedule written as a table."""

import math

import pytest
import torch
from oracles import STATIONARY, ddpm_table, f64

from undrift.process import MeanReverting, Table


@pytest.mark.parametrize("quantity", ["log_alpha", "lambda"])
def test_ddpm_golden_values(quantity):
    alpha, _ = ddpm_table(quantity).alpha_sigma(f64([0, 1, 499, 999]))
    expected = f64([0.9999, 0.999780092072, 0.0785872428818, 4.03582976538e-5])
    torch.testing.assert_close(alpha**2, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("quantity", ["log_alpha", "lambda"])
def test_variance_is_preserved(quantity):
    alpha, sigma = ddpm_table(quantity).alpha_sigma(torch.linspace(0, 999, 5001, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=0, atol=1e-14)


def test_it_holds_a_diffusers_schedule():
    diffusers = pytest.importorskip("diffusers")
    product = diffusers.DDPMScheduler(beta_schedule="scaled_linear").alphas_cumprod.double()
    alpha, sigma = Table(tuple((product.log() / 2).tolist())).alpha_sigma(torch.arange(1000, dtype=torch.float64))
    torch.testing.assert_close(alpha, product.sqrt(), rtol=1e-14, atol=0)
    torch.testing.assert_close(sigma, (1 - product).sqrt(), rtol=1e-9, atol=0)


def test_it_holds_the_schedule_of_ir_sde():
    process = MeanReverting()
    values = process.alpha_sigma(torch.arange(101, dtype=torch.float64))[0].log()
    table = Table(tuple(values.tolist()), scale=STATIONARY)
    assert (table.t_clean, table.t_min, table.t_max) == (process.t_clean, process.t_min, process.t_max)
    t = torch.linspace(1, 100, 371, dtype=torch.float64)
    for found, expected in zip(table.alpha_sigma(t), process.alpha_sigma(t), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)
    for found, expected in zip(table.drift_diffusion(t), process.drift_diffusion(t), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_lambda_with_a_scale():
    alpha, sigma = Table((2.0, 0.0, -2.0), "lambda", 0.3).alpha_sigma(f64([0.0, 0.5, 2.0]))
    torch.testing.assert_close((alpha / sigma).log(), f64([2.0, 1.0, -2.0]), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(alpha**2 + (sigma / 0.3) ** 2, torch.ones(3, dtype=torch.float64))


def test_interpolated_in_the_named_quantity():
    values = (-0.01, -0.3, -1.7)
    assert float(Table(values).alpha_sigma(f64(1.5))[0]) == pytest.approx(math.exp(-1.0), rel=1e-15)
    assert float(Table(values, "lambda").half_log_snr(f64(0.5))) == pytest.approx(-0.155, rel=1e-13)
