r"""The official MR Sampler as data (Li et al. 2025, arXiv 2502.07856): its grid, its coefficients, its order pattern.

Its updates are those of `Exponential` with the published third order; the rest is a matter of numbers:

| official quirk | how it is expressed |
|---|---|
| alpha, sigma and lambda at fractional times are three separate interpolations | `process` (two) and `table` (all) |
| hence the terms in mu do not cancel: a brightness error | `brightness` (N,), in z = x - mu |
| theta_0 is not subtracted | `irsde_process(..., subtract_theta0=False)` |
| below 10 steps the order falls to 1 before the last step, whose order is full | `orders` |
| the prior is mu + lam eps, whatever the first time | `start` |
| velocity is lam times ours and assumes alpha^2 + (sigma/lam)^2 = 1 | `prediction("velocity")` |
| `thresholding` of images as if in [-1, 1], and of noise as of images | in the step, on image or noise |
| `denoise_last` returns what was extrapolated, be it the noise | the last row and its brightness |
| fewer steps than the order read past the grid; order 3 of the SDE does not exist | ValueError |

`undrift.Exponential` with a grid of `undrift.times` is the same sampler without them.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor

from .. import prediction
from ..denoiser import Denoise
from ..noise import Noise
from ..process import MeanReverting, Process
from ..process.table import interpolate
from ..solvers import Coefficients, Exponential, Multistep, Solver, State
from ..tensor import expand
from .mr_grids import Interpolated, TimeSchedule, grid

__all__ = ["MRSampler"]

Target = Literal["noise", "reverse_traj", "data", "patch", "velocity"]


@final
@dataclass(frozen=True)
class MRSampler:
    r"""Everything that the official class computes from its options; the loop is `undrift.trajectory`:

        sampler = MRSampler(irsde_process(subtract_theta0=False), steps=20)
        denoise = Denoiser(network, sampler.process, sampler.prediction("noise"), scale=None, label=Time())
        z = sampler.start(mu, noise)
        for z in trajectory(denoise, sampler.process, z, sampler.times, sampler.solver(mu), noise): ...
        image = Residual().decode(z, mu).clamp(0, 1)

    Arguments:
        path: the mean-reverting process, with `subtract_theta0=False`.
        steps: `num_sample_steps`. The grid may have one interval more (`trailing`) or fewer.
        order, solver_type, parameterization: as `order`, `tau` and `extrapolate` of `Exponential`.
        time_schedule: the grid.
        lambda_min: times of smaller half log-SNR are left out of linspace, leading and linear-lambda, and of some
            of trailing.
        timestep_offset: added to the times of leading.
        rho: the power of the Karras grids.
        thresholding, threshold_ratio, threshold_max: clamp each estimate to its own quantile s in
            [1, threshold_max] and divide it by s.
        denoise_last: end with the estimate at the last time but one.

    Raises ValueError for what the official class refuses or gets wrong.
    """

    path: MeanReverting
    steps: int = 20
    order: int = 2
    solver_type: Literal["ode", "sde"] = "ode"
    parameterization: Literal["data", "noise"] = "data"
    time_schedule: TimeSchedule = "linspace"
    lambda_min: float = -torch.inf
    timestep_offset: int = 0
    rho: float = 7.0
    thresholding: bool = False
    threshold_ratio: float = 0.995
    threshold_max: float = 1.5
    denoise_last: bool = False

    def __post_init__(self) -> None:
        if self.path.subtract_theta0:
            raise ValueError("MRSampler path with subtract_theta0 = True: sigma is 0 at t = 0; give one with False")
        if self.solver_type not in ("ode", "sde"):
            raise ValueError(f"MRSampler solver_type = {self.solver_type!r}: choose 'ode' or 'sde'")
        if self.solver_type == "sde" and self.order > 2:
            raise ValueError(f"MRSampler order = {self.order}: the official SDE solver has orders 1 and 2")
        times, order = self.times, self._solver.order  # which checks order and parameterization
        if len(times) <= order or not (times.diff() < 0).all():
            raise ValueError(
                f"MRSampler steps = {self.steps}: the {self.time_schedule} grid of {len(times)} times does not "
                f"suit order {order}; it must fall strictly and have more times than the order: change the steps"
            )

    @property
    def process(self) -> Interpolated:
        return Interpolated(self.path)

    @property
    def times(self) -> Tensor:
        """The grid, (M + 1,)."""
        return grid(self.process, self.time_schedule, self.steps, self.lambda_min, self.timestep_offset, self.rho)

    @property
    def orders(self) -> Tensor:
        """The order of each step, (M,): 1, 2, 3, ..., 3, 2, 1, 3 below ten steps."""
        count = len(self.times) - 1
        step = torch.arange(1, count + 1)
        end = count - step if count < 10 else torch.full_like(step, self.order)
        order = torch.where(step < self.order, step, end.clamp(max=self.order))
        order[-1] = self.order
        return order

    @property
    def table(self) -> Coefficients:
        """The coefficients of all steps, in z = x - mu, without `brightness`."""
        table = self._solver.coefficients(*self.nodes, self.orders)
        if not self.denoise_last:
            return table
        last = torch.arange(len(table.carry)) == len(table.carry) - 1
        own = torch.eye(1, table.weights.shape[1], dtype=torch.float64)
        return replace(
            table,
            carry=torch.where(last, 0.0, table.carry),
            weights=torch.where(last[:, None], own, table.weights),
            noise=torch.where(last, 0.0, table.noise),
        )

    @property
    def brightness(self) -> Tensor:
        """The multiple of mu that each step adds to z, (M,): 0 where alpha, sigma and lambda agree."""
        alpha, _, lam = self.nodes
        carry, h = self.table.carry, lam.diff()
        out = torch.zeros_like(h)
        # The coefficient published for mu, less what x = z + mu and the prediction z_0 + mu make of it.
        if self.parameterization == "data" and self.solver_type == "ode":
            out = carry * alpha[:-1] - alpha[1:] * torch.exp(-h)
        elif self.parameterization == "data":
            out = carry - alpha[1:] / alpha[:-1] * torch.exp(-2 * h)
        if self.denoise_last:
            out[-1] = 0.0 if self.parameterization == "data" else -1.0  # x = eps is z = eps - mu
        return out

    def solver(self, mu: Tensor) -> Solver:
        """The solver of the states z = x - mu for the degraded images mu (B, C, H, W)."""
        return _Published(self, Multistep.of(self.table), tuple(self.brightness.tolist()), mu)

    def start(self, like: Tensor, noise: Noise) -> Tensor:
        """z at the first time: lam eps, of the shape of `like`."""
        return self.path.lam * noise(like, self.times[0], self.times[0])

    def prediction(self, fit_target: Target) -> prediction.Prediction:
        """What the network's output means; "data" is z_0, so a network that gives the image is to subtract mu."""
        if fit_target == "patch" and self.parameterization == "noise":
            raise ValueError("fit_target 'patch' with parameterization 'noise': the official class takes data only")
        meanings: dict[str, prediction.Prediction] = {
            "noise": prediction.noise,
            "reverse_traj": prediction.noise,
            "data": prediction.data,
            "patch": prediction.data,
            "velocity": _Velocity(self.path.lam, self.parameterization == "data"),
        }
        if fit_target not in meanings:
            raise ValueError(f"fit_target {fit_target!r}: choose one of {', '.join(meanings)}")
        return meanings[fit_target]

    @property
    def _solver(self) -> Exponential:
        tau = float(self.solver_type == "sde")
        return Exponential(self.order, tau, self.parameterization, weights="published")

    @property
    def nodes(self) -> tuple[Tensor, Tensor, Tensor]:
        """alpha, sigma, lambda on the grid, each (M + 1,)."""
        times = self.times
        return *self.process.alpha_sigma(times), interpolate(self.process.nodes()[2], times)


