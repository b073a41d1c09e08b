"""Images from noise with a trained generator: the solvers that people name, and one call.

    denoiser, space = undrift.load("fashion")
    grey = (1, 28, 28)
    for images in generate(denoiser, denoiser.process, space, shape=grey, seeds=range(16)): ...

`steps` are network evaluations for every solver with fixed steps. `PRESETS` names the usual ones; any other
`Solver` will do with `sample`.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from . import times
from .denoiser import Denoise
from .noise import PerSample
from .preset import Preset
from .process import Process
from .sample import sample
from .solvers import Ancestral, Corrected, EulerMaruyama, Exponential, Heun, Langevin, ReverseDiffusion
from .space import Space

__all__ = ["PRESETS", "generate"]

END = 4.0
"""Half log-SNR of the last network input, noise of 1.8 % of the data: finer detail than 8 bits of contrast show."""


def _in_lambda(process: Process, steps: int) -> Tensor:
    """Uniform in lambda to END, and one step to the data; to the end of the process where that comes first."""
    high = float(process.half_log_snr(torch.tensor(process.t_min, dtype=torch.float64)))
    return times.uniform_lambda(process, steps, end=END if high > END else None)


def _halved(process: Process, evaluations: int) -> Tensor:
    """Two evaluations per step, one in the last."""
    return _in_lambda(process, (evaluations + 1) // 2)


def _paired(process: Process, evaluations: int) -> Tensor:
    """Uniform in t; a corrector's evaluation after each step but the last, which leads to the data."""
    return times.uniform(process, (evaluations + 1) // 2)


PRESETS: dict[str, Preset] = {
    "ode-1": Preset(Exponential(1), _in_lambda, "DDIM"),
    "ode-2": Preset(Exponential(2), _in_lambda, "DPM-Solver++(2M), exact second-order weights"),
    "ode-2c": Preset(Exponential(2, corrector=True), _in_lambda, "ode-2 with the free corrector, order 3"),
    "ode-3": Preset(Exponential(3), _in_lambda, "DPM-Solver++ of order 3"),
    "sde-1": Preset(Exponential(1, tau=1.0), _in_lambda, "the posterior step, uniform in lambda"),
    "sde-2": Preset(Exponential(2, tau=1.0), _in_lambda, "SDE-DPM-Solver++(2M)"),
    "euler": Preset(EulerMaruyama(), times.uniform, "Euler-Maruyama on the reverse SDE"),
    "reverse": Preset(ReverseDiffusion(), times.uniform, "Song's reverse diffusion predictor"),
    "ancestral": Preset(Ancestral(), times.uniform, "DDPM's posterior sampling"),
    "pc": Preset(
        Corrected(ReverseDiffusion(), Langevin(snr=0.1)),
        _paired,
        "Song's predictor-corrector, two evaluations per step",
    ),
    "heun": Preset(Heun(), _halved, "Heun's method, two evaluations per step"),
}


def generate(
    denoise: Denoise,
    process: Process,
    space: Space,
    *,
    shape: Sequence[int],
    seeds: Iterable[int],
    steps: int = 10,
    solver: str = "ode-2c",
    label: Tensor | None = None,
    temperature: float = 1.0,
    batch: int = 100,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Images (b, C, H, W) in [0, 1], in batches of at most `batch`, one image per seed.

    Arguments:
        denoise: a model, or what `guidance` made of it.
        shape: (C, H, W).
        seeds: image i depends on seeds[i] and label[i] alone, not on the batch.
        steps: network evaluations, at least 1.
        solver: a name in `PRESETS`.
        label: (N,) integers, one per seed; None for a model without classes, or for "no class".
        device: where the model is.
        temperature: what the first noise is multiplied by; below 1 is nearer to the typical, and less various.

    Raises ValueError for values outside these ranges.
    """
    seeds = list(seeds)
    if solver not in PRESETS:
        raise ValueError(f"solver {solver!r}: choose one of {', '.join(PRESETS)}")
    if label is not None and len(label) != len(seeds):
        raise ValueError(f"{len(label)} labels for {len(seeds)} seeds: give one each")
    if batch < 1:
        raise ValueError(f"batch = {batch}: need at least 1 image")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature = {temperature}: need a positive number, 1 for the noise as it is")
    preset = PRESETS[solver]
    grid = preset.grid(process, steps)
    for first in range(0, len(seeds), batch):
        noise = PerSample(seeds[first : first + batch])
        like = torch.zeros(len(noise.seeds), *shape, device=device)
        start = temperature * float(process.alpha_sigma(grid[0])[1]) * noise(like, grid[0], grid[0])
        given = {} if label is None else {"label": label[first : first + batch].to(device)}
        yield sample(
            denoise, process, space, shape=start.shape, times=grid, solver=preset.solver, noise=noise, start=start,
            **given,
        )  # fmt: skip
