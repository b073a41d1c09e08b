"""log p against exact mixtures, for every process; the divergence estimators against their theory; bits/dim."""

import math
from functools import partial

import pytest
import torch
from oracles import PROCESSES, Mixture, f64, scale_of

from undrift import VP, Gaussian, GaussianMixture, MeanReverting, PerSample, Pixels, Residual
from undrift.likelihood import Grey, _probes, _traces, image_likelihood, log_likelihood
from undrift.solvers.adaptive import DormandPrince
from undrift.tensor import expand

SOME = ["VE", "VP", "SubVP", "EDM", "Flow", "MR-cosine", "MR-linear-theta0", "Table-log_alpha", "Table-lambda", "Ramp"]


def mixture(process, dims=8):
    generator = torch.Generator().manual_seed(1)
    means = torch.randn(3, dims, generator=generator, dtype=torch.float64)
    variances = 0.05 + 0.3 * torch.rand(3, dims, generator=generator, dtype=torch.float64)
    scale = scale_of(process)
    return GaussianMixture(f64([0.3, 0.4, 0.3]), scale * means, scale**2 * variances, process)


def exact_prior(model):
    return partial(model.log_prob, t=f64(model.process.t_max))


@pytest.mark.parametrize("name", SOME)
def test_exact_on_mixtures(name):
    """The solver's error alone: from the exact p at t_max to the exact p at t_min (score-sde.md 7.6)."""
    process = PROCESSES[name]
    model = mixture(process)
    z0 = model.draw(8, torch.Generator().manual_seed(3))
    truth = model.log_prob(z0, f64(process.t_min))
    errors = []
    for tol, evaluations in ((1e-5, 130), (1e-7, 280)):
        found = log_likelihood(model, process, z0, solver=DormandPrince(tol, tol), prior=exact_prior(model))
        errors.append(float((found.nats - truth).abs().max()))
        assert found.evaluations.max() <= evaluations
    assert errors[0] < 2e-4
    assert errors[1] < 4e-6
    assert found.bits_per_dim is None
    assert not found.standard_error.any()
    torch.testing.assert_close(log_likelihood(model, process, z0[3:4], solver=DormandPrince(1e-7, 1e-7),
                               prior=exact_prior(model)).nats, found.nats[3:4], rtol=0, atol=1e-9)  # fmt: skip


@pytest.mark.parametrize("name", ["VE", "VP", "MR-cosine"])
def test_the_prior_leaves_a_small_known_error(name):
    """With N(0, sigma_T^2) for p_T the error is log p_T - log N at the code, and nothing else."""
    process = PROCESSES[name]
    model = mixture(process)
    z0 = model.draw(8, torch.Generator().manual_seed(3))
    found = log_likelihood(model, process, z0)
    sigma = process.alpha_sigma(f64(process.t_max))[1]
    normal = torch.distributions.Normal(f64(0.0), sigma).log_prob(found.latent).sum(1)
    bias = normal - model.log_prob(found.latent, f64(process.t_max))
    truth = model.log_prob(z0, f64(process.t_min))
    torch.testing.assert_close(found.nats - truth, bias, rtol=0, atol=2e-4)
    assert float(bias.abs().mean()) < 0.05


def test_density_integrates_to_one():
    process = VP(t_min=1e-3)
    line = torch.linspace(-2.5, 2.5, 401, dtype=torch.float64)
    found = log_likelihood(Mixture(process).denoise, process, line[:, None], solver=DormandPrince(1e-4, 1e-4))
    assert float(torch.trapezoid(found.nats.exp(), line)) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_variance_of_the_probes(kind):
    """One step in time, of a fixed Jacobian J: var(e^T J e) is 2(|S|^2 - sum S_ii^2), or 2 |S|^2."""
    count, dims = 60000, 6
    jacobian = torch.randn(dims, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    z = torch.zeros(count, dims, dtype=torch.float64)
    probes = _probes(z, 1, kind, Gaussian(torch.Generator().manual_seed(3)), f64(0.5))
    _, traces = _traces(lambda z: z @ jacobian.T, z, probes)
    symmetric = (jacobian + jacobian.T) / 2
    theory = 2 * symmetric.square().sum() - (2 * symmetric.diagonal().square().sum() if kind == "rademacher" else 0)
    assert float(traces.var()) == pytest.approx(float(theory), rel=0.05)
    assert float(traces.mean()) == pytest.approx(float(jacobian.trace()), abs=4 * math.sqrt(theory / count))


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_probes_are_unbiased_and_their_error_is_known(kind):
    process = VP()
    model = mixture(process)
    z0 = model.draw(1, torch.Generator().manual_seed(3)).expand(150, 8)
    solver = DormandPrince(1e-3, 1e-3)
    exact = float(log_likelihood(model, process, z0[:1], solver=DormandPrince(1e-6, 1e-6)).nats[0])
    errors = []
    for probes in (4, 16):
        noise = Gaussian(torch.Generator().manual_seed(5))
        found = log_likelihood(model, process, z0, probes=probes, kind=kind, noise=noise, solver=solver)
        spread = float(found.nats.std())
        claimed = float(found.standard_error.square().mean().sqrt())
        assert claimed == pytest.approx(spread, rel=0.3)
        assert float(found.nats.mean()) == pytest.approx(exact, abs=4 * spread / 150**0.5 + 0.02)
        errors.append(claimed)
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.3)  # 1 / sqrt(K)
    single = log_likelihood(model, process, z0[:2], probes=1, noise=noise, solver=solver)
    assert single.standard_error.isnan().all()


