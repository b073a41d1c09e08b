"""Linear inverse problems against Gaussian and mixture posteriors in closed form."""

from itertools import pairwise

import pytest
import torch
from oracles import PROCESSES, f64, inner_times, scale_of
from torch import Tensor, nn

from undrift.guidance import Channels, Downsample, Isotropic, Mask, Operator, Point, Posterior, Replacement, Tweedie
from undrift.noise import Gaussian
from undrift.process import VE, VP, Flow
from undrift.sample import trajectory
from undrift.solvers import Ancestral, Exponential
from undrift.solvers.twisted import Twisted
from undrift.times import uniform_lambda


class Matrix(Operator):
    """y = A z for z (B, D)."""

    def __init__(self, matrix: Tensor):
        self.matrix = matrix

    def forward(self, z):
        return z @ self.matrix.T

    def adjoint(self, v):
        return v @ self.matrix

    def solve(self, r, c, s):
        gram = self.matrix @ self.matrix.T
        eye = torch.eye(len(gram), dtype=torch.float64)
        return torch.linalg.solve(c.reshape(-1, 1, 1) * gram + s.reshape(-1, 1, 1) * eye, r[..., None])[..., 0]


class Mixture(nn.Module):
    """E[z_0 | z_t] for z_0 ~ sum_k w_k N(m_k, C_k) with full covariances; states of any shape, flattened."""

    def __init__(self, w: Tensor, m: Tensor, c: Tensor, process):
        super().__init__()
        self.w, self.m, self.c, self.process = w, m, c, process
        self.values, self.axes = torch.linalg.eigh(c)

    def forward(self, z, t):
        alpha, sigma = (x.reshape(-1, 1, 1) for x in self.process.alpha_sigma(t))
        spread = alpha**2 * self.values + sigma**2
        off = torch.einsum("bkj,kji->bki", z.flatten(1)[:, None] - alpha * self.m, self.axes)
        share = (self.w.log() - 0.5 * (off**2 / spread + spread.log()).sum(-1)).softmax(1)
        means = self.m + torch.einsum("bki,kji->bkj", alpha * self.values / spread * off, self.axes)
        return (share[..., None] * means).sum(1).reshape(z.shape)

    def given(self, a: Tensor, y: Tensor, noise: float) -> "Mixture":
        """The mixture given y = A z_0 + noise eps."""
        w, m, c = [], [], []
        for k in range(len(self.w)):
            s = a @ self.c[k] @ a.T + noise**2 * torch.eye(len(a))
            gain = torch.linalg.solve(s, a @ self.c[k]).T
            r = y - a @ self.m[k]
            w.append(self.w[k].log() - 0.5 * (r @ torch.linalg.solve(s, r) + torch.linalg.slogdet(s)[1]))
            m.append(self.m[k] + gain @ r)
            c.append(self.c[k] - gain @ a @ self.c[k])
        return Mixture(torch.stack(w).softmax(0), torch.stack(m), torch.stack(c), self.process)

    def moments(self) -> tuple[Tensor, Tensor]:
        mean = self.w @ self.m
        off = self.m - mean
        return mean, torch.einsum("k,kij->ij", self.w, self.c + off[:, :, None] * off[:, None])


def gaussian(dims: int, process, generator, scale: float = 1.0) -> Mixture:
    """A Gaussian of random mean and covariance."""
    a = torch.randn(dims, dims, generator=generator, dtype=torch.float64) / dims**0.5
    mean = torch.randn(1, dims, generator=generator, dtype=torch.float64)
    return Mixture(f64([1.0]), scale * mean, scale**2 * (a @ a.T + 0.05 * torch.eye(dims))[None], process)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("name", PROCESSES)
def test_tweedie_is_exact_for_every_gaussian(name, noise, generator):
    process = PROCESSES[name]
    scale = scale_of(process)
    prior, a = gaussian(5, process, generator, scale), torch.randn(2, 5, generator=generator, dtype=torch.float64)
    z0, eps = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    t = inner_times(process, 6)
    z, y = process.marginal(scale * z0, t, eps), scale * f64([0.4, -1.0])
    guided = Posterior(prior, process, Matrix(a), y[None], scale * noise, Tweedie(tolerance=1e-10))
    with torch.no_grad():
        wanted = prior.given(a, y, scale * noise)(z, t)
        assert (guided(z, t) - wanted).abs().max() < 1e-6 * scale


