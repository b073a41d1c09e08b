"""A teacher's paths, made once, for a distillation that passes over them again and again.

Most of a step of `methods.Scott` is the teacher's, and its states do not change, so they can be kept. A folder of
files, each of up to 1,000 paths: `states` (n, N + 1, ...) float16, at the nodes of the
student's grid from pure noise to data, and their `label` (n,).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..data import Batch, generator
from ..data.batch import rows
from ..methods import Scott
from ..noise import PerSample
from .files import replacing

__all__ = ["Paths", "read_paths", "teacher_paths"]

CHUNK = 1_000


@final
@dataclass(frozen=True)
class Paths:
    """States (n, N + 1, ...) float16 of n paths, and their classes (n,), all 0 where there are none."""

    states: Tensor
    label: Tensor

    def beside(
        self, batches: Iterator[Batch], size: int, seed: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """The batches, which begin with number `start`, each row with a path of its class: a function of (seed, k).

        Raises ValueError for a class of which there is none.
        """
        homes = [(self.label == k).nonzero()[:, 0] for k in range(int(self.label.max()) + 1)]
        mine = rows(size, rank, world)
        for step, batch in enumerate(batches, start):
            share = torch.rand(size, generator=generator(seed, "paths", step), dtype=torch.float64)[
                mine.start : mine.stop
            ]
            label = batch.cond.get("label", torch.zeros(len(batch.x), dtype=torch.long))
            if int(label.max()) >= len(homes) or not all(len(homes[k]) for k in label.tolist()):
                raise ValueError(f"method.paths: none for class {int(label.max())}: make more, or set data.drop=0")
            chosen = [homes[k][int(u * len(homes[k]))] for k, u in zip(label.tolist(), share.tolist(), strict=True)]
            yield Batch(batch.x, batch.y, batch.cond, self.states[torch.stack(chosen)].float())


def teacher_paths(
    method: Scott,
    folder: Path,
    count: int,
    shape: tuple[int, ...],
    classes: int,
    made: Mapping[str, Any],
    *,
    rank: int = 0,
    world: int = 1,
    batch: int = 100,
    device: torch.device | str = "cpu",
) -> None:
    """Make what is missing of `count` paths in `folder`: every file whole or not at all, process `rank`'s of `world`.

    Arguments:
        shape: of an image, (C, H, W).
        classes: taken in turn; 0 for a teacher that is told none.
        made: what the paths depend on beside their number; written into every file and compared.

    Path i depends on i and its class alone. Raises ValueError, in one line, for files of other paths.
    """
    told = json.dumps(dict(made), sort_keys=True)
    wanted = {_file(folder, first): (first, min(CHUNK, count - first)) for first in range(0, count, CHUNK)}
    there = {file: _held(file, told) for file in wanted if file.is_file()}
    mine = list(wanted.items())[rank::world]
    missing = [(file, first, size) for file, (first, size) in mine if there.get(file, 0) < size]
    like = method.space.encode(torch.zeros(1, *shape, device=device)).expand(batch, *[-1] * len(shape))
    t = method.grid[0]
    total = sum(size for *_, size in missing)
    with tqdm(total=total, unit="path", desc="teacher", disable=None if rank == 0 else True) as bar:
        for file, begin, size in missing:
            label, states = torch.arange(begin, begin + size) % max(classes, 1), list[Tensor]()
            for first in range(0, size, batch):
                numbers = range(begin + first, begin + min(first + batch, size))
                noise = PerSample([generator("path", i).initial_seed() for i in numbers])
                z = method.process.alpha_sigma(t)[1].to(like) * noise(like[: len(numbers)], t, t)
                cond = {"label": label[first : first + batch].to(device)} if classes else {}
                states.append(method.path(z, noise, **cond).half().cpu())
                bar.update(len(numbers))
            with replacing(file) as part:
                save_file({"states": torch.cat(states), "label": label}, part, {"made": told})


def read_paths(folder: Path, count: int) -> Paths:
    """Those that `teacher_paths` made."""
    states, label = list[Tensor](), list[Tensor]()
    for first in range(0, count, CHUNK):
        with safe_open(_file(folder, first), "pt") as file:
            size = count - first
            states.append(file.get_slice("states")[:size])
            label.append(file.get_slice("label")[:size])
    return Paths(torch.cat(states), torch.cat(label))


def _file(folder: Path, first: int) -> Path:
    return folder / f"{first:08d}.safetensors"


def _held(file: Path, told: str) -> int:
    """How many paths there are."""
    try:
        with safe_open(file, "pt") as stored:
            found, held = (
                (stored.metadata() or {}).get("made", "nothing known"),
                stored.get_slice("label").get_shape()[0],
            )
    except Exception as error:  # a damaged file raises whatever its first wrong byte leads to
        raise ValueError(f"{file}: not paths of a teacher ({' '.join(str(error).split())}): remove it") from None
    if found != told:
        raise ValueError(f"{file}: holds paths of {found}, not of {told}: remove them, or set method.paths_in")
    return int(held)
