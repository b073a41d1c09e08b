"""What the loss of the exact denoiser of N(0, s2) comes to, per element: E_t[alpha^2 s2 / (alpha^2 s2 + sigma^2)].

The numbers are those of research/score-sde.md 7.7: uniform times on [1e-5, 1].
"""

import pytest
import torch

from undrift import GaussianMixture
from undrift.data import Batch
from undrift.methods import Likelihood, ScoreMatching, Sigma2, UniformLambda, UniformTime
from undrift.process import VE, VP, SubVP
from undrift.space import Pixels

FLOORS = {  # (process, variance): (sigma^2 weighting, g^2 weighting)
    (VE, 1.0): (0.54066, 9.210),
    (VE, 0.25): (0.45932, 7.824),
    (VE, 0.01): (0.27092, 4.615),
    (VP, 1.0): (0.27599, 13.814),
    (VP, 0.25): (0.17331, 12.428),
    (VP, 0.01): (0.04155, 9.209),
    (SubVP, 1.0): (0.32117, 27.629),
    (SubVP, 0.25): (0.23554, 26.243),
    (SubVP, 0.01): (0.10599, 23.024),
}


def loss(process, variance, density, weighting, count=40000, width=16):
    oracle = GaussianMixture(torch.ones(1), torch.zeros(1, width), torch.full((1,), variance), process)
    generator = torch.Generator().manual_seed(0)
    z0 = oracle.draw(count, generator)
    batch = Batch((z0 + 1) / 2)  # as an image, whose state is z0
    return ScoreMatching(oracle, process, Pixels(), density, weighting).loss("denoiser", batch, generator)[0].item()


@pytest.mark.parametrize("case", FLOORS, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def test_the_exact_denoiser_reaches_the_floor(case):
    process = case[0]()
    plain, likelihood = FLOORS[case]
    assert loss(process, case[1], UniformTime(), Sigma2()) == pytest.approx(plain, rel=0.01)
    # The importance-sampled form of the likelihood weighting: 2 (lambda_1 - lambda_0) E[sigma^2 |score error|^2].
    ends = process.half_log_snr(torch.tensor([process.t_max, process.t_min], dtype=torch.float64))
    wide = UniformLambda(-20.0, 20.0)
    scaled = 2 * float(ends[1] - ends[0]) / (process.t_max - process.t_min)
    assert scaled * loss(process, case[1], wide, Sigma2()) == pytest.approx(likelihood, rel=0.01)


def test_uniform_times_give_the_same_likelihood_loss_with_more_spread():
    process = VP()
    assert loss(process, 1.0, UniformTime(), Likelihood(process), 60000, 4) == pytest.approx(13.814, rel=0.15)