def test_tweedie_at_pure_noise(generator):
    prior, a = gaussian(4, Flow(), generator), f64([[1.0, 0.5, 0.0, -1.0]])
    z = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    found = Posterior(prior, Flow(), Matrix(a), f64([[0.7]]), 0.1)(z, f64(1.0))
    wanted = prior.given(a, f64([0.7]), 0.1).m.expand(3, 4)
    torch.testing.assert_close(found, wanted, rtol=0, atol=5e-3)


IMAGES = {"mask": Mask(f64([[1.0, 0.0], [0.0, 1.0]])), "grey": Channels.mean(), "down": Downsample(2)}


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("name", IMAGES)
def test_isotropic_is_exact_for_an_isotropic_gaussian_and_so_is_tweedie(name, noise, generator):
    operator, shape = IMAGES[name], (3, 2, 2)
    probes = torch.eye(12, dtype=torch.float64).reshape(12, *shape)
    a = operator.forward(probes).flatten(1).T
    a = a[a.abs().sum(1) > 0]  # what is masked is not observed
    mean = torch.randn(1, 12, generator=generator, dtype=torch.float64)
    prior = Mixture(f64([1.0]), mean, 0.6 * torch.eye(12, dtype=torch.float64)[None], VP())
    z, image = torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64)
    y, t = operator.forward(image[:1]), f64([0.05, 0.4, 0.9])
    kept = y.flatten()[operator.forward(torch.ones(1, *shape)).flatten() > 0]
    wanted = prior.given(a, kept, noise)(z, t)
    for spread in (Isotropic(0.6), Isotropic(lambda al, s: 0.6 * s**2 / (0.6 * al**2 + s**2)), Tweedie(30, 1e-9)):
        found = Posterior(prior, VP(), operator, y, noise, spread)(z, t)
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


# Laws of whole runs, exactly: on Gaussians every step is affine, and a batch of unit vectors shows its map ------------


class Unit:
    """Draw number i is the unit vector of coordinate j in sample 1 + D + D i + j, and 0 elsewhere."""

    def __init__(self):
        self.calls = 0

    def __call__(self, like, t, s):
        draw, dims = torch.zeros_like(like), like[0].numel()
        rows = 1 + dims + dims * self.calls
        draw.flatten(1)[rows : rows + dims] = torch.eye(dims, dtype=like.dtype)
        self.calls += 1
        return draw


