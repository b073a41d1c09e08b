"""score-sde.md 7.3, 7.4: laws of predictors and correctors on a mixture, by pushing its density; 2.2: stationarity."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from oracles import MEANS, STDS, WEIGHTS, Mixture, Ramp, f64, gaussian, marginal_law, run, std_error
from torch import Tensor

from undrift.denoiser import GaussianMixture
from undrift.noise import Gaussian
from undrift.process import VE, VP, SubVP
from undrift.solvers import (
    Ancestral,
    AnnealedLangevin,
    Corrected,
    Corrector,
    EulerMaruyama,
    Exponential,
    Langevin,
    ReverseDiffusion,
    Solver,
)


class Shifted(Mixture):
    """The mixture as the residuals of a path that reverts to mu = 0.7."""

    @property
    def denoise(self):
        return GaussianMixture(WEIGHTS, MEANS[:, None] - 0.7, STDS[:, None] ** 2, self.process)

    def components(self, t):
        alpha, sigma = self.process.alpha_sigma(t)
        return alpha * (MEANS - 0.7), torch.sqrt((alpha * STDS) ** 2 + sigma**2)


class FlowDiffusion(Solver):
    """Song's probability-flow predictor: reverse diffusion with half the score and no noise."""

    def step(self, denoise, process, z, t, s, state, noise):
        (alpha, sigma), (alpha_s, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
        a = alpha / alpha_s
        score = (alpha * denoise(z, t) - z) / sigma**2
        return (2 - a) * z + (sigma**2 - (a * sigma_s) ** 2) / 2 * score, state


PATHS = {
    "VE": (Mixture(VE()), 0.2104),
    "VP": (Mixture(VP()), 0.01),
    "SubVP": (Mixture(SubVP()), 0.06),
    "MR": (Shifted(Ramp()), 0.01),
}
SOLVERS = {
    "EM": EulerMaruyama(),
    "RevDiff": ReverseDiffusion(),
    "Ancestral": Ancestral(),
    "AncBig": Ancestral("forward"),
    "DDIM": Exponential(1),
    "PF": FlowDiffusion(),
}


@dataclass(frozen=True)
class Population(Corrector):
    """`Langevin` with norms averaged over a law, given as the masses of the points that come first in the batch."""

    snr: float
    masses: Tensor
    steps: int = 1

    def length(self, score, eps, sigma):
        return self.snr * math.sqrt(2 / math.pi) / (self.masses * score[: len(self.masses), 0].abs()).sum()


def push(mix, points, masses, move, t, cells):
    """The law at t after `move(z, noise)`, which sends each point to a Gaussian of the same width, or to a point."""
    eps = torch.zeros(len(points) + 1, 1, dtype=torch.float64)
    eps[-1] = 1
    out = move(torch.cat([points, points[:1]])[:, None], lambda *_: eps)[:, 0]
    means, std = out[:-1], float(out[-1] - out[0])
    if std == 0:
        return means, masses
    x, width = mix._cells(t, cells)
    kernel = torch.exp(-0.5 * ((x[:, None] - means) / std) ** 2) * (width / std / math.sqrt(2 * math.pi))
    return x, kernel @ masses


def law_error(path, steps, predictor, snr=0.0, first="predictor", corrections=1, cells=320):
    """Wasserstein-1 distance from the true law after `steps` steps, each with corrections of that snr."""
    mix, end = PATHS[path]
    process, denoise = mix.process, mix.denoise
    times = torch.linspace(1.0, end, steps + 1, dtype=torch.float64)
    x, width = mix._cells(times[0], cells)
    masses = mix.cdf(torch.cat([x - width / 2, x[-1:] + width / 2]), times[0]).diff()
    quiet = predictor in ("PF", "DDIM") and not snr
    if quiet:  # a monotone map of the line keeps the order of the points
        x, masses = mix.quantile((torch.arange(cells) + 0.5).double() / cells, times[0]), torch.tensor(1 / cells)
    for t, s in pairwise(times):
        factor = (process.alpha_sigma(t)[0] / process.alpha_sigma(s)[0]) ** 2

        def correct(x, masses, u, factor=factor):
            for _ in range(corrections if snr else 0):
                by = Population(snr, masses)
                x, masses = push(mix, x, masses, lambda z, n: by.correct(denoise, process, z, u, factor, n), u, cells)  # noqa: B023
            return x, masses

        if first == "corrector":
            x, masses = correct(x, masses, t)
        if predictor:
            step = SOLVERS[predictor].step
            x, masses = push(mix, x, masses, lambda z, n: step(denoise, process, z, t, s, (), n)[0], s, cells)  # noqa: B023
        if first == "predictor":
            x, masses = correct(x, masses, s)
    if quiet:
        return float((x - mix.quantile((torch.arange(cells) + 0.5).double() / cells, times[-1])).abs().mean())
    return float((masses.cumsum(0) - mix.cdf(x + (x[1] - x[0]) / 2, times[-1])).abs().sum() * (x[1] - x[0]))


@pytest.mark.parametrize(
    ("path", "predictor", "printed"),
    [
        ("VE", "PF", 5.20e-2),
        ("VE", "DDIM", 9.05e-3),
        ("VP", "PF", 7.15e-2),
        ("VP", "DDIM", 9.82e-3),
        ("SubVP", "DDIM", 1.00e-2),
        ("SubVP", "Ancestral", 1.93e-2),
        ("MR", "EM", 5.25e-3),
        ("MR", "RevDiff", 1.53e-2),
        ("MR", "Ancestral", 1.40e-2),
        ("MR", "DDIM", 7.80e-3),
    ],
)
def test_predictors(path, predictor, printed):
    """7.3 at N = 100, what tests/laws/test_orders.py does not have."""
    assert law_error(path, 100, predictor, cells=400) == pytest.approx(printed, rel=0.03)


@pytest.mark.parametrize(
    ("path", "steps", "predictor", "snr", "first", "printed"),
    [
        ("VE", 20, "RevDiff", 0.16, "predictor", 3.06e-2),
        ("VE", 50, "RevDiff", 0.1, "predictor", 1.07e-2),
        ("VE", 50, "RevDiff", 0.16, "predictor", 6.19e-3),
        ("VE", 50, "RevDiff", 0.16, "corrector", 6.44e-3),
        ("VE", 50, "RevDiff", 0.22, "predictor", 6.73e-3),
        ("VE", 50, "RevDiff", 0.3, "predictor", 1.22e-2),
        ("VE", 100, "EM", 0.22, "predictor", 6.82e-3),
        ("VE", 100, "PF", 0.16, "predictor", 3.57e-3),
        ("VP", 100, "EM", 0.16, "predictor", 6.24e-3),
        ("VP", 100, "EM", 0.16, "corrector", 6.59e-3),
        ("VP", 100, "RevDiff", 0.16, "predictor", 9.76e-3),
        ("VP", 100, "PF", 0.16, "predictor", 7.98e-3),
        ("SubVP", 100, "RevDiff", 0.16, "predictor", 6.31e-3),
        ("SubVP", 100, "PF", 0.3, "predictor", 1.36e-2),
        ("MR", 100, "RevDiff", 0.16, "predictor", 7.54e-3),
        ("MR", 100, "PF", 0.16, "predictor", 8.30e-3),
    ],
)
def test_predictor_corrector_cells(path, steps, predictor, snr, first, printed):
    """7.4."""
    assert law_error(path, steps, predictor, snr, first) == pytest.approx(printed, rel=0.05)


@pytest.mark.parametrize(("snr", "printed"), [(0.16, 5.0e-2), (0.22, 3.2e-2), (0.3, 2.5e-2)])
def test_the_corrector_alone(snr, printed):
    """7.4, VP at N = 100, two steps per level: far worse than the predictors at equal cost."""
    found = law_error("VP", 100, None, snr, corrections=2)
    assert found == pytest.approx(printed, rel=0.03)
    assert found > 3.4 * 7.11e-3  # reverse diffusion with 200 steps


def test_where_a_correction_pays_at_equal_cost():
    """PC of 50 against P of 100: for reverse diffusion on VE and for the probability flow, not for Euler-Maruyama."""
    assert law_error("VE", 50, "RevDiff", 0.16) < 0.75 * law_error("VE", 100, "RevDiff")
    assert law_error("VE", 50, "PF", 0.2) < 0.2 * law_error("VE", 100, "PF")
    assert law_error("VP", 50, "EM", 0.16) > law_error("VP", 100, "EM")


# Stationarity and contraction on N(0, S) ------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [0.16, 0.22, 0.27])
@pytest.mark.parametrize(("process", "factor"), [(VE(), 1.0), (VP(), 0.7)], ids=["VE", "VP"])
@pytest.mark.parametrize("norms", ["sample", "batch"])
def test_stationary_variance(process, factor, snr, norms):
    """Var / S = 1 + a snr^2 (2.2), here of 6e4 values averaged over 60 steps."""
    t = f64(0.5)
    mix = GaussianMixture(f64([1.0]), torch.zeros(1, 4000), f64([0.5]), process)
    alpha, sigma = process.alpha_sigma(t)
    stationary = float(alpha**2 * 0.5 + sigma**2)
    z = math.sqrt(stationary * (1 + factor * snr**2)) * torch.randn(16, 4000)
    noise, variances = Gaussian(torch.Generator().manual_seed(1)), []
    for _ in range(60):
        z = Langevin(snr, norms=norms).correct(mix, process, z, t, f64(factor), noise)
        variances.append(float(z.var()) / stationary)
    assert sum(variances) / 60 == pytest.approx(1 + factor * snr**2, rel=0.005)


def test_contraction():
    """An offset of the mean shrinks by 1 - 2 a r^2 / (1 + a r^2) a step, where the variance is stationary."""
    process, t, r, a = VP(), f64(0.5), 0.2, 0.8
    mix = GaussianMixture(f64([1.0]), torch.zeros(1, 20000), f64([1.0]), process)  # S = 1
    z = math.sqrt(1 + a * r**2) * torch.randn(4, 20000) + 0.2
    z = Langevin(r, 10).correct(mix, process, z, t, f64(a), Gaussian(torch.Generator().manual_seed(1)))
    assert float(z.mean()) / 0.2 == pytest.approx((1 - 2 * a * r**2 / (1 + a * r**2)) ** 10, abs=0.06)


@pytest.mark.parametrize("snr", [0.1, 0.3])
def test_annealed_stationary_variance(snr):
    """z <- (1 - e/S) z + sqrt(2e) eps ends at S / (1 - e / 2S), e = 2 snr^2 sigma^2: to 12 digits."""
    process, t = VP(), f64(0.2)
    mix, (alpha, sigma) = gaussian(0.0, 0.5, process), process.alpha_sigma(t)
    stationary = float(alpha**2 * 0.25 + sigma**2)
    probe = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
    eps = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
    out = AnnealedLangevin(snr).correct(mix, process, probe, t, f64(1.0), lambda *_: eps)[:, 0]
    e = 2 * snr**2 * float(sigma) ** 2
    assert float(out[2] ** 2 / (1 - out[1] ** 2)) == pytest.approx(stationary / (1 - e / (2 * stationary)), rel=1e-12)


@pytest.mark.parametrize("predictor", [Exponential(1), Exponential(2), EulerMaruyama(0.0)], ids=repr)
def test_corrections_repair_a_wrong_start(predictor):
    """The ODE carries a start of 1.4 times the right spread to the end; corrections on the way forget most of it."""
    process, times = VP(), torch.linspace(0.5, 0.05, 31, dtype=torch.float64)
    mix = GaussianMixture(f64([1.0]), torch.zeros(1, 8), f64([0.25]), process)
    right = std_error(process, times, predictor, 0.0, 0.5)
    z = 1.4 * marginal_law(process, times[0], 0.0, 0.5)[1] * torch.randn(10000, 8, dtype=torch.float64)
    wanted = marginal_law(process, times[-1], 0.0, 0.5)[1]
    plain, corrected = (
        float(run(mix, process, z, times, solver, Gaussian(torch.Generator().manual_seed(1))).std()) / wanted
        - 1
        - right
        for solver in (predictor, Corrected(predictor, AnnealedLangevin(0.2)))
    )
    assert plain == pytest.approx(0.4 * (1 + right), abs=0.02)
    assert abs(corrected) < 0.15 * plain
