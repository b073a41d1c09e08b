"""The particles of a guided run; for their law see tests/guidance/test_linear_posterior.py."""

import torch
from oracles import Mixture, f64, run

from undrift.guidance import Isotropic, Mask, Posterior
from undrift.noise import Gaussian, PerSample, Replay
from undrift.process import VP
from undrift.solvers.twisted import Twisted
from undrift.times import uniform, uniform_lambda

PRIOR = Mixture(VP()).denoise  # on the line
GUIDED = Posterior(PRIOR, VP(), Mask(f64([1.0])), f64([[0.4]]), 0.3, Isotropic(0.7))


def test_one_particle_is_a_chain_of_guided_bridges():
    times = uniform(VP(), 6)
    z, draws = torch.randn(4, 1, dtype=torch.float64), torch.randn(12, 4, 1, dtype=torch.float64)
    found = run(PRIOR, VP(), z, times, Twisted(GUIDED, 1), Replay(draws))
    for t, s, eps in zip(times[:-1], times[1:], draws[::2], strict=True):
        z = VP().bridge(z, GUIDED(z, t), t, s, 1.0, eps)
    torch.testing.assert_close(found, z)


def test_a_sample_depends_on_its_own_particles_only():
    times = uniform_lambda(VP(), 15, 3.0)
    z = torch.randn(5, 1, dtype=torch.float64)
    whole = run(PRIOR, VP(), z, times, Twisted(GUIDED, 6), PerSample(range(5)))
    alone = run(PRIOR, VP(), z[3:4], times, Twisted(GUIDED, 6), PerSample([3]))
    torch.testing.assert_close(whole[3:4], alone)


class Useless:
    """Proposes as if nothing were observed, and judges by the exact likelihood of the estimate."""

    def twist(self, denoise, z, t):
        z0 = denoise(z, t)
        return z0, z0, -((0.4 - z0[:, 0]) ** 2) / (2 * 0.3**2)


def test_weights_alone_find_the_posterior():
    """Without any guidance: 32 particles draw from p(z_0 | y) of the three Gaussians on the line."""
    w, m, v = PRIOR.weights, PRIOR.means[:, 0], PRIOR.variances[:, 0]
    share = (w.log() - (0.4 - m) ** 2 / (2 * (v + 0.09)) - (v + 0.09).log() / 2).softmax(0)
    means, variances = m + v / (v + 0.09) * (0.4 - m), v * 0.09 / (v + 0.09)
    mean = (share * means).sum()
    std = ((share * (variances + means**2)).sum() - mean**2).sqrt()
    start, noise = torch.randn(300, 1, dtype=torch.float64), Gaussian(torch.Generator().manual_seed(2))
    z = run(PRIOR, VP(), start, uniform(VP(), 60), Twisted(Useless(), 32), noise)
    assert abs(float(z.mean() - mean)) < 4 * float(std) / 300**0.5
    assert abs(float(z.std() / std) - 1) < 0.2
