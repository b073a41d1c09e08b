"""A photograph larger than a tile, restored in bands of tiles that write into one state: memory is the state's.

What is held of an image of N pixels, for a solver that extrapolates through k predictions: its state and k - 1 of
them in float32, 12 k N bytes; the observation and the result, 3 N bytes each where they are given in 8 bits. All
else (noise, estimates, blending) is as large as a band of tiles.

The numbers are those of `sample` with `guidance.tiled`, to the rounding of sums over tiles: the noise of a step is the
same stream of numbers, cut where the bands are.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .denoiser import Denoise
from .guidance.tiled import ramp, spans, stride_of
from .process import Process
from .solvers import Solver
from .solvers.exponential import Multistep
from .space import Space
from .tensor import expand

__all__ = ["Field", "bands", "levels", "light", "restored_in_bands", "streams"]

PIECE = 1 << 20  # numbers drawn at a time; a multiple of 16, in which torch makes normals from uniforms

ROWS = 64  # of an image that a solver is shown at a time


def light(y: Tensor) -> Tensor:
    """Levels (..., uint8) in [0, 1]; what is float already, as it is."""
    return y.float().div_(255) if y.dtype == torch.uint8 else y


def levels(x: Tensor) -> Tensor:
    """The 8-bit levels of x, clamped to [0, 1]."""
    return x.clamp(0, 1).mul(255).round_().byte()


def streams(solver: Solver, process: Process, times: Tensor) -> Multistep | None:
    """The planned solver where its steps are pixel by pixel, and can be made band by band; None for others."""
    planned = solver.plan(process, times)
    return planned if isinstance(planned, Multistep) else None


class Field:
    """The noise of one draw of `noise.PerSample([seed])`, (C, H, W), given out in bands of rows from the top.

    A cursor per channel runs through the same stream of numbers; each is advanced by drawing and forgetting.

    Arguments:
        generator: left where a draw of the whole would leave it, once the last band is taken.
        shape: (C, H, W), of at least 32 numbers.
    """

    def __init__(self, generator: torch.Generator, shape: tuple[int, int, int]) -> None:
        self.shape, self.generator = shape, generator
        state = generator.get_state()
        self.cursors = [_Cursor(state, shape) for _ in range(shape[0])]
        for channel, cursor in enumerate(self.cursors):
            cursor.skip(channel * shape[1] * shape[2])

    def rows(self, count: int) -> Tensor:
        """The next `count` rows, (1, C, count, W)."""
        out = torch.stack([cursor.take(count * self.shape[2]).view(count, -1) for cursor in self.cursors])
        last = self.cursors[-1]
        if last.left == 0 and not len(last.buffer):
            self.generator.set_state(last.generator.get_state())
        return out[None]


class _Cursor:
    """A place in the stream of one draw."""

    def __init__(self, state: Tensor, shape: tuple[int, int, int]) -> None:
        self.generator = torch.Generator()
        self.generator.set_state(state)
        self.left = shape[0] * shape[1] * shape[2]
        self.buffer = torch.empty(0)

    def take(self, count: int) -> Tensor:
        parts = [self.buffer[:count]]
        count -= len(parts[0])
        self.buffer = self.buffer[len(parts[0]) :]
        while count:
            self.buffer = self._piece()
            parts.append(self.buffer[:count])
            count -= len(parts[-1])
            self.buffer = self.buffer[len(parts[-1]) :]
        return torch.cat(parts)

    def skip(self, count: int) -> None:
        while count > len(self.buffer):
            count -= len(self.buffer)
            self.buffer = self._piece()
        self.buffer = self.buffer[count:]

    def _piece(self) -> Tensor:
        """The last 16 numbers of a draw are made anew where it is no multiple of 16: the last piece has at least 16."""
        size = PIECE if self.left >= PIECE + 16 else self.left
        self.left -= size
        return torch.randn(size, generator=self.generator)


def bands(denoise: Denoise, z: Tensor, t: Tensor, y: Tensor, size: int, overlap: int, **cond: Any) -> Iterator[
    tuple[slice, Tensor]
]:  # fmt: skip
    """The tiled estimate of z_0, from the top: (rows, estimate (1, C, rows, W)), each as soon as no tile adds to it.

    z (1, C, H, W) may be overwritten in rows that were given out: no later tile sees them.
    """
    height, width = z.shape[-2:]
    stride = stride_of(size, overlap)
    columns = list(spans(width, size, stride))
    carried: tuple[Tensor, Tensor] | None = None
    for rows, then in pairwise([*spans(height, size, stride), None]):
        assert rows is not None  # None stands behind the last
        total = z.new_zeros(1, z.shape[1], rows.stop - rows.start, width)
        weights = z.new_zeros(rows.stop - rows.start, width)
        if carried is not None:
            shared = carried[0].shape[-2]
            total[..., :shared, :] += carried[0]
            weights[:shared] += carried[1]
        for across in columns:
            seen = light(y[..., rows, across]).to(z.device)
            window = ramp(rows, height, overlap, z)[:, None] * ramp(across, width, overlap, z)
            total[..., across] += denoise(z[..., rows, across], t, image=seen, **cond) * window
            weights[:, across] += window
        ready = (then.start if then is not None else height) - rows.start
        for first in range(0, ready, ROWS):
            part = slice(first, min(first + ROWS, ready))
            yield slice(rows.start + part.start, rows.start + part.stop), total[..., part, :] / weights[part]
        carried = total[..., ready:, :].clone(), weights[ready:].clone()


def restored_in_bands(
    denoise: Denoise,
    process: Process,
    space: Space,
    y: Tensor,
    times: Tensor,
    solver: Multistep,
    generator: torch.Generator,
    *,
    size: int,
    overlap: int,
    device: torch.device,
    **cond: Any,
) -> Tensor:
    """One sample (1, C, H, W), in [0, 1] or levels as y is: `sample` with `tiled`, and less memory.

    Arguments:
        y: the observation (1, C, H, W), float in [0, 1] or uint8, on the CPU or the device.
        generator: of the noise, as `PerSample` has.
        device: where the network is, and the state.
    """
    shape = (int(y.shape[1]), int(y.shape[2]), int(y.shape[3]))
    sigma = process.alpha_sigma(times[0])[1]
    z = torch.randn(shape, generator=generator)[None].to(device)
    z *= expand(sigma, z)
    out = torch.empty_like(y)
    state = solver.init()
    corrected = any(row.correction for row in solver.rows)
    steps = list(pairwise(times))
    for number, (t, s) in enumerate(steps):
        leaving = _Store(y.shape, device, state, corrected)
        draw = Field(generator, shape) if solver.rows[state[0]].noise else None
        for rows, estimate in bands(denoise, z, t, y, size, overlap, **cond):
            part, after = _band(solver, process, z, t, s, state, rows, estimate, draw)
            if number == len(steps) - 1:
                seen = light(y[..., rows, :]).to(device)
                done = space.decode(part, seen).clamp_(0, 1)
                out[..., rows, :] = (levels(done) if out.dtype == torch.uint8 else done).to(out.device)
            else:
                z[..., rows, :] = part
                leaving.put(rows, after)
        state = leaving.state
    return out


def _band(
    solver: Multistep,
    process: Process,
    z: Tensor,
    t: Tensor,
    s: Tensor,
    state: Any,
    rows: slice,
    estimate: Tensor,
    draw: Field | None,
) -> tuple[Tensor, Any]:
    """The solver's own step, on some rows."""
    index, past, kept = state
    cut = tuple(each[..., rows, :] for each in past)
    given: Callable[..., Tensor] = lambda z, t: estimate  # noqa: E731

    def noise(like: Tensor, t: Tensor, s: Tensor) -> Tensor:
        assert draw is not None
        return draw.rows(like.shape[-2]).to(like)

    base = None if kept is None else kept[..., rows, :]
    return solver.step(given, process, z[..., rows, :], t, s, (index, cut, base), noise)


class _Store:
    """A solver's state of the whole image, put together from those of the bands.

    Rows are written over those of the state before, which nobody reads again.
    """

    def __init__(self, shape: torch.Size, device: torch.device, before: Any, corrected: bool) -> None:
        self.shape, self.device, self.corrected = shape, device, corrected
        self.before, self.state = before, before

    def put(self, rows: slice, after: Any) -> None:
        index, past, kept = after
        if rows.start == 0:
            _, old, base = self.before
            new = (torch.empty(self.shape, device=self.device) for _ in range(len(past) - len(old)))
            if self.corrected and base is None:
                base = torch.empty(self.shape, device=self.device)
            self.state = index, (*old[: len(past)], *new), base
        copies = [each.clone() for each in past]  # some are views of what is written over now
        for target, part in zip(self.state[1], copies, strict=True):
            target[..., rows, :] = part
        if self.corrected:
            self.state[2][..., rows, :] = kept