def law(denoise, posterior: Mixture, times, solver, shape, draws: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the last state of a run of `draws` stochastic steps, started from the law of z_t given y.

    (The prior instead, N(0, sigma^2), would add what is left of the mean at t_max: 0.02 on VE with sigma_max = 50.)
    """
    alpha, sigma = posterior.process.alpha_sigma(times[0])
    dims = posterior.m.shape[1]
    z = torch.zeros(1 + dims + dims * draws, dims, dtype=torch.float64)
    z[1 : 1 + dims] = torch.linalg.cholesky(alpha**2 * posterior.c[0] + sigma**2 * torch.eye(dims)).T
    z = z + alpha * posterior.m
    with torch.no_grad():
        *_, z = trajectory(denoise, posterior.process, z.reshape(-1, *shape), times, solver, Unit())
    z = z.flatten(1)
    gains = z[1:] - z[0]
    return z[0], gains.T @ gains


PLANE = f64([[1.0, 0.9], [0.9, 1.0]])
SEEN, ROW = Mask(f64([1.0, 0.0])), f64([[1.0, 0.0]])


@pytest.mark.parametrize(("solver", "draws"), [(Exponential(3), 0), (Exponential(2, 1.0), 80)], ids=["ODE", "SDE"])
@pytest.mark.parametrize("process", [VE(0.01, 50.0), VP()], ids=["VE", "VP"])
def test_inpainting_hits_the_posterior(process, solver, draws):
    """The 2-D Gaussian of score-sde.md 2.9 (rho = 0.9, y = 1): mean 0.9, variance 0.19; 80 steps."""
    prior = Mixture(f64([1.0]), f64([[0.0, 0.0]]), PLANE[None], process)
    posterior = prior.given(ROW, f64([1.0]), 0.0)
    guided, times = Posterior(prior, process, SEEN, f64([[1.0, 0.0]])), uniform_lambda(process, 80, 4.0)
    mean, cov = law(guided, posterior, times, solver, (2,), draws)
    torch.testing.assert_close(mean, f64([1.0, 0.9]), rtol=0, atol=2e-3)
    torch.testing.assert_close(cov, f64([[0.0, 0.0], [0.0, 0.19]]), rtol=0, atol=4e-3)


@pytest.mark.parametrize("process", [VE(0.01, 50.0), VP()], ids=["VE", "VP"])
def test_replacement_is_as_biased_as_its_name_says(process):
    """The same Gaussian: far from mean 0.9 and variance 0.19 however many steps, as in the table of 2.9."""
    prior = Mixture(f64([1.0]), f64([[0.0, 0.0]]), PLANE[None], process)
    posterior = prior.given(ROW, f64([1.0]), 0.0)
    replaced = Replacement(prior, SEEN, f64([[1.0, 0.0]]))
    found = [law(replaced, posterior, uniform_lambda(process, n, 4.0), Ancestral(), (2,), n) for n in (50, 200)]
    for mean, cov in found:
        assert float(mean[0]) == pytest.approx(1.0)
        assert 0.55 < float(mean[1]) < 0.75
        assert float(cov[1, 1]) > 0.24
    assert abs(float(found[1][0][1] - found[0][0][1])) < 0.03


def test_colourisation_hits_the_posterior(generator):
    """Three correlated channels of two pixels, the grey of each known."""
    process, shape = VP(), (3, 1, 2)
    prior = gaussian(6, process, generator)
    grey = f64([[[[0.4, -0.2]]]])
    a = Channels.mean().forward(torch.eye(6, dtype=torch.float64).reshape(6, *shape)).flatten(1).T
    wanted = prior.given(a, grey.flatten(), 0.0)
    guided = Posterior(prior, process, Channels.mean(), grey)
    mean, cov = law(guided, wanted, uniform_lambda(process, 80, 4.0), Exponential(3), shape)
    torch.testing.assert_close(mean, wanted.m[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(cov, wanted.c[0], rtol=0, atol=1e-3)


# Mixtures ------------------------------------------------------------------------------------------------------------

THREE = (
    f64([0.3, 0.45, 0.25]),
    f64([[-1.0, -0.5], [0.2, 0.8], [1.1, -0.6]]),
    f64([[[0.05, 0.03], [0.03, 0.05]], [[0.1, -0.05], [-0.05, 0.1]], [[0.05, 0.0], [0.0, 0.02]]]),
)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_particles_hit_the_posterior_of_a_mixture(noise):
    """Observed 0.5 + noise: guidance alone misses the mean by 0.16 to 0.24, its particles do not (four errors)."""
    process, y, count = VP(), f64([0.5]), 400
    prior = Mixture(*THREE, process)
    mean, cov = prior.given(ROW, y, noise).moments()
    times = uniform_lambda(process, 60, 4.0)
    guided = Posterior(prior, process, Matrix(ROW), y[None], noise, Isotropic(0.8))
    z = process.alpha_sigma(times[0])[1] * torch.randn(count, 2, dtype=torch.float64)
    noises = Gaussian(torch.Generator().manual_seed(1))
    with torch.no_grad():
        *_, z = trajectory(prior, process, z, times, Twisted(guided, 8), noises)
    found = torch.cov(z.T)
    assert ((z.mean(0) - mean).abs() < 4 * (cov.diag() / count).sqrt() + 0.01).all()
    assert abs(float(found[1, 1] - cov[1, 1])) < 4 * float(cov[1, 1]) * (2 / count) ** 0.5


def test_the_bias_of_guidance_alone_on_that_mixture():
    """What the documentation says of it, kept true."""
    process, y = VP(), f64([0.5])
    prior = Mixture(*THREE, process)
    exact = prior.given(ROW, y, 0.0).moments()[0]
    guided, times = Posterior(prior, process, Matrix(ROW), y[None]), uniform_lambda(process, 60, 4.0)
    z = process.alpha_sigma(times[0])[1] * torch.randn(600, 2, dtype=torch.float64)
    noises = Gaussian(torch.Generator().manual_seed(1))
    *_, z = trajectory(guided, process, z, times, Exponential(2, 1.0), noises)
    assert 0.1 < float(exact[1] - z.mean(0)[1]) < 0.35
    assert (z[:, 0] - 0.5).abs().max() < 1e-4  # what was observed is met


def test_all_become_exact_as_the_noise_vanishes(generator):
    """The error of the estimate on a mixture, noisy observation, from lambda = 2 to 5."""
    process, y, noise = VP(1e-3, 20.0), f64([0.5]), 0.3
    prior = Mixture(*THREE, process)
    posterior = prior.given(ROW, y, noise)
    z0, eps = THREE[1].repeat(20, 1), torch.randn(60, 2, generator=generator, dtype=torch.float64)
    for spread in (Tweedie(), Isotropic(0.8), Point()):
        guided, errors = Posterior(prior, process, Matrix(ROW), y[None], noise, spread), []
        for lam in (2.0, 3.5, 5.0):
            t = process.time(f64(lam))
            z = process.marginal(z0, t, eps)
            errors.append(float((guided(z, t) - posterior(z, t)).abs().max()))
        assert errors[2] < 2e-3
        assert all(b < a / 4 for a, b in pairwise(errors)), spread


def test_point_is_the_gradient_of_the_likelihood_of_the_estimate(generator):
    process, t = VP(), f64([0.3, 0.8])
    prior = Mixture(*THREE, process)
    z = torch.randn(2, 2, generator=generator, dtype=torch.float64).requires_grad_()
    alpha, sigma = process.alpha_sigma(t)
    log_p = -((0.5 - prior(z, t)[:, 0]) ** 2).sum() / (2 * 3.0**2)
    shift = (sigma**2 / alpha)[:, None] * torch.autograd.grad(log_p, z)[0]
    found = Posterior(prior, process, Matrix(ROW), f64([[0.5]]), 3.0, Point(0.5))(z, t)
    torch.testing.assert_close(found, prior(z, t) + 0.5 * shift)


def test_no_guidance_lands_beyond_what_was_observed(generator):
    """Data as smooth as photographs: two thousand times the variance along one direction that their pixels have."""
    process, t, size = VP(), f64([0.2, 0.5, 0.9]), 64
    ones = torch.ones(size, dtype=torch.float64) / size**0.5
    cov = 0.01 * torch.eye(size, dtype=torch.float64) + 20 * torch.outer(ones, ones)
    values, vectors = torch.linalg.eigh(cov)

    def prior(z, t):
        alpha, sigma = (c[:, None] for c in process.alpha_sigma(t))
        return (z @ vectors * (alpha * values / (alpha**2 * values + sigma**2))) @ vectors.T

    z0 = torch.randn(3, size, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(cov).T
    z = process.marginal(z0, t, torch.randn(3, size, generator=generator, dtype=torch.float64))
    keep = Mask((torch.arange(size) < size // 2).double())
    before = (keep.forward(z0) - keep.forward(prior(z, t))).norm(dim=1)
    for spread in (Isotropic(0.1), Point(), Tweedie(50, 1e-12)):
        found = Posterior(prior, process, keep, keep.forward(z0), 0.01, spread)(z, t)
        assert ((keep.forward(z0) - keep.forward(found)).norm(dim=1) < before).all(), spread


def test_neither_batch_mates_nor_dtype_matter(generator):
    process, t = VP(), f64([0.2, 0.5, 0.9])
    prior, z = gaussian(6, process, generator), torch.randn(3, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    mask = Mask(f64([1.0, 1, 1, 0, 1, 0]))
    whole = Posterior(prior, process, mask, mask.forward(y), 0.1, Tweedie(2))(z, t)
    alone = [
        Posterior(prior, process, mask, mask.forward(y[i : i + 1]), 0.1, Tweedie(2))(z[i : i + 1], t[i])
        for i in range(3)
    ]
    torch.testing.assert_close(whole, torch.cat(alone), rtol=1e-12, atol=1e-12)
    single = Posterior(lambda z, t: prior(z.double(), t).float(), process, mask, y, 0.1, Tweedie(2))(z.float(), t)
    assert single.dtype == torch.float32
    double = Posterior(prior, process, mask, y, 0.1, Tweedie(2))(z, t)
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_conditions_reach_the_denoiser():
    def denoise(z, t, label):
        return z * label[:, None]

    guided = Posterior(denoise, VP(), SEEN, f64([[0.5, 0.0]]))
    z, label = f64([[0.3, 0.2]]), f64([0.5])
    torch.testing.assert_close(guided(z, f64(0.5), label=label), f64([[0.5, 0.1]]))
    replaced = Replacement(denoise, SEEN, f64([[0.5, 0.0]]))
    torch.testing.assert_close(replaced(z, f64(0.5), label=label), f64([[0.5, 0.1]]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Posterior(lambda z, t: z, VP(), SEEN, PLANE, -0.1), r"noise = -0\.1"),
        (lambda: Posterior(lambda z, t: z, VP(), SEEN, PLANE, 0.0, Point())(PLANE, f64(0.5)), "noise = 0"),
        (lambda: Posterior(lambda z, t: z.detach(), VP(), SEEN, PLANE)(PLANE, f64(0.5)), "gives no gradient"),
        (lambda: Isotropic(0.0), r"variance = 0\.0"),
        (lambda: Tweedie(0), "iterations=0"),
        (lambda: Twisted(None, 0), "particles = 0"),
        (lambda: Twisted(None, tau=0.0), r"tau = 0\.0"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call()
