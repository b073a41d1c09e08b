"""What the laws compare with: paths, closed forms and exact runs that share no code with what they test."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from undrift.denoiser import GaussianMixture
from undrift.process import EDM, VE, VP, Flow, MeanReverting, Process, SubVP, Table
from undrift.sample import trajectory
from undrift.solvers import Ancestral, EulerMaruyama, Exponential, ReverseDiffusion, Solver

STATIONARY = 50 / 255  # lam of IR-SDE, and so the scale of its residuals


def f64(value: float | list[float] | tuple[float, ...]) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


# Paths --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ramp(Process):
    """Mean reversion with theta = 0.2 + 9.6 t, lam = 1/2 (score-sde.md 7): a process as a newcomer writes it."""

    t_min: float = 1e-3
    t_max: float = 1.0
    t_clean: float = 0.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        integral = 0.2 * t + 4.8 * t**2
        return torch.exp(-integral), 0.5 * torch.sqrt(-torch.expm1(-2 * integral))


def ddpm_table(quantity: str) -> Table:
    """The 1000 steps of DDPM, beta linear from 1e-4 to 0.02."""
    log_alpha = torch.log1p(-torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumsum(0) / 2
    lam = log_alpha - torch.log(-torch.expm1(2 * log_alpha)) / 2
    return Table(tuple((log_alpha if quantity == "log_alpha" else lam).tolist()), quantity)


SCHEDULES = ("cosine", "linear", "constant")
PROCESSES: dict[str, Process] = {
    "VE": VE(),
    "VP": VP(),
    "SubVP": SubVP(),
    "EDM": EDM(),
    "Flow": Flow(),
    **{f"MR-{s}": MeanReverting(schedule=s) for s in SCHEDULES},
    **{f"MR-{s}-theta0": MeanReverting(schedule=s, subtract_theta0=False) for s in SCHEDULES},
    "Table-log_alpha": ddpm_table("log_alpha"),
    "Table-lambda": ddpm_table("lambda"),
    "Ramp": Ramp(),
}


def scale_of(process: Process) -> float:
    """The natural scale of the data of a path."""
    return {MeanReverting: STATIONARY, Ramp: 0.5}.get(type(process), 1.0)


def discrete(process: Process) -> bool:
    """Whether the path has corners at whole times."""
    return isinstance(process, MeanReverting | Table)


def inner_times(process: Process, count: int) -> Tensor:
    """`count` times spread in lambda, strictly inside (t_min, t_max), noisy ones first."""
    ends = process.half_log_snr(f64([process.t_max, process.t_min])).clamp(-7, 9).tolist()
    return process.time(torch.linspace(*ends, count + 2, dtype=torch.float64)[1:-1])


def lambda_grid(process: Process, steps: int, top: float = 3.0) -> Tensor:
    """Times uniform in lambda between the (almost) noisy end and `top`, both included."""
    low, high = process.half_log_snr(f64([process.t_max, process.t_min])).tolist()
    return process.time(torch.linspace(max(low, -4.0) + 0.01, min(high - 0.01, top), steps + 1, dtype=torch.float64))


# Runs ---------------------------------------------------------------------------------------------------------------


def silent(like: Tensor, t: Tensor, s: Tensor) -> Tensor:
    raise AssertionError("a deterministic solver asked for noise")


def run(denoise, process: Process, z: Tensor, times: Tensor, solver: Solver, noise=silent) -> Tensor:
    """The last state of a trajectory."""
    return list(trajectory(denoise, process, z, times, solver, noise))[-1]


@dataclass
class Counting:
    """A denoiser that records the times at which it is called."""

    denoise: Callable[..., Tensor]
    times: list[Tensor] = field(default_factory=list)

    def __call__(self, z: Tensor, t: Tensor, **cond: object) -> Tensor:
        self.times.append(t)
        return self.denoise(z, t, **cond)


def slopes(errors: list[float]) -> list[float]:
    """log2 of the ratio of successive errors: the order, where the number of steps doubles."""
    return [math.log2(abs(a / b)) for a, b in pairwise(errors)]


# A mixture on the line ------------------------------------------------------------------------------------------------

WEIGHTS, MEANS, STDS = f64((0.3, 0.45, 0.25)), f64((-1.0, 0.2, 1.1)), f64((0.15, 0.25, 0.1))


@dataclass(frozen=True)
class Mixture:
    """The three Gaussians of score-sde.md 7.3, times a scale.

    In one dimension the flow of the probability-flow ODE keeps the order of the points, and so their quantiles:
    it is known exactly, without integrating anything.
    """

    process: Process
    scale: float = 1.0

    @property
    def denoise(self) -> GaussianMixture:
        means, stds = MEANS[:, None] * self.scale, STDS[:, None] * self.scale
        return GaussianMixture(WEIGHTS, means, stds**2, self.process)

    def components(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.process.alpha_sigma(t)
        return alpha * MEANS * self.scale, torch.sqrt((alpha * STDS * self.scale) ** 2 + sigma**2)

    def std(self, t: Tensor) -> float:
        mean, std = self.components(t)
        return float(((WEIGHTS * (mean**2 + std**2)).sum() - (WEIGHTS * mean).sum() ** 2).sqrt())

    def cdf(self, z: Tensor, t: Tensor) -> Tensor:
        """P(z_t <= z), z (n,)."""
        mean, std = self.components(t)
        return (WEIGHTS * torch.special.ndtr((z[:, None] - mean) / std)).sum(-1)

    def quantile(self, p: Tensor, t: Tensor) -> Tensor:
        """The z with cdf(z, t) = p, by bisection; p (n,)."""
        mean, std = self.components(t)
        low, high = torch.full_like(p, float((mean - 9 * std).min())), torch.full_like(p, float((mean + 9 * std).max()))
        for _ in range(80):
            middle = (low + high) / 2
            below = self.cdf(middle, t) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def ode_error(self, times: Tensor, solver: Solver) -> float:
        """Root mean square error of a solver of the ODE at 33 quantiles, in units of the scale."""
        p = torch.linspace(0.02, 0.98, 33, dtype=torch.float64)
        out = run(self.denoise, self.process, self.quantile(p, times[0])[:, None], times, solver)[:, 0]
        return float((out - self.quantile(p, times[-1])).square().mean().sqrt()) / self.scale

    def law_error(self, times: Tensor, solver: Solver, cells: int = 800) -> float:
        """Wasserstein-1 distance of a one-step solver's law from the true one at times[-1], by pushing the density.

        Each step sends z to N(m(z), std^2), whose m and std are read off the step itself.
        """
        x, width = self._cells(times[0], cells)
        mass = self.cdf(torch.cat([x - width / 2, x[-1:] + width / 2]), times[0]).diff()
        eps = torch.zeros(cells + 1, 1, dtype=torch.float64)
        eps[-1] = 1
        for t, s in pairwise(times):
            z = torch.cat([x, x[:1]])[:, None]
            quiet, loud = solver.step(self.denoise, self.process, z, t, s, solver.init(), lambda *_: eps)[0][
                :, 0
            ].split(cells)
            std = float(loud[0] - quiet[0])
            x, width = self._cells(s, cells)
            mass = torch.exp(-0.5 * ((x[:, None] - quiet) / std) ** 2) @ mass * (width / std / math.sqrt(2 * math.pi))
        return float((mass.cumsum(0) - self.cdf(x + width / 2, times[-1])).abs().sum()) * width

    def _cells(self, t: Tensor, cells: int) -> tuple[Tensor, float]:
        edge = 6 * math.hypot(self.std(t), float(self.components(t)[0].abs().max()) / 6)
        return torch.linspace(-edge, edge, cells, dtype=torch.float64), 2 * edge / (cells - 1)


# Gaussian data --------------------------------------------------------------------------------------------------------


class OneHot:
    """Draw number i is 1 in sample i + 2 and 0 elsewhere: it probes the affine map of a run."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, like: Tensor, t: Tensor, s: Tensor) -> Tensor:
        draw = torch.zeros_like(like)
        draw[self.calls + 2] = 1
        self.calls += 1
        return draw


