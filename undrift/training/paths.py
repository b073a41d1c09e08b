"""A teacher's paths, made once, for a distillation that passes over them again and again.

Most of a step of `methods.Scott` is the teacher's, and its states do not change, so they can be kept. A folder of
files, each of up to 250 paths: `states` (n, N + 1, ...) float16, at the nodes of the student's grid from pure noise to
data, and their `label` (n,).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from ..data import Batch, generator
from ..data.batch import rows
from ..methods import Scott
from ..metrics.features import fingerprint
from ..noise import PerSample
from ..registry import describe
from .files import replacing

__all__ = ["Paths", "read_paths", "teacher_paths"]

CHUNK = 250
MOST = 64 * 10**9


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
        mine = list(rows(size, rank, world))
        for step, batch in enumerate(batches, start):
            place = torch.rand(size, generator=generator(seed, "paths", step), dtype=torch.float64)
            label = batch.cond.get("label", torch.zeros(len(batch.x), dtype=torch.long))
            if lacking := [k for k in label.tolist() if k >= len(homes) or not len(homes[k])]:
                raise ValueError(f"method.paths = {len(self.label)}: none of class {lacking[0]}, which the data have")
            chosen = [
                homes[k][int(u * len(homes[k]))] for k, u in zip(label.tolist(), place[mine].tolist(), strict=True)
            ]
            yield Batch(batch.x, batch.y, batch.cond, self.states[torch.stack(chosen)].float())


def teacher_paths(
    method: Scott,
    folder: Path,
    count: int,
    shape: tuple[int, ...],
    classes: int,
    *,
    rank: int = 0,
    world: int = 1,
    batch: int = 50,
    device: torch.device | str = "cpu",
) -> None:
    """Make what is missing of `count` paths in `folder`: every file whole or not at all, process `rank`'s of `world`.

    Arguments:
        shape: of an image, (C, H, W).
        classes: taken in turn; 0 for a teacher that is told none.

    Path i depends on i, its class, the teacher, its solver and the times alone, which are written into every file and
    compared. Raises ValueError, in one line, for files of other paths, for more than 64 GB of them, and where the
    teacher's states are no numbers; OSError for a folder that cannot be.
    """
    made = _made(method, shape, classes)
    like = method.space.encode(torch.zeros(1, *shape, device=device)).expand(batch, *[-1] * len(shape))
    steps, size = len(method.jumps.whole()) - 1, 2 * count * len(method.grid) * like[0].numel()
    if size > MOST:
        raise ValueError(f"method.paths = {count}: {size / 1e9:,.0f} GB: lower it, or method.nodes, which are all kept")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"method.paths_in = {folder}: need a folder, and this is a file")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {_file(folder, first): (first, min(CHUNK, count - first)) for first in range(0, count, CHUNK)}
    there = {file: _held(file, made) for file in wanted if file.exists()}
    mine = list(wanted.items())[rank::world]  # not of what is missing: another process may be done with some of it
    missing = [(file, first, many) for file, (first, many) in mine if there.get(file, 0) < many]
    if missing and rank == 0:
        tqdm.write(f"{count:,} paths of the teacher, {size / 1e6:,.0f} MB in {folder}: {steps} evaluations for each")
    total, t = sum(many for *_, many in missing), method.grid[0]
    with tqdm(total=total, unit="path", desc="teacher", disable=None if rank == 0 else True) as bar:
        for file, begin, many in missing:
            label = torch.arange(begin, begin + many) % max(classes, 1)
            states = torch.empty(many, len(method.grid), *like.shape[1:], dtype=torch.float16)
            for first in range(0, many, batch):
                numbers = range(begin + first, begin + min(first + batch, many))
                noise = PerSample([generator("path", i).initial_seed() for i in numbers])
                z = method.process.alpha_sigma(t)[1].to(like) * noise(like[: len(numbers)], t, t)
                cond = {"label": label[first : first + batch].to(device)} if classes else {}
                states[first : first + batch] = method.path(z, noise, **cond)
                bar.update(len(numbers))
            if not states.isfinite().all():
                raise ValueError(f"method.paths: the teacher's states of {begin} and on are no numbers in float16")
            with replacing(file) as part:
                save_file({"states": states, "label": label}, part, {"made": json.dumps(made)})


def read_paths(folder: Path, count: int) -> Paths:
    """Those that `teacher_paths` made."""
    states, label = torch.empty(0), torch.empty(count, dtype=torch.long)
    for first in range(0, count, CHUNK):
        with safe_open(_file(folder, first), "pt") as file:
            rows = slice(first, min(first + CHUNK, count))
            part = file.get_slice("states")[: rows.stop - first]
            states = states if first else part.new_empty(count, *part.shape[1:])  # all at once: no moment holds two
            states[rows], label[rows] = part, file.get_slice("label")[: rows.stop - first]
    return Paths(states, label)


def _made(method: Scott, shape: Sequence[int], classes: int) -> dict[str, Any]:
    """What the paths depend on beside their number; the teacher by its weights, for a name may come to mean others."""
    weights = fingerprint(method.teacher) if isinstance(method.teacher, nn.Module) else ""
    return {
        "teacher": weights, "solver": describe(method.solver), "times": method.jumps.whole().tolist(),
        "nodes": method.grid.tolist(), "shape": list(shape), "classes": classes,
    }  # fmt: skip


def _file(folder: Path, first: int) -> Path:
    return folder / f"{first:08d}.safetensors"


def _held(file: Path, made: Mapping[str, Any]) -> int:
    """How many paths there are."""
    try:
        with safe_open(file, "pt") as stored:
            found, held = json.loads(stored.metadata()["made"]), stored.get_slice("label").get_shape()[0]
    except Exception as error:  # a damaged file raises whatever its first wrong byte leads to
        raise ValueError(f"{file}: not paths of a teacher ({' '.join(str(error).split())}): remove it") from None
    if other := [key for key in made if found.get(key) != made[key]]:
        raise ValueError(f"{file}: paths of another {', '.join(other)}: choose another folder, method.paths_in=FOLDER")
    return int(held)
