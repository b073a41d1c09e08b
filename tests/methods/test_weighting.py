import pytest
import torch

from undrift.methods import Balanced, Likelihood, Plain, Raw, Sigma2
from undrift.prediction import FlowVelocity, Noise, Velocity
from undrift.process import VE, VP, SubVP


def test_balanced_gradient_is_the_relative_one():
    """d/dF mean_i log(e_i + floor) = sum_i grad e_i / (e_i + floor) / B, whatever the scales."""
    generator = torch.Generator().manual_seed(0)
    guess = torch.randn(4, 5, generator=generator, dtype=torch.float64) * torch.tensor([[1e-2], [0.1], [1], [10]])
    guess.requires_grad_()
    error = guess.square().mean(1)
    none = torch.zeros(4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(Balanced(1e-3)(error, none, none, none).mean(), guess)
    expected = (2 * guess / 5) / (error[:, None] + 1e-3) / 4
    assert torch.allclose(gradient, expected.detach(), rtol=1e-12)


def test_balanced_is_edm2s_uncertainty_loss_at_its_optimum():
    """min over u of E / e^u + u is log E + 1."""
    error = torch.tensor([0.3, 2.0], dtype=torch.float64)
    u = torch.linspace(-5, 5, 100001, dtype=torch.float64)
    best = (error[:, None] / u.exp() + u).min(1).values
    assert torch.allclose(Balanced(1e-12)(error, error, error, error) + 1, best, atol=1e-8)


@pytest.mark.parametrize("prediction", [Noise(), Velocity(0.5), FlowVelocity()], ids=lambda p: type(p).__name__)
def test_raw_is_the_squared_error_of_the_output(prediction):
    process, generator = VP(), torch.Generator().manual_seed(1)
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    alpha, sigma = process.alpha_sigma(t)
    skip, out = (c[:, None] for c in prediction.affine(t, alpha, sigma))
    z, f, g = torch.randn(3, 2, 6, generator=generator, dtype=torch.float64)
    error = ((skip * z + out * f) - (skip * z + out * g)).square().mean(1)
    assert torch.allclose(Raw(prediction)(error, t, alpha, sigma), (f - g).square().mean(1))
    assert torch.equal(Plain()(error, t, alpha, sigma), error)


@pytest.mark.parametrize("process", [VE(), VP(), SubVP()], ids=lambda p: type(p).__name__)
def test_score_weightings_are_what_the_paper_writes(process):
    """sigma^2 |s - target|^2 and g^2 |s - target|^2, s = (alpha z0_hat - z) / sigma^2."""
    generator = torch.Generator().manual_seed(2)
    t = torch.tensor([0.01, 0.4, 0.9], dtype=torch.float64)
    z0, guess, eps = torch.randn(3, 3, 6, generator=generator, dtype=torch.float64)
    alpha, sigma = process.alpha_sigma(t)
    z, column = process.marginal(z0, t, eps), (slice(None), None)
    score = (alpha[column] * guess - z) / sigma[column] ** 2
    miss = (score + eps / sigma[column]).square().mean(1)
    error = (guess - z0).square().mean(1)
    g2 = process.drift_diffusion(t)[1]
    assert torch.allclose(Sigma2()(error, t, alpha, sigma), sigma**2 * miss, rtol=1e-8)
    assert torch.allclose(Likelihood(process)(error, t, alpha, sigma), g2 * miss, rtol=1e-8)
    assert torch.allclose(Sigma2()(error, t, alpha, sigma), Raw(Noise())(error, t, alpha, sigma))
