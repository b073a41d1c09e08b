"""The exact denoiser against numerical integration and autograd; the wrapper against its definition."""

import math

import pytest
import torch
from oracles import PROCESSES, Mixture, f64, inner_times, scale_of
from torch import nn

from undrift import prediction
from undrift.denoiser import Denoiser, GaussianMixture, LogNoise, Time
from undrift.process import EDM, VP, Flow, MeanReverting

each = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def mixture(process, generator, shape=(5,), components=4):
    weights = torch.rand(components, generator=generator) + 0.1
    means = torch.randn(components, *shape, generator=generator, dtype=torch.float64)
    variances = torch.rand(components, *shape, generator=generator, dtype=torch.float64)
    return GaussianMixture(weights, means, variances, process)


@each
def test_mixture_is_the_integral_of_the_posterior(process):
    """E[z_0 | z] = int z_0 p(z_0) N(z; alpha z_0, sigma^2) dz_0 / the same without z_0, by the trapezium rule."""
    mix = Mixture(process, scale_of(process))
    z0 = torch.linspace(-2.6, 2.6, 4001, dtype=torch.float64) * mix.scale
    prior = mix.denoise.log_prob(z0[:, None], f64(process.t_clean))
    for t in inner_times(process, 7)[:5]:
        alpha, sigma = process.alpha_sigma(t)
        for z in mix.quantile(f64([0.01, 0.3, 0.55, 0.98]), t):
            density = torch.exp(prior - 0.5 * ((z - alpha * z0) / sigma) ** 2)
            mean = float(torch.trapezoid(density * z0, z0) / torch.trapezoid(density, z0))
            assert float(mix.denoise(z[None, None], t)) == pytest.approx(mean, rel=1e-8, abs=1e-9 * mix.scale)


@each
def test_mixture_obeys_tweedies_formula(process, generator):
    """E[z_0 | z] = (z + sigma^2 grad log p(z)) / alpha, the gradient by autograd, in five dimensions."""
    exact = mixture(process, generator)
    t = inner_times(process, 6)
    alpha, sigma = (c[:, None] for c in process.alpha_sigma(t))
    z = (alpha + sigma) * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    z.requires_grad_()
    (score,) = torch.autograd.grad(exact.log_prob(z, t).sum(), z)
    slack = 1e-14 * float((sigma**2 / alpha).max()) + 1e-12
    torch.testing.assert_close(exact(z, t), (z + sigma**2 * score) / alpha, rtol=1e-10, atol=slack)


@each
def test_mixture_at_the_data_is_the_identity(process, generator):
    z = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(mixture(process, generator)(z, f64(process.t_clean)), z, rtol=1e-12, atol=1e-12)


def test_mixture_from_pure_noise_is_the_mean(generator):
    exact = mixture(Flow(), generator)
    mean = (exact.weights[:, None] * exact.means).sum(0)
    found = exact(torch.randn(3, 5, generator=generator, dtype=torch.float64), f64(1.0))
    torch.testing.assert_close(found, mean.expand(3, 5), rtol=1e-12, atol=1e-12)


def test_variances_per_component_or_per_element(generator):
    weights, means = torch.ones(2), torch.randn(2, 3, 4, generator=generator)
    z, t = torch.randn(5, 3, 4, generator=generator), f64(0.4)
    one = GaussianMixture(weights, means, f64([0.2, 0.5]), VP())
    all_ = GaussianMixture(weights, means, f64([0.2, 0.5])[:, None, None].expand(2, 3, 4), VP())
    assert torch.equal(one(z, t), all_(z, t))


def test_draws_have_the_moments_of_the_mixture(generator):
    mix = Mixture(VP())
    z = mix.denoise.draw(200_000, generator)
    mean, _ = mix.components(f64(0.0))
    first = float((f64([0.3, 0.45, 0.25]) * mean).sum())
    assert float(z.mean()) == pytest.approx(first, abs=4 * mix.std(f64(0.0)) / math.sqrt(2e5))
    assert float(z.std()) == pytest.approx(mix.std(f64(0.0)), rel=0.01)
    # The Kolmogorov distance of 200 000 draws: below 1.95 / sqrt(n) in 999 of 1000 cases.
    z = z[:, 0].sort().values
    gap = (mix.cdf(z, f64(0.0)) - torch.arange(len(z)) / len(z)).abs().max()
    assert float(gap) < 1.95 / math.sqrt(len(z))


def test_mixture_keeps_the_dtype_of_the_state(generator):
    exact = mixture(VP(), generator)
    z = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    single = exact(z.float(), f64(0.3))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact(z, f64(0.3)), rtol=1e-5, atol=1e-6)


