"""Langevin steps against their formula with an autograd score, and what `Corrected` makes of any predictor."""

from itertools import pairwise

import pytest
import torch
from oracles import PROCESSES, Counting, Mixture, f64, inner_times, run, scale_of

from undrift import times as grids
from undrift.denoiser import GaussianMixture
from undrift.noise import Gaussian, PerSample, Replay
from undrift.process import VE, VP, Flow, SubVP
from undrift.solvers import (
    Ancestral,
    AnnealedLangevin,
    Corrected,
    DormandPrince,
    EulerMaruyama,
    Exponential,
    Heun,
    Langevin,
    ReverseDiffusion,
)

PREDICTORS = [
    EulerMaruyama(),
    ReverseDiffusion(),
    Ancestral(),
    Ancestral("forward"),
    Exponential(1),
    Exponential(2, 1.0),
    Exponential(3, extrapolate="noise"),
    Heun(),
    Heun(churn=0.2),
    Corrected(Ancestral(), AnnealedLangevin(0.05)),
    DormandPrince(1e-3, 1e-3),
]
CORRECTORS = [Langevin(0.1, 2), Langevin(0.2, norms="batch"), AnnealedLangevin(0.2)]
each_predictor = pytest.mark.parametrize("predictor", PREDICTORS, ids=repr)
each_corrector = pytest.mark.parametrize("corrector", CORRECTORS, ids=repr)
each_order = pytest.mark.parametrize("first", ["predictor", "corrector"])


def cloud(process, dims=24, components=2):
    """A mixture in `dims` dimensions, at the scale of the path's data."""
    scale, generator = scale_of(process), torch.Generator().manual_seed(3)
    means = scale * torch.randn(components, dims, generator=generator, dtype=torch.float64)
    return GaussianMixture(f64([1.0, 2.0]), means, torch.full((components,), (0.3 * scale) ** 2), process)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
@each_corrector
def test_the_update_of_the_paper(process, corrector):
    """Algorithms 4 and 5: z + e score + sqrt(2 e) eps, one time for all or one each."""
    mix = cloud(process)
    for t in (inner_times(process, 3)[1], inner_times(process, 5)):
        alpha, sigma = process.alpha_sigma(t)
        wide = sigma.reshape(-1, 1)
        z = alpha.reshape(-1, 1) * mix.draw(5, torch.Generator().manual_seed(1)) + 1.3 * wide * torch.randn(5, 24)
        draws = torch.randn(corrector.steps, 5, 24, dtype=torch.float64)
        factor = f64(0.9)
        out = corrector.correct(mix, process, z, t, factor, Replay(draws))
        for eps in draws:
            x = z.clone().requires_grad_()
            (score,) = torch.autograd.grad(mix.log_prob(x, t).sum(), x)
            kick, pull = eps.norm(dim=1, keepdim=True), score.norm(dim=1, keepdim=True)
            if isinstance(corrector, AnnealedLangevin):
                length = corrector.snr * wide
            elif corrector.norms == "batch":
                length = corrector.snr * kick.mean() / pull.mean()
            else:
                length = corrector.snr * kick / pull
            e = 2 * factor * length**2
            z = z + e * score + torch.sqrt(2 * e) * eps
        torch.testing.assert_close(out, z, rtol=1e-9, atol=1e-9 * float(z.abs().max()))


@each_predictor
@each_order
def test_corrected_is_predictor_and_corrector_in_turn(predictor, first):
    """With multistep states and planned tables too; the factor is (alpha_t / alpha_s)^2 of the step."""
    process, corrector = VP(), Langevin(0.2, 2)
    mix, times = cloud(process), f64([0.9, 0.7, 0.4, 0.2, 0.05, 0.0])
    z = torch.randn(6, 24, dtype=torch.float64)
    out = run(mix, process, z, times, Corrected(predictor, corrector, first), PerSample(range(6)))
    noise, planned = PerSample(range(6)), predictor.plan(process, times)
    state = planned.init()
    for t, s in pairwise(times):
        factor = (process.alpha_sigma(t)[0] / process.alpha_sigma(s)[0]) ** 2
        if first == "corrector":
            z = corrector.correct(mix, process, z, t, factor, noise)
        z, state = planned.step(mix, process, z, t, s, state, noise)
        if first == "predictor" and s > 0:
            z = corrector.correct(mix, process, z, s, factor, noise)
    assert torch.equal(out, z)


