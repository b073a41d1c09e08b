r"""Exponential integrators of the reverse SDE and its ODE, with any stochasticity between and beyond.

In lambda the linear part of the reverse process is solved exactly; what remains is an integral over the prediction,
which a polynomial through the last predictions q_0 (newest), q_1, ... replaces. Every step is

    z_s = carry z_t + sum_j w_j q_j + noise eps,

and data extrapolation (q = z_0) and noise extrapolation (q = eps) differ in the numbers only.

Sources: MR Sampler (Li et al. 2025, arXiv 2502.07856), DPM-Solver and DPM-Solver++ (Lu et al. 2022, arXiv 2206.00927,
arXiv 2211.01095), UniPC (Zhao et al. 2023, arXiv 2302.04867), SA-Solver (Xue et al. 2023, arXiv 2309.05019).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor

from ..denoiser import Denoise
from ..noise import Noise
from ..process import Process, Stochasticity, noise_exponent
from ..tensor import expand
from .base import Solver, State
from .quadrature import lagrange_weights

__all__ = ["Coefficients", "Exponential", "Multistep"]


@final
@dataclass(frozen=True, eq=False)
class Coefficients:
    """The numbers of a run of N steps with up to k predictions, float64; a reader may print them, a test check them.

    carry (N,), weights (N, k), noise (N,): z_s = carry z_t + sum_j weights_j q_j + noise eps.
    basis (N, 2): q_0 = basis_0 z_t + basis_1 z_0, what is extrapolated.
    correction (N, k + 1): at the start of a step, once q_0 is known, z_t is replaced by the carry and noise of the step
        before plus sum_j correction_j q_j. All zero where nothing is corrected.
    """

    carry: Tensor
    weights: Tensor
    noise: Tensor
    basis: Tensor
    correction: Tensor


@final
@dataclass(frozen=True)
class Exponential(Solver):
    r"""Multistep exponential integrator; one network call per step.

    Arguments:
        order: predictions used, 1 to 3. The measured order of convergence of the ODE, one more with `corrector`.
        tau: stochasticity, 0 the ODE, 1 the reverse SDE: a number >= 0, a function of lambda, a `process.NoiseControl`.
        extrapolate: `"data"` (DPM-Solver++, MR Sampler -d) or `"noise"` (DPM-Solver, MR Sampler -n; unstable for few
            stochastic steps, whose noise it first amplifies).
        corrector: use the evaluation of the next step to correct the state it starts from, at no extra call.
        weights: `"exact"`; `"published"` for the literature's third-order term, `"midpoint"` for that and the usual
            second-order term of DPM-Solver++(2M), diffusers' default (see `lagrange_weights`).

    order 1, tau 0 is DDIM; order 1, tau 1 is ancestral sampling and IR-SDE's posterior sampling at any stride.
    Steps from or to infinite lambda (alpha_t = 0, sigma_s = 0) have order 1 and the exact limit.
    """

    order: int = 2
    tau: Stochasticity = 0.0
    extrapolate: Literal["data", "noise"] = "data"
    corrector: bool = False
    weights: Literal["exact", "published", "midpoint"] = "exact"

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"Exponential order = {self.order}: choose 1, 2 or 3")
        if isinstance(self.tau, int | float) and not self.tau >= 0:
            raise ValueError(f"Exponential tau = {self.tau}: need a number >= 0 (0 is the ODE, 1 the SDE)")
        if self.extrapolate not in ("data", "noise"):
            raise ValueError(f"Exponential extrapolate = {self.extrapolate!r}: choose 'data' or 'noise'")
        if self.weights not in ("exact", "published", "midpoint"):
            raise ValueError(f"Exponential weights = {self.weights!r}: choose 'exact', 'published' or 'midpoint'")

    def table(self, process: Process, times: Tensor) -> Coefficients:
        """The coefficients of the whole grid, `times` (N + 1,), in one vectorised float64 computation."""
        times = torch.as_tensor(times, dtype=torch.float64, device="cpu")
        if times.ndim != 1 or len(times) < 2 or not (times.diff() < 0).all():
            raise ValueError(f"grid of shape {tuple(times.shape)}: need at least 2 strictly decreasing times")
        alpha, sigma = process.alpha_sigma(times)
        return self.coefficients(alpha, sigma, alpha.log() - sigma.log())

    def coefficients(self, alpha: Tensor, sigma: Tensor, lam: Tensor, orders: Tensor | None = None) -> Coefficients:
        """`table` from alpha, sigma and lambda on the grid, each (N + 1,).

        `orders` (N,) overrides the order of each step, for parity with samplers of a pattern of their own.
        """
        count = len(lam) - 1
        start, finite = lam[:-1], lam.diff().isfinite()
        usable = torch.arange(count) + 1 - start.isinf().sum()  # a start at pure noise is no node
        wanted = torch.full((count,), self.order) if orders is None else orders
        order = torch.where(finite, torch.minimum(wanted, usable), 1).clamp(min=1)
        width = int(order.max())
        past = torch.arange(count)[:, None] - torch.arange(max(width, self.order) + 1)
        nodes = start[past.clamp(min=0)]  # (N, k + 1): lambda at q_0, q_1, ...
        step = _Step(self, alpha[:-1], sigma[:-1], start, alpha[1:], sigma[1:], lam[1:])
        weights = torch.zeros(count, width, dtype=torch.float64)
        for k in range(1, width + 1):
            weights[order == k, :k] = step.take(order == k).weights(nodes[order == k, :k])
        correction = torch.zeros(count, self.order + 1, dtype=torch.float64)
        if self.corrector:
            # Correct the start of step i by the step before it, whose new node is u = 1: never across infinite
            # lambda, nor where the start is not carried on.
            correctable = torch.cat([torch.tensor([False]), finite[:-1]]) & start.isfinite() & (step.carry != 0)
            for k in range(2, self.order + 2):
                here = correctable & (torch.minimum(torch.tensor(self.order + 1), usable) == k)
                before = here.roll(-1)
                correction[here, :k] = step.take(before).weights(nodes[here, :k], exact=True)
        return Coefficients(step.carry, weights, step.noise, step.basis, correction)

    def plan(self, process: Process, times: Tensor) -> Solver:
        return Multistep.of(self.table(process, times))

    def init(self) -> State:
        return ()

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """One step by itself, t and s () or (B,); the state holds ((q_j, lambda_j), ...), newest first.

        The loop over a whole grid runs `Multistep` instead, which also corrects.
        """
        (alpha_t, sigma_t), (alpha_s, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
        lam_t, lam_s = alpha_t.log() - sigma_t.log(), alpha_s.log() - sigma_s.log()
        step = _Step(self, alpha_t, sigma_t, lam_t, alpha_s, sigma_s, lam_s)
        a, b = step.basis.unbind(-1)
        q = expand(a, z) * z + expand(b, z) * denoise(z, t)
        past = ((q, lam_t), *state)[: self.order]
        nodes = torch.stack(torch.broadcast_tensors(*(lam for _, lam in past)), -1)
        # As in `coefficients`, but each sample by itself: order 1 across infinite lambda, no node at pure noise.
        order = torch.where(step.h.isfinite() & (step.h != 0), nodes.isfinite().sum(-1), 1)
        weights = torch.zeros_like(nodes)
        for k in range(1, len(past) + 1):
            weights[order == k, :k] = step.take(order == k).weights(nodes[order == k, :k])
        out = expand(step.carry, z) * z
        for (q_j, _), w in zip(past, weights.unbind(-1), strict=True):
            out = out + expand(w, z) * q_j
        if step.noise.any():
            out = out + expand(step.noise, z) * noise(z, t, s)
        return out, past[: self.order - 1]


class _Step:
    """The coefficients of steps t -> s, all of shape (*), vectorised."""

    def __init__(self, solver: Exponential, alpha_t: Tensor, sigma_t: Tensor, lam_t: Tensor,
                 alpha_s: Tensor, sigma_s: Tensor, lam_s: Tensor) -> None:  # fmt: skip
        self.solver, self.lam_t, self.h = solver, lam_t, lam_s - lam_t
        self.parts = (alpha_t, sigma_t, lam_t, alpha_s, sigma_s, lam_s)
        exponent = noise_exponent(solver.tau, lam_t, lam_s)
        one, zero = torch.ones_like(alpha_t), torch.zeros_like(alpha_t)
        # The data form has the right limit at infinite lambda; the noise form takes it from there.
        as_data = torch.full_like(self.h, solver.extrapolate == "data", dtype=torch.bool) | self.h.isinf()
        stretch = torch.where(self.h == 0, 1.0, 1 + exponent / torch.where(self.h == 0, 1.0, self.h))
        self.r = torch.where(as_data, self.h + exponent, -self.h)
        self.gain = torch.where(as_data, alpha_s, sigma_s * stretch)
        self.carry = torch.where(as_data, sigma_s / sigma_t * torch.exp(-exponent), alpha_s / alpha_t)
        self.noise = sigma_s * torch.sqrt(
            torch.where(as_data, -torch.expm1(-2 * exponent), (stretch - 1) * torch.expm1(2 * self.h))
        )
        self.noise = torch.where(sigma_s == 0, 0.0, self.noise)
        a = torch.where(as_data, zero, 1 / sigma_t)
        self.basis = torch.stack([a, torch.where(as_data, one, -alpha_t / sigma_t)], -1)

    def take(self, rows: Tensor) -> "_Step":
        return _Step(self.solver, *(part[rows] for part in self.parts))  # type: ignore[arg-type]

    def weights(self, nodes: Tensor, exact: bool = False) -> Tensor:
        """Weights of predictions made at lambda = nodes (*, n); `exact` overrules the solver's published ones."""
        if nodes.shape[-1] == 1:  # order 1, also where h is infinite and u has no meaning
            return (self.gain * -torch.expm1(-self.r))[..., None]
        u = (nodes - self.lam_t[..., None]) / self.h[..., None]
        published = self.solver.weights != "exact" and not exact
        midpoint = self.solver.weights == "midpoint" and not exact
        return self.gain[..., None] * lagrange_weights(u, self.r, published, midpoint)