# The wrapper ----------------------------------------------------------------------------------------------------------


class Recorder(nn.Module):
    """A linear network that keeps what it was given."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.7, dtype=dtype))

    def forward(self, z, c, **cond):
        self.z, self.c, self.cond = z, c, cond
        return self.gain * z


PAIRS = {
    "data": prediction.data,
    "noise": prediction.noise,
    "score": prediction.score,
    "flow": prediction.flow,
    "velocity": prediction.velocity(0.4),
}


@each
@pytest.mark.parametrize("name", PAIRS)
def test_denoiser_is_its_equation(process, name):
    network, t = Recorder(torch.float64), inner_times(process, 4)
    z = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    denoiser = Denoiser(network, process, PAIRS[name], scale=0.4)
    alpha, sigma = (c.reshape(4, 1, 1, 1) for c in process.alpha_sigma(t))
    skip, out = PAIRS[name].affine(t.reshape(4, 1, 1, 1), alpha, sigma)
    expected = skip * z + out * 0.7 * z / (0.16 * alpha**2 + sigma**2).sqrt()
    torch.testing.assert_close(denoiser(z, t), expected, rtol=1e-12, atol=1e-12)


@each
def test_the_network_sees_unit_variance(process):
    """c_in: whatever t, an input of data with standard deviation `scale` has variance 1."""
    t, scale = inner_times(process, 5), 0.25
    alpha, sigma = process.alpha_sigma(t)
    network = Recorder(torch.float64)
    Denoiser(network, process, prediction.data, scale=scale)(((alpha * scale) ** 2 + sigma**2).sqrt()[:, None], t)
    torch.testing.assert_close(network.z, torch.ones(5, 1, dtype=torch.float64), rtol=1e-12, atol=0)


def test_no_scale_feeds_raw_states():
    network, z = Recorder(), torch.randn(2, 3)
    Denoiser(network, MeanReverting(), prediction.noise, scale=None)(z, f64(50.0))
    assert torch.equal(network.z, z)


def test_labels():
    t, z = f64([1.0, 0.02]), torch.zeros(2, 3)
    network = Recorder(torch.float64)
    Denoiser(network, EDM(), prediction.data, label=Time(999.0))(z, t)
    torch.testing.assert_close(network.c, 999 * t)
    Denoiser(network, EDM(), prediction.data)(z, t)
    torch.testing.assert_close(network.c, t.log())
    assert LogNoise()(VP(), f64([0.0, 1.0])).tolist() == pytest.approx([-10.0, -math.log(0.00657158649493)], abs=1e-4)
    assert LogNoise(3.0)(Flow(), f64(1.0)) == 3.0


@pytest.mark.parametrize("shape", [(), (1,), (4,)])
def test_one_time_or_one_per_sample(shape):
    network, z = Recorder(torch.float64), torch.randn(4, 3, 2, 2, dtype=torch.float64)
    denoiser = Denoiser(network, VP(), prediction.velocity())
    out = denoiser(z, torch.full(shape, 0.3, dtype=torch.float64))
    assert network.c.shape == (4,)
    torch.testing.assert_close(out, denoiser(z, f64(0.3)), rtol=1e-15, atol=1e-15)


def test_a_batch_equals_its_samples(generator):
    denoiser = Denoiser(Recorder(torch.float64), VP(), prediction.noise)
    z, t = torch.randn(4, 3, generator=generator, dtype=torch.float64), f64([0.9, 0.1, 0.5, 1.0])
    alone = torch.cat([denoiser(z[i : i + 1], t[i]) for i in range(4)])
    torch.testing.assert_close(denoiser(z, t), alone, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("network_dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("state_dtype", [torch.float32, torch.float64])
def test_the_network_runs_in_its_precision_and_the_state_in_its_own(network_dtype, state_dtype):
    network, z = Recorder(network_dtype), torch.randn(2, 3, dtype=state_dtype)
    out = Denoiser(network, VP(), prediction.data)(z, f64(0.4), image=z, index=torch.tensor([1, 2]))
    assert (network.z.dtype, network.c.dtype, out.dtype) == (network_dtype, network_dtype, state_dtype)
    assert (network.cond["image"].dtype, network.cond["index"].dtype) == (network_dtype, torch.int64)


def test_gradients_reach_network_and_state():
    network, z = Recorder(torch.float64), torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    Denoiser(network, VP(), prediction.noise)(z, f64(0.5)).square().sum().backward()
    assert float(network.gain.grad) != 0
    assert z.grad.abs().min() > 0
