"""What every process obeys. A new one joins `oracles.PROCESSES` and must pass this file."""

import math
from itertools import pairwise

import pytest
import torch
from oracles import MEANS, PROCESSES, STDS, WEIGHTS, Mixture, discrete, f64, inner_times, scale_of

each = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
NODES, GAUSS = f64((0.033765242898424, 0.169395306766868, 0.380690406958402, 0.619309593041598, 0.830604693233132,
                    0.966234757101576)), f64((0.085662246189585, 0.180380786524069, 0.233956967286346,
                                              0.233956967286346, 0.180380786524069, 0.085662246189585))  # fmt: skip


@each
def test_the_path_goes_from_data_to_noise(process):
    t = torch.linspace(process.t_min, process.t_max, 997, dtype=torch.float64)
    alpha, sigma = process.alpha_sigma(t)
    assert alpha.dtype == sigma.dtype == torch.float64
    assert (process.half_log_snr(t).diff() < 0).all()
    assert (alpha.diff() <= 0).all()
    assert (sigma.diff() > 0).all() or (alpha.diff() < 0).all()


@each
def test_the_data_lie_at_t_clean(process):
    alpha, sigma = process.alpha_sigma(f64(process.t_clean))
    assert (float(alpha), float(sigma)) == (1.0, 0.0)
    assert process.t_clean <= process.t_min < process.t_max


@each
def test_time_inverts_half_log_snr(process):
    t = torch.cat([f64([process.t_max]), inner_times(process, 200), f64([process.t_min])])
    lam = process.half_log_snr(t)
    torch.testing.assert_close(process.time(lam), t, rtol=1e-12, atol=1e-12 * process.t_max)
    torch.testing.assert_close(process.half_log_snr(process.time(lam)), lam, rtol=1e-11, atol=1e-11)


@each
def test_time_outside_the_range_is_the_nearer_end(process):
    low, high = process.half_log_snr(f64([process.t_max, process.t_min])).tolist()
    ends = process.time(f64([max(low, -1e300) - 1, -math.inf, high + 1, math.inf]))
    assert ends.tolist() == [process.t_max, process.t_max, process.t_min, process.t_min]


@each
def test_drift_and_diffusion_are_derivatives(process):
    """Central differences, inside a piece of the table where there is one."""
    t = inner_times(process, 50)
    if discrete(process):  # stay clear of the corners
        t = t.floor() + 0.37
    h = 1e-5 * torch.minimum(t - process.t_min, process.t_max - t).clamp(max=1.0)
    (a0, s0), (a1, s1), (_, sigma) = (process.alpha_sigma(t + k * h) for k in (-1, 1, 0))
    f, g2 = process.drift_diffusion(t)
    torch.testing.assert_close(f, (a1.log() - a0.log()) / (2 * h), rtol=1e-6, atol=1e-8 / process.t_max)
    d_lambda = ((a1 / s1).log() - (a0 / s0).log()) / (2 * h)
    torch.testing.assert_close(g2, -2 * sigma**2 * d_lambda, rtol=1e-6, atol=1e-12)
    assert (g2 >= 0).all()


@each
def test_the_forward_sde_has_the_marginals_of_the_path(process):
    """alpha_t = exp(int f), sigma_t^2 = alpha_t^2 (sigma_0^2 / alpha_0^2 + int g^2 / alpha^2), by Gauss quadrature."""
    corners = torch.arange(process.t_min, process.t_max + 0.5, dtype=torch.float64)
    nodes = corners if discrete(process) else inner_times(process, 400).flip(0)
    width = nodes.diff()
    t = nodes[:-1, None] + width[:, None] * NODES
    f, g2 = process.drift_diffusion(t)
    alpha, sigma = process.alpha_sigma(nodes)
    log_gain = (f * GAUSS).sum(-1) * width
    torch.testing.assert_close(log_gain.cumsum(0), (alpha[1:] / alpha[0]).log(), rtol=1e-9, atol=1e-12)
    grown = ((g2 / process.alpha_sigma(t)[0] ** 2 * GAUSS).sum(-1) * width).cumsum(0)
    total = (sigma[0] / alpha[0]) ** 2 + grown
    torch.testing.assert_close(alpha[1:] * total.sqrt(), sigma[1:], rtol=1e-8, atol=0)


@each
def test_euler_particles_of_the_forward_sde_reach_the_marginal(process):
    """The exact mean and variance of infinitely many particles: z <- z + f z dt + g sqrt(dt) eps, error O(dt)."""
    start, end = inner_times(process, 60)[[40, 20]].tolist()
    errors = []
    for count in (1000, 2000):
        t = torch.linspace(start, end, count + 1, dtype=torch.float64)
        f, g2 = process.drift_diffusion(t[:-1])
        dt = (end - start) / count
        gains = (1 + f * dt).flip(0).cumprod(0).flip(0)  # from step i to the end
        after = torch.cat([gains[1:], torch.ones(1, dtype=torch.float64)])
        (a0, s0), (a1, s1) = process.alpha_sigma(t[0]), process.alpha_sigma(t[-1])
        variance = (gains[0] * s0) ** 2 + (g2 * dt * after**2).sum()
        errors.append((float(a0 * gains[0] / a1 - 1), float(variance / s1**2 - 1)))
    for coarse, fine in zip(*errors, strict=True):
        assert abs(fine) < 5e-3
        assert abs(fine) <= 0.7 * abs(coarse) + 1e-9


