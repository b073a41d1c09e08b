"""Restore photographs with a mean-reverting model: the settings that a practitioner chooses, and one call.

    denoiser, space = undrift.load("universal")
    restored = restore(denoiser, space, degraded)            # (3, H, W) in [0, 1], any size

`steps` are network evaluations for every solver. `PRESETS` names the usual solvers; any other `Solver` will do.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from . import times
from .denoiser import Denoiser
from .guidance import randomised, tiled
from .large import levels, light, restored_in_bands, streams
from .noise import PerSample
from .prediction import Prediction
from .preset import Preset, chosen, leaping
from .process import Process
from .sample import sample
from .solvers import Ancestral, Consistency, EulerMaruyama, Exponential, Heun
from .space import Pixels, Residual, Space

__all__ = ["END", "PRESETS", "USUAL", "Restored", "moments", "presets", "restore", "seen", "telling"]

USUAL = ("ode-2", 8)
"""Solver and evaluations of a model that is no student."""
START, END = 5.0, 6.5
"""Half log-SNR of the second and the last network input: noise of 0.7 % and of 0.15 % of the range of an image.

The first evaluation, from pure noise, is the mean of all originals that fit the photograph; what follows refines it.
Refining from coarser noise would vary more between samples, and on the bundled model costs both fidelity and
perceptual similarity (docs/results.md).
"""


CAREFUL_END = 4.0
"""Half log-SNR of the last input of a network that predicts noise, whose first estimates are poor: noise of 1.8 %."""


def _in_lambda(process: Process, steps: int) -> Tensor:
    """From pure noise to START at once, uniform in lambda to END, and one step to the data."""
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    low, high = process.half_log_snr(ends).tolist()
    end = min(END, high) if low < END else None
    return times.uniform_lambda(process, steps, start=START if low < START < high else None, end=end)


def _jumping(process: Process, steps: int) -> Tensor:
    """Pure noise, then the starts of N - 1 equal parts of lambda from START to END, each a jump to the data."""
    return leaping(_in_lambda(process, steps + 1))


def _carefully(process: Process, steps: int) -> Tensor:
    """Uniform in lambda from pure noise to CAREFUL_END, and one step to the data."""
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    low, high = process.half_log_snr(ends).tolist()
    return times.uniform_lambda(process, steps, end=min(CAREFUL_END, high) if low < CAREFUL_END else None)


def _jumping_carefully(process: Process, steps: int) -> Tensor:
    return leaping(_carefully(process, steps + 1))


def _halved(process: Process, evaluations: int) -> Tensor:
    """Two evaluations per step, one in the last; no leap, which Heun's trapezium would not survive."""
    return times.karras(process, (evaluations + 1) // 2)


PRESETS: dict[str, Preset] = {
    "ode-1": Preset(Exponential(1), _in_lambda, "DDIM = MR Sampler-ODE-1"),
    "ode-2": Preset(Exponential(2), _in_lambda, "MR Sampler-ODE-2, data prediction"),
    "ode-2c": Preset(Exponential(2, corrector=True), _in_lambda, "ode-2 with the free corrector, order 3"),
    "ode-3": Preset(Exponential(3), _in_lambda, "MR Sampler-ODE-3 with the exact third-order weight"),
    "sde-1": Preset(Exponential(1, tau=1.0), _in_lambda, "MR Sampler-SDE-1"),
    "sde-2": Preset(Exponential(2, tau=1.0), _in_lambda, "MR Sampler-SDE-2, data prediction"),
    "posterior": Preset(Ancestral(), times.uniform, "IR-SDE's posterior sampling, correctly strided"),
    "euler": Preset(EulerMaruyama(), times.uniform, "Euler-Maruyama on the reverse SDE"),
    "heun": Preset(Heun(), _halved, "Heun's method, two evaluations per step"),
    "consistency": Preset(Consistency(), _jumping, "consistency sampling, for students of one or two evaluations"),
}


CAREFUL: dict[Callable[[Process, int], Tensor], Callable[[Process, int], Tensor]] = {
    _in_lambda: _carefully,
    _jumping: _jumping_carefully,
}


def presets(process: Process, prediction: Prediction) -> dict[str, Preset]:
    """`PRESETS`, with grids that suit a model.

    An estimate of z_0 has |out| times the error of the network. Where that is more than 1 at pure noise, as sigma/alpha
    is for one that predicts noise, the first estimate is no image to leap to: the grids then step evenly in lambda.
    """
    t = torch.tensor(process.t_max, dtype=torch.float64)
    if float(prediction.affine(t, *process.alpha_sigma(t))[1].abs()) <= 1:
        return PRESETS
    return {name: replace(preset, grid=CAREFUL.get(preset.grid, preset.grid)) for name, preset in PRESETS.items()}


@final
@dataclass(frozen=True)
class Restored:
    """What came back.

    Arguments:
        image: (3, H, W) in [0, 1], or levels where those were given; the mean where several samples were drawn.
        spread: (1, H, W), the standard deviation over the samples, root mean square over channels; None for one.
        evaluations: network evaluations per sample.
        seconds: wall-clock time of all samples.
    """

    image: Tensor
    spread: Tensor | None
    evaluations: int
    seconds: float


def telling(denoiser: Denoiser, task: str | None, count: int = 1) -> dict[str, Tensor]:
    """What `count` photographs suffer from, as a condition; none for a task of None. ValueError for one unknown."""
    if task is None:
        return {}
    if not denoiser.tasks:
        raise ValueError(f"task {task!r}: this model cannot be told, it judges by itself: leave it out")
    if task not in denoiser.tasks:
        raise ValueError(f"task {task!r}: choose one of {', '.join(denoiser.tasks)}")
    device = next(denoiser.parameters()).device
    return {"label": torch.full((count,), denoiser.tasks.index(task), device=device)}


def seen(denoiser: Denoiser, y: Tensor, contexts: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The contexts, each (B, n), of photographs y (B, 3, H, W): those given, else as the denoiser sees them itself.

    ValueError for a network that wants contexts where neither is there, and for contexts that it does not know.
    """
    wanted: dict[str, int] = getattr(denoiser.network, "contexts", {})
    if contexts is not None:
        if surplus := next((name for name in contexts if name not in wanted), None):
            raise ValueError(f"context {surplus!r}: this network takes {', '.join(wanted) or 'none'}")
        return {name: value.to(y.device) for name, value in contexts.items()}
    if not wanted:
        return {}
    if denoiser.see is None:
        sizes = " and ".join(f"{name} (1, {size})" for name, size in wanted.items())
        raise ValueError(f"this network needs {sizes} of each photograph: give contexts, or convert it with its CLIP")
    each = [denoiser.see(photograph) for photograph in y]
    return {name: torch.stack([one[name] for one in each]).to(y.device) for name in wanted}


def restore(
    denoiser: Denoiser,
    space: Space,
    y: Tensor,
    *,
    steps: int | None = None,
    solver: str | None = None,
    seed: int = 0,
    samples: int = 1,
    task: str | None = None,
    tile: int = 512,
    overlap: int = 64,
    contexts: Mapping[str, Tensor] | None = None,
) -> Restored:
    """Restore one degraded photograph y (3, H, W) in [0, 1], or its 8-bit levels as uint8, of any size.

    Photographs larger than a tile are restored in bands by the solvers that allow it (all but posterior, euler and
    heun, of models without a noise input): see `large` for the memory.

    Arguments:
        steps: network evaluations, at least 1; None for 8, or 2 of a student.
        solver: a name in `PRESETS`; None for "ode-2", or "consistency" for a student.
        seed: of the first sample; sample k has seed + k.
        samples: how many to draw; their mean is nearest to the truth, each single one is sharper.
        task: what the photograph suffers from, one of `denoiser.tasks`; None leaves it to the model to see.
        tile, overlap: images larger than `tile` are estimated in tiles, with one noise field and no seams. Of latent
            codes, their pixels count.
        contexts: what else the network of DA-CLIP wants to know, each (1, n); None for what its own CLIP sees.

    Raises ValueError for values outside these ranges.
    """
    solver, steps = chosen(denoiser, solver, steps, USUAL)
    if solver not in PRESETS:
        raise ValueError(f"solver {solver!r}: choose one of {', '.join(PRESETS)}")
    if steps < 1:
        raise ValueError(f"steps = {steps}: need a whole number of network evaluations, at least 1")
    if samples < 1:
        raise ValueError(f"samples = {samples}: need at least 1")
    if y.ndim != 3 or y.shape[0] != 3:
        raise ValueError(f"image of shape {tuple(y.shape)}: need (3, H, W), values in [0, 1]")
    process = denoiser.process
    preset = presets(process, denoiser.prediction)[solver].of(denoiser)
    grid = preset.grid(process, steps)
    device = next(denoiser.parameters()).device
    began = time.perf_counter()
    plain = isinstance(space, Pixels | Residual) and not denoiser.noise_channels
    planned = streams(preset.solver, process, grid) if plain and max(y.shape[1:]) > tile else None
    wanted = contexts is not None or getattr(denoiser.network, "contexts", {})
    told = telling(denoiser, task) | (seen(denoiser, light(y[None].to(device)), contexts) if wanted else {})
    work = _Counted(denoiser if planned else tiled(denoiser, tile, overlap))

    def draw(number: int) -> Tensor:
        """(3, H, W), on the device; in bands: of the type of y, where that is."""
        noise = PerSample([number])
        if planned is not None:
            return restored_in_bands(
                work, process, space, y[None], grid, planned, noise.generators[0],
                size=tile, overlap=overlap, device=device, **told,
            )[0]  # fmt: skip
        with torch.no_grad():
            observed, coded = space.observed(light(y[None].to(device)))
        given = randomised(work, noise, denoiser.noise_channels)
        return sample(
            given, process, coded, shape=observed.shape, times=grid, solver=preset.solver, noise=noise, y=observed,
            image=observed, **told,
        )[0]  # fmt: skip

    image, variance = moments(draw(seed + k) for k in range(samples))
    spread = None if variance is None else variance.mean(0, keepdim=True).sqrt().cpu()
    image = levels(image) if y.dtype == torch.uint8 and image.dtype != torch.uint8 else image
    return Restored(image.cpu(), spread, _per_sample(work, samples, steps, planned), time.perf_counter() - began)


def _per_sample(work: "_Counted", samples: int, steps: int, banded: object) -> int:
    """Network evaluations; in bands, where each tile is a call, as planned."""
    return steps if banded else work.calls // samples


def moments(drawn: Iterable[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Mean and variance of samples, value by value (Welford: no set is ever held); of one, itself as it is and None."""
    found = iter(drawn)
    mean, square, count = next(found), None, 1
    for x in map(light, found):
        if square is None:
            mean, square = light(mean).clone(), torch.zeros_like(x)
        count += 1
        change = x - mean
        mean += change / count
        square += change * (x - mean)
    return mean, None if square is None else square / (count - 1)


class _Counted:
    """A denoiser that counts its evaluations."""

    def __init__(self, denoise: Callable[..., Tensor]) -> None:
        self.denoise, self.calls = denoise, 0

    def __call__(self, z: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        self.calls += 1
        return self.denoise(z, t, **cond)