@pytest.mark.parametrize(("predictor", "calls"), [(None, 0), (Ancestral(), 1), (Exponential(2), 1), (Heun(), 2)])
@pytest.mark.parametrize("steps", [1, 3])
def test_network_calls(predictor, calls, steps):
    """N steps to the data: N of the predictor (Heun's last is single), and no correction of a clean state."""
    process, corrector = VP(), AnnealedLangevin(0.1, steps)
    times = grids.uniform(process, 5)
    for first, corrections in (("predictor", 4), ("corrector", 5)):
        denoise = Counting(cloud(process))
        run(denoise, process, torch.randn(2, 24), times, Corrected(predictor, corrector, first), Gaussian())
        predictions = 1 if predictor is None else 5 * calls - (calls == 2)
        assert len(denoise.times) == predictions + corrections * steps


@each_corrector
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_from_pure_noise_to_clean_data(process, corrector):
    """Finite on every path, also from alpha = 0 to sigma = 0, with a predictor or alone."""
    mix, times = cloud(process), grids.uniform_lambda(process, 5)
    z = process.alpha_sigma(f64(process.t_max))[1] * torch.randn(4, 24)
    for predictor, first in ((None, "corrector"), (ReverseDiffusion(), "predictor"), (Exponential(2), "corrector")):
        out = run(mix, process, z, times, Corrected(predictor, corrector, first), PerSample(range(4)))
        assert out.isfinite().all()
        assert out.dtype == torch.float32


@pytest.mark.parametrize("corrector", [Langevin(0.1, 2), AnnealedLangevin(0.2)], ids=repr)
def test_times_per_sample_equal_steps_one_by_one(corrector):
    """Also where one sample starts from pure noise and another arrives at the data."""
    process = Flow()
    mix, solver = cloud(process), Corrected(Ancestral(), corrector)
    t, s = f64([0.9, 0.5, 1.0, 0.3]), f64([0.8, 0.1, 0.7, 0.0])
    z, draws = torch.randn(4, 24, dtype=torch.float64), torch.randn(1 + corrector.steps, 4, 24, dtype=torch.float64)
    batch, _ = solver.step(mix, process, z, t, s, (), Replay(draws))
    alone = [solver.step(mix, process, z[i : i + 1], t[i], s[i], (), Replay(draws[:, i : i + 1]))[0] for i in range(4)]
    torch.testing.assert_close(batch, torch.cat(alone), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(5,), (3, 7), (3, 8, 8), (2, 3, 4, 5), (3, 32, 32)])
@pytest.mark.parametrize("process", [VE(), SubVP()], ids=repr)
def test_a_sample_is_bit_for_bit_its_own(process, shape):
    """Alone, in any company, in any place: the same numbers, unless the norms are those of the batch."""
    mix = GaussianMixture(f64([1.0]), torch.full((1, *shape), 0.3), torch.full((1, *shape), 0.04), process)
    times = torch.linspace(1.0, 0.01, 5, dtype=torch.float64)

    def drawn(seeds, corrector):
        z = PerSample(seeds)(torch.zeros(len(seeds), *shape), times[0], times[0])
        return run(mix, process, z, times, Corrected(Ancestral(), corrector), PerSample(seeds))

    for corrector in (Langevin(), AnnealedLangevin()):
        together = drawn([7, 3, 12, 5], corrector)
        for i, seed in enumerate((7, 3, 12, 5)):
            assert torch.equal(drawn([seed], corrector)[0], together[i])
        assert torch.equal(drawn([5, 7], corrector), together[[3, 0]])
    coupled = Langevin(norms="batch")
    assert not torch.equal(drawn([7], coupled)[0], drawn([7, 3], coupled)[0])


def test_the_corrector_alone_ends_in_the_estimate():
    process, estimates = VP(), []
    mix = cloud(process)

    def denoise(z, t):
        estimates.append(mix(z, t))
        return estimates[-1]

    out = run(denoise, process, torch.randn(3, 24), grids.uniform(process, 4), Corrected(None, Langevin()), Gaussian())
    assert torch.equal(out, estimates[-1])


def test_a_vanishing_score_asks_for_no_step():
    process, t = VE(), f64(0.5)
    z = torch.tensor([[0.0, 0.0], [0.3, -0.2]], dtype=torch.float64)
    mix = GaussianMixture(f64([1.0]), f64([[0.0, 0.0]]), f64([1.0]), process)
    out = Langevin().correct(mix, process, z, t, f64(1.0), Gaussian())
    assert torch.equal(out[0], z[0])
    assert not torch.equal(out[1], z[1])


def test_one_dimension_takes_norms_of_the_batch():
    """In one dimension a sample's own norm is its value; the mean over many is a step for all."""
    process, t = VP(), f64(0.3)
    mix = Mixture(process)
    z = mix.quantile(torch.linspace(1e-3, 1 - 1e-3, 4000, dtype=torch.float64), t)[:, None]
    out = Langevin(0.16, 20, norms="batch").correct(mix.denoise, process, z, t, f64(1.0), Gaussian())
    assert float((out.sort(0).values - z).abs().mean()) < 0.05 * mix.std(t)
