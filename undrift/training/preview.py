"""How the run is doing, to look at: held-out photographs degraded, restored, clean, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from ..data import generator, read, write
from ..data.batch import Degrade
from ..data.crop import central
from ..denoiser import Denoiser
from ..evaluation import Setting, restored
from ..restoration import USUAL
from ..space import Space

__all__ = ["Preview", "Sheet"]


@final
@dataclass(frozen=True)
class Sheet:
    """Fixed pairs and their restoration: one row per task; columns degraded, restored, clean.

    Arguments:
        x, y: clean and degraded, (B, 3, H, W).
        names: of the rows.
        steps: evaluations.
        folder: where `step-<n>.png` goes.
    """

    x: Tensor
    y: Tensor
    names: tuple[str, ...]
    steps: int
    folder: Path

    def __call__(self, denoiser: Denoiser, space: Space, step: int) -> dict[str, float]:
        """Write the picture; PSNR per row and their mean, before and after, in dB."""
        out = self.restored(denoiser, space, Setting(USUAL[0], self.steps))
        columns = torch.cat([self.y, out, self.x], dim=3)
        self.folder.mkdir(parents=True, exist_ok=True)
        write(self.folder / f"step-{step:08d}.png", torch.cat(list(columns), dim=1))
        before, after = _psnr(self.y, self.x), _psnr(out, self.x)
        values = {f"preview/{name}": value for name, value in zip(self.names, after.tolist(), strict=True)}
        means = {"preview/degraded": before.mean().item(), "preview/restored": after.mean().item()}
        return {name: round(value, 3) for name, value in (means | values).items()}

    def restored(self, denoiser: Denoiser, space: Space, setting: Setting) -> Tensor:
        """All rows, (B, 3, H, W), each from noise of its own; a model that knows its task is told it."""
        rows = zip(self.y.split(1), self.names, strict=True)
        return torch.cat([restored(denoiser, space, y, setting, [[i]], name) for i, (y, name) in enumerate(rows)])


def _psnr(a: Tensor, b: Tensor) -> Tensor:
    return -10 * (a - b).square().flatten(1).mean(1).clamp(min=1e-10).log10()


@final
@dataclass(frozen=True)
class Preview:
    """The [preview] of a recipe.

    Arguments:
        every: training steps between two sheets; 0 for none.
        steps: evaluations per restoration; of a student, those that decide which checkpoint is best.
        size: side of the central square that is shown.
        features, samples: of a distillation's panel, see `views.Generated`.
    """

    every: int = 500
    steps: int = 8
    size: int = 160
    features: str = ""
    samples: int = 500

    def __post_init__(self) -> None:
        if self.samples < 10:
            raise ValueError(f"[preview] samples = {self.samples}: need at least 10")
        if self.every < 0 or self.steps < 1 or self.size < 1:
            raise ValueError(
                f"[preview] every = {self.every}, steps = {self.steps}, size = {self.size}: need >= 0, 1, 1"
            )

    def sheet(
        self, photographs: Sequence[Path | np.ndarray], tasks: Mapping[str, Degrade], folder: Path
    ) -> Sheet | None:
        """One held-out photograph per task, spread over the list; None without photographs or a number of steps."""
        if not (self.every and len(photographs)):
            return None
        clean, degraded = [], []
        for i, (name, task) in enumerate(tasks.items()):
            x = _square(_pixels(photographs[i * len(photographs) // len(tasks)]), self.size)
            clean.append(x)
            degraded.append(task(x, generator("preview", name)))
        return Sheet(torch.stack(clean), torch.stack(degraded), tuple(tasks), self.steps, folder)


def _pixels(photograph: Path | np.ndarray) -> Tensor:
    """(3, H, W) in [0, 1] of a file or of (H, W, 3) uint8."""
    if isinstance(photograph, Path):
        return read(photograph).pixels
    return torch.from_numpy(np.ascontiguousarray(photograph.transpose(2, 0, 1))).float() / 255


def _square(image: Tensor, size: int) -> Tensor:
    """The central square; a smaller photograph is enlarged to it."""
    short = min(image.shape[1:])
    if short < size:
        scale = size / short
        sides = [max(size, round(side * scale)) for side in image.shape[1:]]
        image = torch.nn.functional.interpolate(image[None], sides, mode="bicubic", antialias=True)[0].clamp(0, 1)
    return central(image, size).contiguous()
