"""Folders as datasets, for evaluation: plain images, benchmark pairs, and pairs made on the fly."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from .batch import Degrade
from .image import Photo, find_images, read
from .seeds import generator

__all__ = ["Degraded", "ImageFolder", "Pair", "Paired"]


@dataclass(frozen=True)
class Pair:
    """A clean image ``x`` and its degraded ``y``, both (3, H, W) in [0, 1], with its name and task."""

    x: Tensor
    y: Tensor
    name: str
    task: str


class ImageFolder(Dataset[Photo]):
    """The images under ``root``, found recursively, in sorted order."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.paths = find_images(root)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Photo:
        return read(self.paths[i])


class Paired(Dataset[Pair]):
    """Benchmark pairs ``<root>/<task>/{LQ,GT}/<name>``: the layout of DA-CLIP and MR Sampler.

    Partners share their stem; the suffixes may differ. ``tasks`` defaults to every folder with an LQ inside.
    ValueError names the first image without a partner, or (on reading) a pair of different sizes.
    """

    def __init__(self, root: str | os.PathLike[str], tasks: Sequence[str] | None = None) -> None:
        root = Path(root)
        known = sorted(d.parent.name for d in root.glob("*/LQ") if d.is_dir())
        if not known:
            raise ValueError(f"{root}: expected <task>/LQ and <task>/GT folders inside, found none")
        if unknown := sorted(set(tasks or ()) - set(known)):
            raise ValueError(f"{root}: no task {', '.join(unknown)}; it has {', '.join(known)}")
        self.files = [(task, *pair) for task in tasks or known for pair in _partners(root / task)]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Pair:
        task, degraded, clean = self.files[i]
        y, x = read(degraded).pixels, read(clean).pixels
        if y.shape != x.shape:
            raise ValueError(f"{degraded} is {_size(y)} but {clean} is {_size(x)}: a pair must have one size")
        return Pair(x, y, clean.stem, task)


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]} x {image.shape[-2]}"


def _partners(folder: Path) -> list[tuple[Path, Path]]:
    """(LQ, GT) files of equal stem, sorted."""
    sides = {side: _by_stem(folder / side) for side in ("LQ", "GT")}
    for here, there in (("LQ", "GT"), ("GT", "LQ")):
        if alone := sorted(set(sides[here]) - set(sides[there])):
            raise ValueError(f"{sides[here][alone[0]]}: no partner {alone[0]}.* in {folder / there}")
    return [(sides["LQ"][stem], sides["GT"][stem]) for stem in sorted(sides["LQ"])]


def _by_stem(folder: Path) -> dict[str, Path]:
    """Name below ``folder`` without suffix -> file."""
    files: dict[str, Path] = {}
    for path in find_images(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in files:
            raise ValueError(f"{path} and {files[stem]} share a name: a pair would be ambiguous")
        files[stem] = path
    return files


class Degraded(Dataset[Pair]):
    """Every image under every task; pair (i, task) takes its random numbers from (seed, i, task) alone.

    Arguments:
        images: (3, H, W) tensors, or files and folders.
        tasks: name -> degradation.
        seed: of the whole set.
    """

    def __init__(
        self,
        images: Sequence[Tensor] | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        tasks: Mapping[str, Degrade],
        seed: int = 0,
    ) -> None:
        held = not isinstance(images, str | os.PathLike) and len(images) > 0 and isinstance(images[0], Tensor)
        self.images: Sequence[Tensor | Path] = list(images) if held else find_images(images)  # type: ignore[arg-type]
        self.tasks, self.seed = dict(tasks), seed

    def __len__(self) -> int:
        return len(self.images) * len(self.tasks)

    def __getitem__(self, j: int) -> Pair:
        """Pairs run through all images of the first task, then of the second, ..."""
        if not 0 <= j < len(self):
            raise IndexError(j)
        task, i = list(self.tasks)[j // len(self.images)], j % len(self.images)
        image = self.images[i]
        x, name = (image, str(i)) if isinstance(image, Tensor) else (read(image).pixels, image.stem)
        return Pair(x, self.tasks[task](x, generator(self.seed, i, task)), name, task)
