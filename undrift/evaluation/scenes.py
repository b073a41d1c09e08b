"""The ten tasks on the five bundled photographs, two each: what `undrift demo` restores."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import final

import torch.nn.functional as F
from torch import Tensor

from ..data import generator, read
from ..degradations import TASKS

__all__ = ["PHOTOGRAPHS", "Scene", "scenes"]

# Each task meets a photograph on which it can be seen: snow before a dark ground, JPEG blocks in a smooth one.
SUBJECTS: dict[str, str] = {
    "motion-blurry": "alfred-schrock",
    "hazy": "james-yarema",
    "jpeg-compressed": "rachel-hisko",
    "low-light": "neha-deshmukh",
    "noisy": "david-clode",
    "raindrop": "neha-deshmukh",
    "rainy": "david-clode",
    "shadowed": "james-yarema",
    "snowy": "alfred-schrock",
    "uncompleted": "rachel-hisko",
}
PHOTOGRAPHS: dict[str, str] = {name: name.replace("-", " ").title() for name in sorted(set(SUBJECTS.values()))}
"""File stem in `undrift/photographs` -> photographer."""


@final
@dataclass(frozen=True)
class Scene:
    """A task on a photograph: clean x and degraded y, (3, size, size) in [0, 1]."""

    task: str
    photographer: str
    x: Tensor
    y: Tensor


def scenes(size: int = 160, seed: int = 0) -> list[Scene]:
    """All ten, in the order of the tasks; the degradations as `data.Degraded` draws them.

    Arguments:
        size: side to which the photographs (256 x 256) are scaled, 32 to 256.
        seed: of the degradations.
    """
    if not 32 <= size <= 256:
        raise ValueError(f"size = {size}: the bundled photographs are 256 x 256, need 32 to 256")
    photographs = {name: _scaled(name, size) for name in PHOTOGRAPHS}
    numbers = {name: i for i, name in enumerate(PHOTOGRAPHS)}

    def scene(task: str, name: str) -> Scene:
        x = photographs[name]
        return Scene(task, PHOTOGRAPHS[name], x, TASKS[task](x, generator(seed, numbers[name], task)))

    return [scene(task, name) for task, name in SUBJECTS.items()]


def _scaled(name: str, size: int) -> Tensor:
    x = read(Path(str(resources.files("undrift") / "photographs" / f"{name}.jpg"))).pixels
    if x.shape[-1] == size:
        return x
    return F.interpolate(x[None], size=(size, size), mode="bicubic", antialias=True)[0].clamp(0, 1)
