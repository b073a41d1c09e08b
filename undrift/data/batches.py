"""The training stream: endless batches of degraded crops, each a pure function of (seed, step).

    image -> square of random size, resized to the canvas -> flip, quarter turns -> degrade -> crops

The canvas is larger than the crop, so that blur, rain and shadows meet no artificial border, and several
crops share one degradation, which is most of the cost. Batch k depends neither on the worker that makes it
nor on the batches before it: ``start=k`` resumes exactly. Nor do its rows depend on how many processes share it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import Dataset

from .batch import Batch, Degrade, rows
from .collection import Pictures
from .image import find_images, read
from .loader import loaded
from .seeds import generator

__all__ = ["Crops", "Images", "load", "restoration_batches"]

Images: TypeAlias = Sequence[np.ndarray] | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def load(images: Images) -> list[np.ndarray]:
    """Images held in memory as (H, W, 3) uint8: arrays pass through, files and folders are decoded once."""
    if not isinstance(images, str | os.PathLike) and len(images) and isinstance(images[0], np.ndarray):
        return list(images)  # type: ignore[arg-type]
    return [_bytes(read(path).pixels) for path in find_images(images)]  # type: ignore[arg-type]


def _bytes(pixels: Tensor) -> np.ndarray:
    return np.ascontiguousarray(pixels.mul(255).round_().byte().permute(1, 2, 0).numpy())


def _uniform(rng: Generator) -> float:
    return torch.rand((), generator=rng, dtype=torch.float64).item()


def _below(n: int, rng: Generator) -> int:
    return int(torch.randint(n, (), generator=rng).item())


@dataclass(frozen=True)
class Crops(Dataset[Batch]):
    """``crops[k]`` is batch k of the stream; arguments as in ``restoration_batches``."""

    images: Sequence[np.ndarray]
    tasks: Mapping[str, Degrade]
    batch: int
    crop: int
    seed: int
    weights: Mapping[str, float] = field(default_factory=dict)
    crops_per_image: int = 2
    canvas: int = 0
    zoom: float = 1.0
    tone: float = 0.0
    distractors: Mapping[str, Degrade] = field(default_factory=dict)
    distract: float = 0.0
    told: float = 0.0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not (self.images and self.tasks):
            raise ValueError(f"nothing to train on: {len(self.images)} images and {len(self.tasks)} tasks")
        for name in ("batch", "crop", "crops_per_image", "world"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected at least 1")
        if not self.zoom >= 1:
            raise ValueError(f"zoom = {self.zoom}: expected at least 1, how far a photograph may be enlarged")
        if not 0 <= self.tone <= 1:
            raise ValueError(f"tone = {self.tone}: expected a strength from 0 to 1")
        for name in ("distract", "told"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: expected a share from 0 to 1")
        if unknown := sorted(set(self.weights) - set(self.tasks)):
            raise ValueError(f"weights for unknown tasks {unknown}: the tasks are {', '.join(self.tasks)}")
        if isinstance(self.images, Pictures):  # decoded when asked for; too small ones are passed over
            return
        smallest = min(min(image.shape[:2]) for image in self.images)
        if smallest < self.crop:
            raise ValueError(
                f"crop = {self.crop} but the smallest image side is {smallest}: lower crop or leave it out"
            )

    def __getitem__(self, step: int) -> Batch:
        mine = rows(self.batch, self.rank, self.world)
        names = self._tasks_of(step, -(-self.batch // self.crops_per_image))
        groups = range(mine.start // self.crops_per_image, -(-mine.stop // self.crops_per_image))
        made = [each for g in groups for each in self._group(step, g, names[g])]
        before = mine.start - groups.start * self.crops_per_image  # of another process, from the same photograph
        y, x, label = (torch.stack(part[before : before + len(mine)]) for part in zip(*made, strict=True))
        return Batch(x, y, {"image": y, "label": label} if self.told else {"image": y})

    def _tasks_of(self, step: int, groups: int) -> list[str]:
        """Systematic sampling: every batch has each task in proportion to its weight, to within one group."""
        weights = torch.tensor([self.weights.get(name, 1.0) for name in self.tasks], dtype=torch.float64)
        shift = _uniform(generator(self.seed, step))
        points = (torch.arange(groups, dtype=torch.float64) + shift) / groups
        chosen = torch.searchsorted(weights.cumsum(0) / weights.sum(), points, right=True)
        names = list(self.tasks)
        return [names[min(int(i), len(names) - 1)] for i in chosen]

    def _group(self, step: int, index: int, task: str) -> list[tuple[Tensor, Tensor, Tensor]]:
        """``crops_per_image`` times (y, x, label) from one image under one degradation."""
        rng = generator(self.seed, step, index)
        x = self._view(self.images[_below(len(self.images), rng)], rng)
        for name, degrade in self.distractors.items() if self.distract else ():
            if name != task and _uniform(rng) < self.distract:
                x = degrade(x, rng)
        y = self.tasks[task](x, rng)
        crops = [self._crop(y, x, rng) for _ in range(self.crops_per_image)]
        told = self.told > 0 and _uniform(rng) < self.told
        label = torch.tensor(list(self.tasks).index(task) if told else len(self.tasks))
        return [(*crop, label) for crop in crops]

    def _view(self, image: np.ndarray, rng: Generator) -> Tensor:
        """(3, canvas, canvas) at native or (half of the time) another scale, turned, mirrored and toned."""
        height, width = image.shape[:2]
        side = min(self.canvas or self.crop * 3 // 2, height, width)
        source = side
        if _uniform(rng) < 0.5:  # log-uniform in scale, from zoom times enlarged to the whole image
            smallest = side / self.zoom
            source = round(smallest * (min(height, width) / smallest) ** _uniform(rng))
        top, left = _below(height - source + 1, rng), _below(width - source + 1, rng)
        patch = image[top : top + source, left : left + source]
        if source != side:
            patch = np.asarray(Image.fromarray(patch).resize((side, side), Image.Resampling.BICUBIC))
        turns = _below(8, rng)
        patch = np.rot90(patch[:, ::-1] if turns >= 4 else patch, turns % 4)
        x = torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1))).float().div_(255)
        return toned(x, self.tone, rng) if self.tone else x

    def _crop(self, y: Tensor, x: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        top, left = (_below(side - self.crop + 1, rng) for side in x.shape[1:])
        window = (slice(None), slice(top, top + self.crop), slice(left, left + self.crop))
        return y[window], x[window]


def toned(x: Tensor, strength: float, rng: Generator) -> Tensor:
    """Another exposure, contrast, saturation and white balance of a clean photograph (3, H, W) in [0, 1].

    Without it a network learns that a grey sky is haze and dark trees lie in shadow: it has seen too few of either
    unharmed. A third of the photographs stay as they are, a sixth get a strong cast, as under water or by night.
    """
    kind = _uniform(rng)
    if kind < 1 / 3:
        return x
    cast = 1.0 if kind > 5 / 6 else 0.15
    between = [2 * _uniform(rng) - 1 for _ in range(7)]  # each in [-1, 1]
    gamma, contrast, level, colour = (strength * value for value in between[:4])
    gains = torch.tensor([2 ** (cast * strength * value) for value in between[4:]]).view(3, 1, 1)
    x = x**2**gamma * gains
    grey = x.mean(0, keepdim=True)
    x = grey + (x - grey) * (1 + (colour - strength) / 3 + colour / 3)
    mean = x.mean()
    return (mean + 0.15 * level + (x - mean) * (1 + (contrast - strength) / 3)).clamp(0, 1)


def restoration_batches(
    images: Images,
    tasks: Mapping[str, Degrade],
    batch: int,
    crop: int,
    seed: int,
    start: int = 0,
    workers: int = 1,
    *,
    weights: Mapping[str, float] | None = None,
    crops_per_image: int = 2,
    canvas: int = 0,
    zoom: float = 1.0,
    tone: float = 0.0,
    distractors: Mapping[str, Degrade] | None = None,
    distract: float = 0.0,
    told: float = 0.0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Batches ``start``, ``start + 1``, ... without end, made in ``workers`` other processes (0: here).

    Arguments:
        images: arrays (H, W, 3) uint8, or files and folders to decode once.
        tasks: name -> degradation ``(x (3, H, W) in [0, 1], generator) -> y``.
        batch, crop: B, over all processes, and the side of the squares.
        seed: names the whole stream.
        weights: relative frequency of tasks, 1 where not given.
        crops_per_image: crops that share one degraded canvas.
        canvas: side of what is degraded; 0 for 1.5 crop.
        zoom: how far a photograph may be enlarged, at least 1; thumbnails are sharper than photographs at full size.
        tone: strength, 0 to 1, of random changes of exposure, contrast, saturation and white balance of the clean
            photograph, before it is degraded.
        distractors, distract: degradations that a share of the photographs of other tasks bear already, and keep: a
            shadow in a JPEG image is no fault of the image.
        told: share of photographs whose task the network is told, as ``label``, the place of its name in ``tasks``;
            of the others it is told ``len(tasks)``, "no class". 0 leaves the label out.
        rank, world: this process makes part ``rank`` of ``world`` equal ones of every batch: the rows that it would
            have in the batch of a single process.
    """
    crops = Crops(
        images if isinstance(images, Pictures) else load(images),
        dict(tasks), batch, crop, seed, weights or {}, crops_per_image, canvas, zoom, tone,
        dict(distractors or {}), distract, told, rank, world,
    )  # fmt: skip
    return loaded(crops, start, workers)