class _Row(NamedTuple):
    carry: float
    weights: tuple[float, ...]
    noise: float
    basis: tuple[float, float]
    correction: tuple[float, ...]
    keep: int  # predictions that later steps need


@final
@dataclass(frozen=True)
class Multistep(Solver):
    """Runs a table of coefficients: `step` is a linear combination of a few tensors and nothing else.

    The times of `step` are passed to the network and to the noise only. The state is (index of the step, past
    predictions newest first, the part of the last step that a correction keeps).
    """

    rows: tuple[_Row, ...]

    @classmethod
    def of(cls, table: Coefficients) -> "Multistep":
        """The solver of a table. Trailing zero weights are dropped: they would only cost time."""
        columns = (table.carry, table.weights, table.noise, table.basis, table.correction)
        rows: list[_Row] = []
        keep = 0
        for c, w, n, (a, b), k in reversed(list(zip(*(column.tolist() for column in columns), strict=True))):
            rows.append(_Row(c, _trim(w), n, (a, b), _trim(k), keep))
            keep = max(keep, len(rows[-1].weights), len(rows[-1].correction), 1) - 1
        return cls(tuple(reversed(rows)))

    def init(self) -> State:
        return 0, (), None

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        index, past, kept = state
        if index >= len(self.rows):
            raise ValueError(f"step {index + 1} of a table of {len(self.rows)}: plan the solver for the longer grid")
        row = self.rows[index]
        z0 = denoise(z, t)
        a, b = row.basis
        past = (z0 if (a, b) == (0, 1) else b * z0 + a * z, *past)
        if row.correction:
            z = _combine(kept, row.correction, past)
        base = row.carry * z
        if row.noise:
            base = base.add(noise(z, t, s), alpha=row.noise)
        return _combine(base, row.weights, past), (index + 1, past[: row.keep], base)


def _combine(base: Tensor, weights: tuple[float, ...], tensors: tuple[Tensor, ...]) -> Tensor:
    for w, tensor in zip(weights, tensors, strict=False):
        base = base.add(tensor, alpha=w)
    return base


def _trim(weights: list[float]) -> tuple[float, ...]:
    while weights and weights[-1] == 0:
        weights = weights[:-1]
    return tuple(weights)
