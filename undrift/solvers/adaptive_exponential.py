r"""The exponential integrator with a tolerance instead of a step count, for the ODE, the SDE and all between.

A step h in lambda goes to z_s twice, with the same noise: once by the predictions q_0, q_1 of the past, and once more
with the new one, at the point so reached. Their difference is the error, and the second is kept: one evaluation a step.

    z_s = (sigma_s/sigma_t) e^{-tau^2 h} z_t + alpha_s sum_j w_j q_j + sigma_s sqrt(1 - e^{-2 tau^2 h}) eps

A step that is refused has seen its noise. Drawing it anew would bias the law, so the noise is a Brownian path in the
clock exp(2 tau^2 lambda) that is refined and never redrawn.

Sources: `Exponential` for the weights; Gotta Go Fast (Jolicoeur-Martineau et al. 2021, arXiv 2105.14080), which draws
anew; Adaptive Methods for Stochastic Differential Equations via Natural Embeddings and Rejection Sampling with Memory
(Rackauckas & Nie 2017) for keeping what was drawn.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..noise import Noise
from ..process import Process, noise_exponent
from ..tensor import expand
from .adaptive import ErrorNorm, below, only, trained
from .base import Solver, State
from .brownian_bridge import BrownianBridge
from .coordinates import time_at
from .quadrature import lagrange_weights

__all__ = ["AdaptiveExponential"]

_PURE = -5.0  # from pure noise, where lambda is -infinity, a first step leads to here: the data are 1/150 of the noise
_LONGEST = (
    1.0  # in lambda: over a longer step to little noise a denoiser that returns its input would agree with itself
)


@final
@dataclass(frozen=True)
class AdaptiveExponential(Solver):
    """One evaluation for each attempted step; every sample has its own steps, and depends on no other.

    Any two times from noise to data make a grid. Below t_min the estimate at t_min is followed, to sigma = 0 the
    estimate itself. `noise` is asked once for each step of the grid, for the increment of all of it. The state is
    (evaluations so far (B,),).

    Arguments:
        rtol, atol: error allowed in a step of z / sqrt(alpha^2 + sigma^2), root mean square over a sample.
        tau: stochasticity, a number >= 0: 0 the ODE, 1 the reverse SDE.
    """

    rtol: float = 1e-2
    atol: float = 1e-2
    tau: float = 0.0

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol > 0 and self.tau >= 0):
            given = f"rtol={self.rtol}, atol={self.atol}, tau={self.tau}"
            raise ValueError(f"AdaptiveExponential({given}): need rtol >= 0, atol > 0 and tau >= 0")

    def init(self) -> State:
        return (torch.zeros((), dtype=torch.long),)

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        if bool((s > t).any()):
            raise ValueError(f"step from t = {t} to s = {s}: leads from noise to data only; DormandPrince goes back")
        inner = trained(process, t, s)
        start, end = (process.half_log_snr(at).expand(len(z)) for at in (t, inner))
        evaluations = torch.zeros(len(z), dtype=torch.long)
        rows = (start < end).nonzero()[:, 0]
        if len(rows):
            eps = noise(z, t, s) if self.tau else None
            run = _Run(self, denoise, process, z, start, end, rows, eps)
            z = run.result(z, t.expand(len(z))[rows], evaluations)
        out, more = below(denoise, process, z, inner, s)
        return out, (state[0] + evaluations + more,)


class _Past(NamedTuple):
    """The last two predictions, the second of them missing where `lam` is nan."""

    q0: Tensor
    q1: Tensor
    lam: Tensor


class _Run:
    """The samples that still move."""

    def __init__(self, solver: AdaptiveExponential, denoise: Denoise, process: Process, z: Tensor,
                 start: Tensor, end: Tensor, rows: Tensor, eps: Tensor | None) -> None:  # fmt: skip
        self.solver, self.denoise, self.process, self.count = solver, denoise, process, len(z)
        self.error = ErrorNorm(solver.rtol, solver.atol, "sample")
        self.rows, self.lam, self.end = rows, start[rows], end[rows]
        self.h = torch.full_like(self.lam, 0.5)
        self.z = z[rows.to(z.device)]
        self.path: BrownianBridge | None = None
        if eps is not None:
            far = float(self.end.max())  # only differences of lambda count: keeps the exponential finite
            self.far = far
            rate = 2 * solver.tau**2
            self.path = BrownianBridge(
                eps[rows.to(z.device)], self.lam, self.end, lambda lam: torch.exp(rate * (lam - far))
            )

    def result(self, out: Tensor, t: Tensor, evaluations: Tensor) -> Tensor:
        """The states at the end, in place of those of `out`; adds to `evaluations`."""
        self.t = t
        q0 = only(self.denoise, self.rows, self.count)(self.z, t)
        past = _Past(q0, torch.zeros_like(q0), torch.full_like(self.lam, torch.nan))
        evaluations[self.rows] += 1
        while len(self.rows):
            past, arrived = self._attempt(past, evaluations)
            if bool(arrived.any()):
                there = self.rows[arrived].to(out.device)
                out = out.index_copy(0, there, self.z[arrived.to(out.device)])
                past = self._keep((~arrived).nonzero()[:, 0], past)
        return out

    def _attempt(self, past: _Past, evaluations: Tensor) -> tuple[_Past, Tensor]:
        hop = self.lam.isinf()
        target = torch.where(hop, self.end.clamp(max=_PURE), self.lam + self.h)
        # A remainder shorter than a tenth of the step is not worth one of its own.
        target = torch.where(target + 0.1 * self.h >= self.end, self.end, target)
        drawn = None
        if self.path is not None:
            target, drawn = self.path.propose(target)
        if bool((target <= self.lam + 1e-12).any()):
            worst = int((target <= self.lam + 1e-12).nonzero()[0, 0])
            raise ValueError(
                f"no step at half log-SNR {float(self.lam[worst]):.6g} of sample {int(self.rows[worst])} meets rtol = "
                f"{self.solver.rtol}, atol = {self.solver.atol}: raise them, or see if the estimate is finite there"
            )
        t = time_at(self.process, target)
        base, weights, corrected = self._coefficients(past, target, t, drawn)
        guess = base + _mix(weights, past.q0, past.q1)
        q = only(self.denoise, self.rows, self.count)(guess, t)
        evaluations[self.rows] += 1
        final = base + _mix(corrected, past.q0, past.q1, q)
        final = torch.where(expand(hop, guess).bool(), guess, final)
        scale = expand(torch.hypot(*self.process.alpha_sigma(t)), guess)
        size = self.error(((final - guess) / scale,), (final / scale,))
        good = size < 1
        # The difference shrinks as h^3 without noise, as h^1.5 with it.
        factor = (0.8 * size ** (-1 / 3 if self.path is None else -2 / 3)).nan_to_num(0.0, posinf=2.0).clamp(0.2, 2.0)
        h = (torch.where(good, factor, factor.clamp(max=0.8)) * (target - self.lam)).clamp(max=_LONGEST)
        self.h = torch.where(hop, self.h, h)
        at = torch.where(hop, torch.nan, self.lam)
        mask = expand(good, q).bool()
        self.z = torch.where(mask, final, self.z)
        past = _Past(
            torch.where(mask, q, past.q0), torch.where(mask, past.q0, past.q1), torch.where(good, at, past.lam)
        )
        self.lam, self.t = torch.where(good, target, self.lam), torch.where(good, t, self.t)
        if self.path is not None:
            self.path.accept(good)
        return past, self.lam >= self.end

    def _coefficients(
        self, past: _Past, target: Tensor, t: Tensor, drawn: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What neither prediction nor correction touches, and the weights of q_0, q_1 (b, 2), of q_0, q_1, q (b, 3)."""
        (alpha, sigma), before = self.process.alpha_sigma(t), self.process.alpha_sigma(self.t)[1]
        h = target - self.lam
        exponent = noise_exponent(self.solver.tau, self.lam, target)
        base = expand(sigma / before * torch.exp(-exponent), self.z) * self.z
        if drawn is not None:
            base = base + expand(sigma * torch.exp(-(self.solver.tau**2) * (target - self.far)), drawn) * drawn
        r = h + exponent
        zero, one = torch.zeros_like(h), torch.ones_like(h)
        usable = past.lam.isfinite() & h.isfinite()
        old = torch.where(usable, (past.lam - self.lam) / h, -1.0)
        finite = torch.where(h.isfinite(), r, 1.0)
        single = torch.stack([-torch.expm1(-r), zero], -1)
        double = lagrange_weights(torch.stack([zero, old], -1), finite)
        pair = lagrange_weights(torch.stack([zero, one], -1), finite)
        pair = torch.stack([pair[:, 0], zero, pair[:, 1]], -1)
        triple = lagrange_weights(torch.stack([zero, old, one], -1), finite)
        weights, corrected = torch.where(usable[:, None], double, single), torch.where(usable[:, None], triple, pair)
        return base, alpha[:, None] * weights, alpha[:, None] * corrected

    def _keep(self, rows: Tensor, past: _Past) -> _Past:
        there = rows.to(self.z.device)
        self.rows, self.lam, self.end, self.h, self.t, self.z = (
            self.rows[rows], self.lam[rows], self.end[rows], self.h[rows], self.t[rows], self.z[there]
        )  # fmt: skip
        if self.path is not None:
            self.path.keep(rows)
        return _Past(past.q0[there], past.q1[there], past.lam[rows])


def _mix(weights: Tensor, *tensors: Tensor) -> Tensor:
    return torch.stack([expand(w, q) * q for w, q in zip(weights.unbind(-1), tensors, strict=True)]).sum(0)
