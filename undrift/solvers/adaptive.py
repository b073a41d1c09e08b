r"""Adaptive integration: an embedded Runge-Kutta pair that gives every sample its own time and step.

`integrate` solves dy/dx = field(x, y) for tuples of tensors; `DormandPrince` is the solver made of it. A sample that
has arrived leaves the batch, so that no network evaluation is wasted, and what happens to it depends on no other.

Sources: Dormand & Prince (1980), A family of embedded Runge-Kutta formulae; step control as in Hairer, Norsett &
Wanner, Solving Ordinary Differential Equations I, section II.4.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from ..denoiser import Denoise
from ..noise import Noise
from ..process import Process
from ..tensor import expand
from .base import Solver, State
from .coordinates import Angle, Coordinates, Time

__all__ = ["DormandPrince", "ErrorNorm", "Field", "Progress", "below", "integrate", "only", "trained"]

Parts = tuple[Tensor, ...]
Field = Callable[[Tensor, Parts, Tensor], Parts]
"""field(t (b,), state, rows (b,)) -> derivatives, for the b samples `rows` of the batch that still move."""

_C = torch.tensor([1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0], dtype=torch.float64)
_A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (-71 / 57600, 0.0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40)  # fifth minus fourth order


class Progress(NamedTuple):
    """Where an integration is: x (B,), the state, and the evaluations of the field for each sample (B,)."""

    x: Tensor
    state: Parts
    evaluations: Tensor


def integrate(
    field: Field,
    state: Parts,
    start: Tensor,
    end: Tensor,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    norm: Literal["sample", "batch"] = "sample",
    clock: Callable[[Tensor], Tensor] = lambda x: x,
) -> Iterator[Progress]:
    """dy/dx = field(clock(x), y) from `start` to `end`, either direction; yields after each attempted step.

    Arguments:
        field: the derivatives, for some of the samples.
        state: tensors (B, ...); float64 inside.
        start, end: float64, () or (B,).
        rtol, atol: a step is accepted where the error is below 1, the root mean square of error / (atol + rtol |y|).
        norm: `"sample"`: of the first tensor, for each sample; further ones are integrals taken along the way, such as
            that of the divergence, and are held to atol alone. `"batch"`: of all tensors and samples together.
        clock: what the field is told of x, asked once per step for all its stages.

    Raises ValueError where the step falls below rounding.
    """
    count = len(state[0])
    x, end = (torch.as_tensor(c, dtype=torch.float64).expand(count).clone() for c in (start, end))
    state = tuple(_wide(part) for part in state)
    evaluations = torch.zeros(count, dtype=torch.long)
    error = ErrorNorm(rtol, atol, norm)
    rows = (x != end).nonzero()[:, 0]
    if len(rows) == 0:
        yield Progress(x, state, evaluations)
        return
    y = _take(state, rows)
    k = field(clock(x[rows]), y, rows)
    h = _first_step(lambda at, v: field(clock(at), v, rows), x[rows], end[rows], y, k, error)
    evaluations[rows] += 2
    failed = torch.zeros(len(rows), dtype=torch.bool)
    while len(rows):
        at, sign = x[rows], (end[rows] - x[rows]).sign()
        smallest = 10 * (torch.nextafter(at, sign * torch.inf) - at).abs()
        if not bool((h >= smallest).all()):
            worst = int((~(h >= smallest)).nonzero()[0, 0])
            raise ValueError(
                f"no step at t = {float(clock(at)[worst]):.6g} of sample {int(rows[worst])} meets rtol = {rtol}, "
                f"atol = {atol}: raise them, or see whether the estimate is finite there"
            )
        last = h >= (end[rows] - at).abs()
        target = torch.where(last, end[rows], at + sign * h)
        y_new, k_new, difference = _attempt(field, clock, at, target - at, y, k, rows)
        evaluations[rows] += 6
        size = error(difference, y, y_new)
        good = size < 1
        factor = 0.9 * size ** (-1 / 5)  # infinity for no error at all
        factor = torch.where(good, factor.clamp(max=10.0), factor.nan_to_num(0.0).clamp(min=0.2))
        h = (target - at).abs() * torch.where(good & failed, factor.clamp(max=1.0), factor)
        failed = ~good
        x = x.index_copy(0, rows, torch.where(good, target, at))
        y, k = _where(good, y_new, y), _where(good, k_new, k)
        state = tuple(part.index_copy(0, rows.to(part.device), v) for part, v in zip(state, y, strict=True))
        yield Progress(x, state, evaluations.clone())
        moving = ~(last & good)
        if not bool(moving.all()):
            keep = moving.nonzero()[:, 0]
            rows, h, failed, y, k = rows[keep], h[keep], failed[keep], _take(y, keep), _take(k, keep)


@final
@dataclass(frozen=True)
class DormandPrince(Solver):
    """The probability-flow ODE by the Dormand-Prince 5(4) pair: as many evaluations as the tolerance asks for.

    Any two times make a grid, in either direction. Below t_min, where no network was trained, its estimate at t_min
    is followed: to sigma = 0 that is the estimate itself. The state is (evaluations so far (B,),).

    Arguments:
        rtol, atol: error allowed in a step, relative and absolute.
        variable: `"angle"` or `"time"`, see `Coordinates`; `"time"` is slow on schedules with corners.
        norm: `"sample"`, or `"batch"` for one step size of the whole batch, as scipy's RK45 has it.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    variable: Literal["angle", "time"] = "angle"
    norm: Literal["sample", "batch"] = "sample"

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            raise ValueError(f"tolerances rtol = {self.rtol}, atol = {self.atol}: need numbers >= 0, not both 0")
        if self.variable not in ("angle", "time"):
            raise ValueError(f"DormandPrince variable = {self.variable!r}: choose 'angle' or 'time'")
        if self.norm not in ("sample", "batch"):
            raise ValueError(f"DormandPrince norm = {self.norm!r}: choose 'sample' or 'batch'")

    @property
    def coordinates(self) -> Coordinates:
        return Angle() if self.variable == "angle" else Time()

    def init(self) -> State:
        return (torch.zeros((), dtype=torch.long),)

    def step(
        self, denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        inner = trained(process, t, s)
        path = self.coordinates

        def field(at: Tensor, y: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, ...]:
            k, a, b = path.rate(process, at)
            z0 = only(denoise, rows, len(z))((expand(k, y[0]) * y[0]).to(z.dtype), at)
            return (expand(a, y[0]) * y[0] + expand(b, y[0]) * z0,)

        u = _wide(z) / expand(path.rate(process, t).k, _wide(z))
        end = self.run(field, (u,), process, t, inner)
        out = (expand(path.rate(process, inner).k, end.state[0]) * end.state[0]).to(z.dtype)
        out, more = below(denoise, process, out, inner, s)
        return out, (state[0] + end.evaluations + more,)

    def run(self, field: Field, state: Parts, process: Process, t: Tensor, s: Tensor) -> Progress:
        """`integrate` from time t to s in this solver's coordinates, which the field and the state must use too."""
        path = self.coordinates
        start, end = path.variable(process, t), path.variable(process, s)
        clock = partial(path.time, process)
        steps = integrate(field, state, start, end, rtol=self.rtol, atol=self.atol, norm=self.norm, clock=clock)
        for progress in steps:  # noqa: B007
            pass
        return progress


def trained(process: Process, t: Tensor, s: Tensor) -> Tensor:
    """s, unless it lies below t_min, where no network was trained: t_min then, or t if that lies below already."""
    return torch.where(s < t, torch.minimum(t, s.clamp(min=process.t_min)), s)


def below(denoise: Denoise, process: Process, z: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """From `trained` t on to s by the estimate at t, which at sigma = 0 is the result; and the evaluations, (B,)."""
    rest = (s < t).expand(len(z))
    if not bool(rest.any()):
        return z, rest.long()
    return torch.where(expand(rest, z).bool(), process.bridge(z, denoise(z, t), t, s), z), rest.long()


def only(denoise: Denoise, rows: Tensor, count: int) -> Denoise:
    """`denoise` for the samples `rows` of a batch of `count`.

    A module knows nothing of batches and a `rows` method is asked; conditions bound to either by `functools.partial`
    are cut. Any other function may hold one tensor per sample, so it is given the whole batch.
    """
    if len(rows) == count:
        return denoise
    cut = _cut(denoise, rows, count)
    return partial(_padded, denoise, rows, count) if cut is None else cut


def _cut(denoise: Denoise, rows: Tensor, count: int) -> Denoise | None:
    if isinstance(denoise, partial):
        inner = _cut(denoise.func, rows, count)
        of_samples = {k: v for k, v in denoise.keywords.items() if torch.is_tensor(v) and v.ndim and len(v) == count}
        cut = denoise.keywords | {k: v[rows.to(v.device)] for k, v in of_samples.items()}
        return inner and partial(inner, *denoise.args, **cut)
    if hasattr(denoise, "rows"):
        asked: Denoise = denoise.rows(rows)
        return asked
    return denoise if isinstance(denoise, nn.Module) else None


def _padded(denoise: Denoise, rows: Tensor, count: int, z: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
    slot = torch.zeros(count, dtype=torch.long)
    slot[rows] = torch.arange(len(rows))
    out: Tensor = denoise(z[slot.to(z.device)], t.expand(len(rows))[slot], **cond)
    return out[rows.to(out.device)]


class ErrorNorm(NamedTuple):
    """Sizes of tensors in units of the tolerance, (b,)."""

    rtol: float
    atol: float
    norm: str

    def __call__(self, parts: Parts, *values: Parts) -> Tensor:
        """Of `parts`, where the state has (the larger of) `values`."""
        tops = [torch.stack([v.abs() for v in vs]).amax(0) for vs in zip(*values, strict=True)]
        if self.norm == "sample":
            tops[1:] = [torch.zeros_like(top) for top in tops[1:]]
        pairs = zip(parts, tops, strict=True)
        squares = [(p / (self.atol + self.rtol * top)).square().reshape(len(p), -1) for p, top in pairs]
        if self.norm == "batch":
            return torch.cat(squares, 1).mean().sqrt().cpu().double().expand(len(parts[0]))
        return torch.stack([square.mean(1) for square in squares]).amax(0).sqrt().cpu().double()


def _first_step(
    field: Callable[[Tensor, Parts], Parts], x: Tensor, end: Tensor, y: Parts, k: Parts, error: ErrorNorm
) -> Tensor:
    """The size of the first step from the first two derivatives (Hairer et al., section II.4), (b,)."""
    span = (end - x).abs()
    d0, d1 = error(y, y), error(k, y)
    h = torch.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1).minimum(span)
    move = (end - x).sign() * h
    k_next = field(x + move, tuple(v + expand(move, v) * d for v, d in zip(y, k, strict=True)))
    d2 = error(tuple(b - a for a, b in zip(k, k_next, strict=True)), y) / h
    steepest = torch.maximum(d1, d2)
    guess = torch.where(steepest <= 1e-15, (h * 1e-3).clamp(min=1e-6), (0.01 / steepest) ** (1 / 5))
    return torch.minimum(torch.minimum(100 * h, guess), span)


def _attempt(
    field: Field, clock: Callable[[Tensor], Tensor], x: Tensor, h: Tensor, y: Parts, k: Parts, rows: Tensor
) -> tuple[Parts, Parts, Parts]:
    """One step of the pair: the new state, its derivative (the next step's first), and the estimated error."""
    times = clock(x[:, None] + h[:, None] * _C)
    stages, new = [k], y
    for i, weights in enumerate(_A):
        new = tuple(v + move for v, move in zip(y, _sum(weights, stages, h), strict=True))
        stages.append(field(times[:, i], new, rows))
    return new, stages[-1], _sum(_ERROR, stages, h)


def _sum(weights: tuple[float, ...], stages: list[Parts], h: Tensor) -> Parts:
    """h sum_j weights_j k_j, for each part of the state."""
    return tuple(
        expand(h, part[0]) * torch.stack([w * k for w, k in zip(weights, part, strict=True) if w]).sum(0)
        for part in zip(*stages, strict=True)
    )


def _wide(part: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return part if part.device.type == "mps" else part.double()


def _take(parts: Parts, rows: Tensor) -> Parts:
    return tuple(part[rows.to(part.device)] for part in parts)


def _where(condition: Tensor, new: Parts, old: Parts) -> Parts:
    return tuple(torch.where(expand(condition, a).bool(), a, b) for a, b in zip(new, old, strict=True))