@final
@dataclass(frozen=True)
class _Velocity(prediction.Prediction):
    """F = alpha lam eps - (sigma/lam) z_0, inverted as if alpha^2 + (sigma/lam)^2 were 1 for what is extrapolated."""

    lam: float
    data: bool

    def affine(self, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return alpha if self.data else (1 - (sigma / self.lam) ** 2) / alpha, -sigma / self.lam


@final
@dataclass(frozen=True, eq=False)
class _Published(Solver):
    """`rows`, then + brightness_i mu; thresholding before."""

    sampler: MRSampler
    rows: Multistep
    brightness: tuple[float, ...]
    mu: Tensor

    def init(self) -> State:
        return self.rows.init()

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        if self.sampler.thresholding:
            denoise = partial(self._bounded, denoise, process)
        out, after = self.rows.step(denoise, process, z, t, s, state, noise)
        return out + self.brightness[state[0]] * self.mu, after

    def _bounded(self, denoise: Denoise, process: Process, z: Tensor, t: Tensor) -> Tensor:
        z0 = denoise(z, t)
        if self.sampler.parameterization == "data":
            return self._threshold(z0 + self.mu) - self.mu
        alpha, sigma = (expand(c, z) for c in process.alpha_sigma(t))
        return (z - sigma * self._threshold((z - alpha * z0) / sigma)) / alpha

    def _threshold(self, estimate: Tensor) -> Tensor:
        ratio, high = self.sampler.threshold_ratio, self.sampler.threshold_max
        s = expand(estimate.abs().flatten(1).quantile(ratio, dim=1).clamp(1, high), estimate)
        return estimate.clamp(-s, s) / s
