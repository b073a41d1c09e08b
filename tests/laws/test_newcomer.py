"""A process written outside the package, in ten lines, works with everything, without registration."""

from dataclasses import dataclass

import pytest
import torch
from oracles import f64, gaussian, marginal_law, std_error

from undrift import Process
from undrift import times as grids
from undrift.noise import Brownian, PerSample
from undrift.sample import sample
from undrift.solvers import Ancestral, EulerMaruyama, Exponential, Heun, ReverseDiffusion
from undrift.space import Pixels, Residual


@dataclass(frozen=True)
class Cosine(Process):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): Nichol & Dhariwal 2021, arXiv 2102.09672, without the offset."""

    t_min: float = 1e-3
    t_max: float = 0.995

    def alpha_sigma(self, t):
        angle = torch.pi / 2 * t
        return angle.cos(), angle.sin()


PROCESS, MEAN, STD = Cosine(), -0.3, 0.4
SOURCES = {
    "per-sample": lambda n: PerSample(range(n)),
    "brownian": lambda n: Brownian(range(n), 1e-3, 0.995, depth=8),
}
SOLVERS = [
    Exponential(1), Exponential(2, 1.0), Exponential(3, corrector=True), Exponential(2, extrapolate="noise"),
    EulerMaruyama(), EulerMaruyama(0.0), ReverseDiffusion(), Ancestral(), Ancestral("forward"), Heun(),
]  # fmt: skip


def test_drift_and_diffusion_follow():
    """d log cos / dt and -2 sigma^2 dlambda / dt, with tangents."""
    t = torch.linspace(0.01, 0.98, 9, dtype=torch.float64)
    f, g2 = PROCESS.drift_diffusion(t)
    tangent = torch.tan(torch.pi / 2 * t)
    torch.testing.assert_close(f, -torch.pi / 2 * tangent)
    torch.testing.assert_close(g2, torch.pi * tangent)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_every_solver_draws_its_law(solver):
    """The exact law at 100 steps is near the marginal at t_min, and nearer than at 50."""
    coarse, fine = (abs(std_error(PROCESS, grids.uniform_lambda(PROCESS, n), solver, MEAN, STD)) for n in (50, 100))
    assert fine < 0.12
    assert fine < 0.6 * coarse + 1e-7


@pytest.mark.parametrize("solver", [*SOLVERS, Heun(0.1)], ids=repr)
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_sample_runs_it(solver, source):
    """2 000 pixels of N(-0.3, 0.4^2) in [-1, 1], that is N(0.35, 0.2^2) in [0, 1] with little clipped."""
    images = sample(
        gaussian(MEAN, STD, PROCESS), PROCESS, Pixels(), shape=(2, 1000), times=grids.uniform_lambda(PROCESS, 30),
        solver=solver, noise=source(2),
    )  # fmt: skip
    assert float(images.mean()) == pytest.approx(0.35, abs=0.04)
    assert float(images.std()) == pytest.approx(0.2, rel=0.25)


def test_training_on_it_reaches_the_known_floor():
    """Score matching with the exact denoiser costs E_t[s^2 sigma^2 / (alpha^2 s^2 + sigma^2)], and any other more."""
    from undrift.data import Batch
    from undrift.methods import Plain, ScoreMatching, UniformTime

    t = torch.linspace(PROCESS.t_min, PROCESS.t_max, 4001, dtype=torch.float64)
    alpha, sigma = PROCESS.alpha_sigma(t)
    floor = float((STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2)).mean())
    y = torch.zeros(40_000, 1, dtype=torch.float64)
    x = MEAN + STD * torch.randn(40_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(denoiser):
        method = ScoreMatching(denoiser, PROCESS, Residual(), UniformTime(), Plain())
        return float(method.loss("denoiser", Batch(x, y), torch.Generator().manual_seed(0))[0])

    assert loss(gaussian(MEAN, STD, PROCESS)) == pytest.approx(floor, rel=0.015)
    assert loss(gaussian(MEAN + 0.1, STD, PROCESS)) > 1.02 * floor
    assert loss(gaussian(MEAN, 0.7 * STD, PROCESS)) > 1.02 * floor


def test_without_a_clean_time_the_grid_ends_at_t_min():
    assert PROCESS.t_clean == PROCESS.t_min
    assert marginal_law(PROCESS, f64(PROCESS.t_clean), MEAN, STD)[1] == pytest.approx(STD, rel=1e-4)