TAUS = [0.0, 0.3, 1.0, 1.4, lambda lam: 1 / (1 + lam**2)]


@each
@pytest.mark.parametrize("tau", TAUS, ids=["0", "0.3", "1", "1.4", "function"])
def test_bridges_compose_to_the_marginal(process, tau):
    """Whatever tau, z_t ~ marginal and a bridge with the true z_0 give z_s ~ marginal: here over ten steps."""
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    times = torch.cat([f64([process.t_max]), inner_times(process, 8), f64([process.t_min, process.t_clean])])
    alpha, sigma = process.alpha_sigma(times)
    mean, variance = alpha[0], sigma[0] ** 2
    for i, (t, s) in enumerate(pairwise(times)):
        carry = process.bridge(one, zero, t, s, tau, zero)
        pull = process.bridge(zero, one, t, s, tau, zero)
        spread = process.bridge(zero, zero, t, s, tau, one)
        mean, variance = carry * mean + pull, carry**2 * variance + spread**2
        torch.testing.assert_close(mean, alpha[i + 1, None], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(variance, sigma[i + 1, None] ** 2, rtol=1e-11, atol=1e-17)


@each
def test_a_bridge_to_where_it_starts_changes_nothing(process):
    z, z0, eps = torch.randn(3, 5, 4, dtype=torch.float64)
    for t in (process.t_max, process.t_min, process.t_clean, float(inner_times(process, 1))):
        for tau in (0.0, 1.0):
            torch.testing.assert_close(process.bridge(z, z0, f64(t), f64(t), tau, eps), z, rtol=0, atol=0)


@each
@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_a_bridge_to_the_data_is_the_data(process, tau):
    z, z0, eps = torch.randn(3, 5, 4, dtype=torch.float64)
    for t in (process.t_max, float(inner_times(process, 1))):
        out = process.bridge(z, z0, f64(t), f64(process.t_clean), tau, eps)
        torch.testing.assert_close(out, z0, rtol=0, atol=0)


@each
def test_the_deterministic_bridge_is_the_marginal_of_the_same_noise(process):
    """DDIM: with z = alpha_t z_0 + sigma_t eps the bridge gives alpha_s z_0 + sigma_s eps; it runs both ways."""
    z0, eps = torch.randn(2, 6, 3, dtype=torch.float64)
    times = inner_times(process, 12)
    for t, s in ((times[:6], times[6:]), (times[6:], times[:6])):
        out = process.bridge(process.marginal(z0, t, eps), z0, t, s)
        torch.testing.assert_close(out, process.marginal(z0, s, eps), rtol=1e-10, atol=1e-10)


@each
def test_times_per_sample_equal_single_times(process):
    z, z0, eps = torch.randn(3, 6, 2, 2, dtype=torch.float64)
    times = inner_times(process, 12)
    t, s = times[:6], times[6:]
    torch.testing.assert_close(
        process.bridge(z, z0, t, s, 0.7, eps),
        torch.stack([process.bridge(z[i], z0[i], t[i], s[i], 0.7, eps[i]) for i in range(6)]),
        rtol=1e-15, atol=1e-15,
    )  # fmt: skip
    torch.testing.assert_close(
        process.marginal(z0, t, eps),
        torch.stack([process.marginal(z0[i], t[i], eps[i]) for i in range(6)]),
        rtol=1e-15, atol=1e-15,
    )  # fmt: skip


@each
def test_the_mixture_keeps_its_moments_along_the_path(process):
    """The marginal of mixture data, drawn exactly: first two moments against `log_prob` integrated on a grid."""
    mixture = Mixture(process, scale_of(process))
    t = inner_times(process, 3)[1]
    mean, std = mixture.components(t)
    z = torch.linspace(float((mean - 9 * std).min()), float((mean + 9 * std).max()), 4001, dtype=torch.float64)
    density = mixture.denoise.log_prob(z[:, None], t).exp()
    alpha, sigma = process.alpha_sigma(t)
    first = (WEIGHTS * MEANS).sum() * mixture.scale
    second = (WEIGHTS * (MEANS**2 + STDS**2)).sum() * mixture.scale**2
    for power, truth in ((0, 1.0), (1, alpha * first), (2, alpha**2 * second + sigma**2)):
        assert float(torch.trapezoid(density * z**power, z)) == pytest.approx(float(truth), rel=1e-9)


@each
def test_derivatives_do_not_depend_on_the_mode_of_the_caller(process):
    t = inner_times(process, 3)
    expected = torch.stack(process.drift_diffusion(t))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(torch.stack(process.drift_diffusion(t + 0)), expected)
