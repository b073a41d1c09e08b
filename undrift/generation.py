"""Images from noise with a trained generator: the solvers that people name, and one call.

    denoiser, space = undrift.load("fashion")
    grey = (1, 28, 28)
    for images in generate(denoiser, denoiser.process, space, shape=grey, seeds=range(16)): ...

`steps` are network evaluations for every solver with fixed steps. `PRESETS` names the usual ones; any other
`Solver` will do with `sample`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from . import times
from .denoiser import Denoise, check
from .guidance import randomised
from .noise import PerSample
from .preset import Preset, chosen, leaping
from .process import Process
from .sample import sample
from .solvers import Ancestral, Consistency, Corrected, EulerMaruyama, Exponential, Heun, Langevin, ReverseDiffusion
from .space import Space

__all__ = ["PRESETS", "USUAL", "Blocks", "generate", "width"]

USUAL = ("ode-2c", 10)
"""Solver and evaluations of a model that is no student."""
END = 4.0
"""Half log-SNR of the last network input, noise of 1.8 % of the data: finer detail than 8 bits of contrast show."""


def in_lambda(process: Process, steps: int, end: float = END, start: float | None = None) -> Tensor:
    """Uniform in lambda to `end`, and one step to the data; to the end of the process where that comes first.

    With `start`, the first step leads from pure noise straight there.
    """
    high = float(process.half_log_snr(torch.tensor(process.t_min, dtype=torch.float64)))
    return times.uniform_lambda(process, steps, end=end if high > end else None, start=start)


def _halved(process: Process, evaluations: int) -> Tensor:
    """Two evaluations per step, one in the last."""
    return in_lambda(process, (evaluations + 1) // 2)


def _paired(process: Process, evaluations: int) -> Tensor:
    """Uniform in t; a corrector's evaluation after each step but the last, which leads to the data."""
    return times.uniform(process, (evaluations + 1) // 2)


def _jumping(process: Process, steps: int) -> Tensor:
    """The starts of N equal parts of lambda up to END, each followed by the data: what students are trained on."""
    return leaping(in_lambda(process, steps + 1))


PRESETS: dict[str, Preset] = {
    "ode-1": Preset(Exponential(1), in_lambda, "DDIM"),
    "ode-2": Preset(Exponential(2), in_lambda, "DPM-Solver++(2M), exact second-order weights"),
    "ode-2c": Preset(Exponential(2, corrector=True), in_lambda, "ode-2 with the free corrector, order 3"),
    "ode-3": Preset(Exponential(3), in_lambda, "DPM-Solver++ of order 3"),
    "sde-1": Preset(Exponential(1, tau=1.0), in_lambda, "the posterior step, uniform in lambda"),
    "sde-2": Preset(Exponential(2, tau=1.0), in_lambda, "SDE-DPM-Solver++(2M)"),
    "euler": Preset(EulerMaruyama(), times.uniform, "Euler-Maruyama on the reverse SDE"),
    "reverse": Preset(ReverseDiffusion(), times.uniform, "Song's reverse diffusion predictor"),
    "ancestral": Preset(Ancestral(), times.uniform, "DDPM's posterior sampling"),
    "pc": Preset(
        Corrected(ReverseDiffusion(), Langevin(snr=0.1)),
        _paired,
        "Song's predictor-corrector, two evaluations per step",
    ),
    "heun": Preset(Heun(), _halved, "Heun's method, two evaluations per step"),
    "consistency": Preset(Consistency(), _jumping, "consistency sampling, for students of one to four evaluations"),
}


def generate(
    denoise: Denoise,
    process: Process,
    space: Space,
    *,
    shape: Sequence[int],
    seeds: Iterable[int],
    steps: int | None = None,
    solver: str | None = None,
    grid: Tensor | None = None,
    label: Tensor | None = None,
    temperature: float = 1.0,
    batch: int = 100,
    device: torch.device | str = "cpu",
    noise_channels: int | None = None,
    each: Mapping[str, Tensor] | None = None,
    **cond: Any,
) -> Iterator[Tensor]:
    """Images (b, C, H, W) in [0, 1], in batches of at most `batch`, one image per seed.

    Arguments:
        denoise: a model, or what `guidance` made of it.
        shape: (C, H, W).
        seeds: image i depends on seeds[i] and label[i] alone, not on the batch.
        steps: network evaluations, at least 1; None for 10, or 2 of a student.
        solver: a name in `PRESETS`; None for "ode-2c", or "consistency" for a student.
        grid: the times, (evaluations + 1,), instead of the solver's own for `steps`.
        label: (N,) integers, one per seed; None for a model without classes, or for "no class".
        device: where the model is.
        temperature: what the first noise is multiplied by; below 1 is nearer to the typical, and less various.
        noise_channels: of the noise that a student wants at each evaluation; None for what `denoise` says of itself.
        each: further conditions of one row per seed (N, ...), as the `text` of prompts.
        cond: what else the network is told, the same for all, as `guidance=torch.tensor(3.0)`.

    Raises ValueError for values outside these ranges.
    """
    seeds = list(seeds)
    solver, steps = chosen(denoise, solver, steps, USUAL)
    if solver not in PRESETS:
        raise ValueError(f"solver {solver!r}: choose one of {', '.join(PRESETS)}")
    if label is not None and (label := torch.as_tensor(label)).shape != (len(seeds),):
        raise ValueError(f"{label.numel()} labels of shape {tuple(label.shape)} for {len(seeds)} seeds: give one each")
    told = dict(each or {}) | ({} if label is None else {"label": label})
    for name, rows in told.items():
        if len(rows) != len(seeds):
            raise ValueError(f"condition {name!r} of {len(rows)} rows for {len(seeds)} seeds: give one row each")
    check(denoise, (len(seeds), *shape), {"label": label})
    if batch < 1:
        raise ValueError(f"batch = {batch}: need at least 1 image")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature = {temperature}: need a positive number, 1 for the noise as it is")
    preset = PRESETS[solver].of(denoise)
    grid = preset.grid(process, steps) if grid is None else grid
    cond = {key: value.to(device) if torch.is_tensor(value) else value for key, value in cond.items()}
    channels = getattr(denoise, "noise_channels", 0) if noise_channels is None else noise_channels
    for first in range(0, len(seeds), batch):
        noise = PerSample(seeds[first : first + batch])
        like = torch.zeros(len(noise.seeds), *shape, device=device)
        start = temperature * float(process.alpha_sigma(grid[0])[1]) * noise(like, grid[0], grid[0])
        given = {name: rows[first : first + batch].to(device) for name, rows in told.items()}
        yield sample(
            randomised(denoise, noise, channels), process, space, shape=start.shape, times=grid, solver=preset.solver,
            noise=noise, start=start, **given, **cond,
        )  # fmt: skip


def width(shape: Sequence[int], device: torch.device | str = "cpu") -> int:
    """How many images of `shape` (C, H, W) a network sees at once in `Blocks`: a matter of size and device alone."""
    pixels, most = (1 << 14, 16) if torch.device(device).type == "cpu" else (1 << 20, 256)
    return max(1, min(most, pixels // (shape[-1] * shape[-2])))


@final
class Blocks:
    """Images by number, bit for bit the same whatever others are wanted with them.

    A network's sums depend, in their last bits, on how many images it sees and at which place. So image i is always
    made in the block of numbers i - i mod w .. + w, whoever asks for it; what nobody wants of a block is dropped. The
    last block is kept, for those who ask in order.

    Arguments:
        width: w, of `width`.
        make: the images (w, C, H, W) of a whole block of numbers.
    """

    def __init__(self, width: int, make: Callable[[range], Tensor]) -> None:
        self.width, self.make = width, make
        self.kept: tuple[int, Tensor] | None = None

    def __call__(self, numbers: Iterable[int]) -> Iterator[Tensor]:
        """(C, H, W) each."""
        for number in numbers:
            block, place = divmod(number, self.width)
            if self.kept is None or self.kept[0] != block:
                self.kept = None  # before there are two
                self.kept = block, self.make(range(block * self.width, (block + 1) * self.width))
            yield self.kept[1][place]