def gaussian(mean: float, std: float, process: Process) -> GaussianMixture:
    """The exact denoiser of N(mean, std^2) on the line."""
    return GaussianMixture(f64([1.0]), f64([[mean]]), f64([[std**2]]), process)


def gaussian_law(
    process: Process,
    times: Tensor,
    solver: Solver,
    mean: float,
    std: float,
    denoise: Callable[..., Tensor] | None = None,
) -> tuple[float, float]:
    """Mean and standard deviation of the last state for data N(mean, std^2), exactly.

    Every step is then affine in state and noise, so a batch of unit vectors gives the map of the whole run. It
    starts from the law of z at times[0].
    """
    first, spread = marginal_law(process, times[0], mean, std)
    probes = torch.zeros(2 * len(times) + 2, 1, dtype=torch.float64)
    probes[1] = 1
    out = run(denoise or gaussian(mean, std, process), process, probes, times, solver, OneHot())[:, 0]
    gains = out[1:] - out[0]
    mean_out = float(out[0] + gains[0] * first)
    gains[0] *= spread
    return mean_out, float(gains.square().sum().sqrt())


def marginal_law(process: Process, t: Tensor, mean: float, std: float) -> tuple[float, float]:
    """Mean and standard deviation of z_t for data N(mean, std^2)."""
    alpha, sigma = (float(c) for c in process.alpha_sigma(t))
    return alpha * mean, math.hypot(alpha * std, sigma)


def std_error(process: Process, times: Tensor, solver: Solver, mean: float, std: float) -> float:
    """Relative error of the standard deviation of the last state."""
    return gaussian_law(process, times, solver, mean, std)[1] / marginal_law(process, times[-1], mean, std)[1] - 1


# The rows of research/score-sde.md 7.2: (process, where the grid ends), and the solvers by their names there.
PATHS = {"VE": (VE(), 1e-3), "VP": (VP(), 1e-3), "SubVP": (SubVP(), 1e-2), "Ramp": (Ramp(), 1e-3)}
SOLVERS = {
    "EM": EulerMaruyama(),
    "RevDiff": ReverseDiffusion(),
    "Ancestral": Ancestral(),
    "AncBig": Ancestral("forward"),
    "Euler": EulerMaruyama(0.0),
    "DDIM": Exponential(1),
}
