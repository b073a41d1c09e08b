"""Latent codes against exact scores: round trips, moments, the sphere."""

import pytest
import torch
from oracles import PROCESSES, Mixture, f64, gaussian, marginal_law, scale_of

from undrift import GaussianMixture
from undrift.latent import decode, encode, interpolate
from undrift.solvers.adaptive import DormandPrince


@pytest.mark.parametrize("name", ["VE", "VP", "SubVP", "EDM", "Flow", "MR-cosine", "Table-log_alpha"])
def test_round_trip(name):
    process = PROCESSES[name]
    scale = scale_of(process)
    means = torch.randn(3, 2, 2, dtype=torch.float64)
    mixture = GaussianMixture(f64([0.3, 0.4, 0.3]), scale * means, scale**2 * (0.1 + means**2 / 5), process)
    z0 = mixture.draw(6, torch.Generator().manual_seed(1))
    errors = []
    for tol in (1e-4, 1e-5, 1e-6, 1e-7):
        solver = DormandPrince(tol, tol)
        back = decode(mixture, process, encode(mixture, process, z0, solver=solver), solver=solver)
        errors.append(float((back - z0).square().mean().sqrt()) / scale)
    assert errors[1] < 3e-4
    assert errors[3] < errors[0] / 300  # ten times a decade, on average


def test_code_of_a_line_is_its_quantile():
    """In one dimension the flow keeps the order: the code of a quantile is that quantile of z_T."""
    process = PROCESSES["VP"]
    mixture = Mixture(process)
    p = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    z0 = mixture.quantile(p, f64(process.t_min))[:, None]
    code = encode(mixture.denoise, process, z0)[:, 0]
    torch.testing.assert_close(code, mixture.quantile(p, f64(1.0)), rtol=0, atol=2e-4)


def test_codes_of_data_are_the_prior():
    process = PROCESSES["VE"]
    means = torch.randn(3, 4, dtype=torch.float64)
    mixture = GaussianMixture(f64([0.3, 0.4, 0.3]), means, f64([0.2, 0.1, 0.3]), process)
    code = encode(mixture, process, mixture.draw(1500, torch.Generator().manual_seed(2)), solver=DormandPrince(1e-4))
    unit = code / process.sigma_max
    assert float(unit.mean()) == pytest.approx(0, abs=4 / 6000**0.5)
    assert float(unit.std()) == pytest.approx(1, rel=4 / 12000**0.5)
    assert float((unit**4).mean()) == pytest.approx(3, abs=0.5)
    off = torch.cov(unit.T) - torch.eye(4, dtype=torch.float64)
    assert float(off.abs().max()) < 0.15


def test_temperature_scales_the_code():
    process = PROCESSES["VP"]
    exact = gaussian(0.0, 0.5, process)
    code = f64([[1.0], [-0.4]])
    ratio = marginal_law(process, f64(process.t_min), 0.0, 0.5)[1] / marginal_law(process, f64(1.0), 0.0, 0.5)[1]
    torch.testing.assert_close(decode(exact, process, code, temperature=0.7), 0.7 * ratio * code, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="temperature = 0"):
        decode(exact, process, code, temperature=0.0)


def test_interpolation_runs_on_the_sphere():
    a, b = torch.randn(2, 5, 3, 4, 4, dtype=torch.float64)
    b = b * (a.flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).reshape(5, 1, 1, 1)
    path = interpolate(a, b, torch.linspace(0, 1, 5, dtype=torch.float64))
    assert path.shape == (5, 5, 3, 4, 4)
    torch.testing.assert_close(path[0], a)
    torch.testing.assert_close(path[-1], b)
    radius = a.flatten(1).norm(dim=1)
    cosine = []
    for point in path:
        torch.testing.assert_close(point.flatten(1).norm(dim=1), radius)
        cosine.append((point * a).flatten(1).sum(1) / radius**2)
    angles = torch.stack(cosine).clamp(-1, 1).arccos()
    torch.testing.assert_close(angles.diff(dim=0), (angles[-1] / 4).expand(4, 5), rtol=1e-6, atol=1e-6)
    # Each sample by itself, and a point between draws of the prior is a draw of the prior.
    torch.testing.assert_close(interpolate(a[2:3], b[2:3], f64(0.3)), interpolate(a, b, f64(0.3))[2:3])
    one, two = torch.randn(2, 4000, 8)
    assert float(interpolate(one, two, f64(0.37)).std()) == pytest.approx(1, abs=0.02)


def test_interpolation_in_line():
    a = f64([[1.0, 2.0], [0.0, 1.0]])
    torch.testing.assert_close(interpolate(a, a, f64(0.4)), a)
    torch.testing.assert_close(interpolate(a, 3 * a, f64(0.5)), 2 * a)
    torch.testing.assert_close(interpolate(a, -a, f64(0.25)), a / 2)
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(1, 2\)"):
        interpolate(a, a[:1], f64(0.5))