def test_bits_per_dim_knows_levels_and_range():
    process = PROCESSES["VP"]
    model = mixture(process)
    z0 = model.draw(3, torch.Generator().manual_seed(3))
    for grey, offset in ((Grey.of(Pixels()), 7), (Grey.of(Residual()), 8), (Grey(span=2.0, levels=4), 1)):
        found = log_likelihood(model, process, z0, grey=grey)
        torch.testing.assert_close(found.bits_per_dim, -found.nats / (8 * math.log(2)) + offset)
        assert found.grey == grey


def line_model(levels, process):
    """Images of one pixel, and the exact probability of its grey levels."""
    means = f64([[[[-0.4]]], [[[0.5]]]])
    model = GaussianMixture(f64([0.6, 0.4]), means, f64([0.04, 0.02]), process)
    edges = torch.linspace(-1, 1, levels + 1, dtype=torch.float64)
    std = (f64([0.04, 0.02]) + process.alpha_sigma(f64(process.t_min))[1] ** 2).sqrt()
    cdf = (f64([0.6, 0.4]) * torch.special.ndtr((edges[:, None] - means.flatten()) / std)).sum(1)
    return model, cdf.diff()


def test_dequantisation_bounds_the_probability_of_a_grey_level():
    process, levels = VP(t_min=1e-3), 6
    model, mass = line_model(levels, process)
    x = (torch.arange(levels) / (levels - 1)).repeat(40).reshape(-1, 1, 1, 1).double()
    exact = mass.log().repeat(40)
    bounds = []
    for draws in (1, 8):
        noise = Gaussian(torch.Generator().manual_seed(6))
        found = image_likelihood(model, process, Pixels(), x, levels=levels, draws=draws, noise=noise,
                                 solver=DormandPrince(1e-3, 1e-3))  # fmt: skip
        bounds.append(found.nats - exact)
        assert found.grey.draws == draws
        torch.testing.assert_close(found.bits_per_dim, -found.nats / math.log(2))
    gaps = torch.stack(bounds).reshape(2, 40, levels).mean(1)
    assert (gaps < 0.05).all()  # a lower bound, up to the prior's error and Monte Carlo
    assert float(gaps[1].mean()) > 0.5 * float(gaps[0].mean())  # tighter
    assert float(gaps[1].mean()) > -0.1


def test_probability_of_the_clean_given_the_degraded():
    """Restoration, z_0 = x - y: clean ~ N(0, 1), each degraded by a noise of its own, and the exact estimate."""
    process = MeanReverting()
    std = f64([0.02, 0.1, 0.3, 1.0, 3.0]).reshape(5, 1, 1, 1)
    gain = 1 / (1 + std**2)
    y, eps = torch.randn(2, 5, 1, 2, 2, dtype=torch.float64)
    x = gain * y + (1 - gain).sqrt() * eps

    class Conditional(torch.nn.Module):
        def forward(self, z, t, image, gain):
            alpha, sigma = (expand(c, z) for c in process.alpha_sigma(t))
            mean, variance = (gain - 1) * image, 1 - gain
            return mean + alpha * variance / (alpha**2 * variance + sigma**2) * (z - alpha * mean)

    def law(z, t):
        alpha, sigma = process.alpha_sigma(f64(t))
        spread = torch.sqrt(alpha**2 * (1 - gain) + sigma**2)
        return torch.distributions.Normal(alpha * (gain - 1) * y, spread).log_prob(z).flatten(1).sum(1)

    z = process.alpha_sigma(f64(process.t_min))[0] * Residual().encode(x, y)
    prior = partial(law, t=process.t_max)
    found = log_likelihood(Conditional(), process, z, prior=prior, image=y, gain=gain)
    torch.testing.assert_close(found.nats, law(z, process.t_min), rtol=0, atol=2e-4)
    assert len(found.evaluations.unique()) > 1  # so that conditions were cut


def test_samples_are_independent_and_float32_is_close():
    process = PROCESSES["VE"]
    model = mixture(process)
    z0 = model.draw(4, torch.Generator().manual_seed(3))
    together = log_likelihood(model, process, z0, probes=2, noise=PerSample(range(4)))
    alone = log_likelihood(model, process, z0[2:3], probes=2, noise=PerSample([2]))
    torch.testing.assert_close(alone.nats, together.nats[2:3], rtol=0, atol=1e-9)
    torch.testing.assert_close(alone.standard_error, together.standard_error[2:3], rtol=0, atol=1e-9)
    with torch.inference_mode():
        single = log_likelihood(model, process, z0.float(), probes=2, noise=PerSample(range(4)))
    assert single.latent.dtype == torch.float32
    torch.testing.assert_close(single.nats, together.nats, rtol=0, atol=1e-3)


ERRORS = {
    "probes": lambda z: log_likelihood(mixture(VP()), VP(), z, probes=0),
    "kind": lambda z: log_likelihood(mixture(VP()), VP(), z, probes=1, kind="normal"),
    "(8,)": lambda z: log_likelihood(mixture(VP()), VP(), z[0]),
    "levels=1": lambda z: Grey(levels=1),
    "draws": lambda z: image_likelihood(mixture(VP()), VP(), Pixels(), z, draws=0),
    "256 grey": lambda z: image_likelihood(mixture(VP()), VP(), Pixels(), z + 0.001),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_value(name):
    with pytest.raises(ValueError, match=name.replace("(", r"\(").replace(")", r"\)")) as info:
        ERRORS[name](torch.zeros(2, 8))
    assert "\n" not in str(info.value)
