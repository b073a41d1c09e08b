"""Small images with class labels, for generation: read whole, then an endless stream of batches.

| given | layout |
|---|---|
| `.npz` | `x_train`, `y_train`, `x_test`, `y_test`: (N, H, W) or (N, H, W, C) uint8, (N,) integers |
| folder of folders | `<root>/<class>/<image>`, classes in sorted order; every 10th image of a class is the test set |
| folder of images | no classes: the labels are all 0 |
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Literal, final
from zipfile import is_zipfile

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .batch import Batch, rows
from .image import find_images, read
from .seeds import generator

__all__ = ["LabelledImages", "indices", "labelled_batches", "read_labelled"]

HOLD_OUT = 10


@final
@dataclass(frozen=True)
class LabelledImages:
    """Images (N, C, H, W) uint8, their labels (N,) int64 in 0 .. classes - 1, and the names of the classes."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def read_labelled(path: str | Path, split: Literal["train", "test"] = "train", size: int = 0) -> LabelledImages:
    """One split of a labelled set.

    Arguments:
        size: side to which the images of a folder are cropped and scaled; 0 takes them as they are.

    Raises FileNotFoundError or ValueError in one line for what is missing, damaged, or of several sizes.
    """
    source = Path(path)
    if split not in ("train", "test"):
        raise ValueError(f"split = {split!r}: choose 'train' or 'test'")
    if not source.exists():
        raise FileNotFoundError(f"no labelled images at {source}: give an .npz file or a folder of class folders")
    if not source.is_dir() and not is_zipfile(source):
        raise ValueError(
            f"{source}: not a set of images: need a folder of them, or of one folder per class, or a readable .npz file"
        )
    images, labels, names = _folder(source, split, size) if source.is_dir() else _npz(source, split)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels) or not len(images):
        raise ValueError(
            f"{source}: images of shape {images.shape} {images.dtype}, {len(labels)} labels: need (N, H, W) or "
            "(N, H, W, C) uint8 and as many labels"
        )
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return LabelledImages(tensor, torch.from_numpy(labels.astype(np.int64)), names)


def _npz(path: Path, split: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = file[f"x_{split}"], file[f"y_{split}"]
    except KeyError:
        raise ValueError(f"{path}: no arrays x_{split} and y_{split} there") from None
    except Exception as error:  # a damaged zip raises whatever its first wrong byte leads to
        raise ValueError(f"{path}: not a readable .npz file ({' '.join(str(error).split())})") from None
    if not np.issubdtype(labels.dtype, np.integer) or (len(labels) and labels.min() < 0):
        raise ValueError(f"{path}: labels of type {labels.dtype}: need integers >= 0")
    return images, labels, tuple(str(k) for k in range(int(labels.max(initial=0)) + 1))


def _folder(root: Path, split: str, size: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    homes = sorted(folder for folder in root.iterdir() if folder.is_dir()) or [root]
    images, labels = [], []
    for label, home in enumerate(homes):
        for index, file in enumerate(find_images([home])):
            if (index % HOLD_OUT == 0) == (split == "test"):
                images.append(_square(file, size))
                labels.append(label)
    if len(shapes := {image.shape for image in images}) > 1:
        raise ValueError(f"{root}: images of {len(shapes)} different sizes: give size, to crop and scale them to")
    return np.stack(images) if images else np.zeros(0), np.array(labels), tuple(home.name for home in homes)


def _square(file: Path, size: int) -> np.ndarray:
    """(H, W, 3) uint8; the central square at `size`, or the whole image."""
    pixels = (read(file).pixels.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    if not size:
        return pixels
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    patch = Image.fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(patch.resize((size, size), Image.Resampling.LANCZOS))


def labelled_batches(
    data: LabelledImages,
    batch: int,
    seed: int,
    start: int = 0,
    *,
    flip: bool = True,
    drop: float = 0.1,
    classes: bool = True,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Batches ``start``, ``start + 1``, ... without end: x (B, C, H, W) in [0, 1], cond label (B,).

    Batch k is a function of (seed, k): every epoch is another permutation, each image once.

    Arguments:
        flip: mirror every other image, at random.
        drop: share of labels replaced by K, "no class", for classifier-free guidance.
        classes: False leaves the label out.
        rank, world: this process makes part ``rank`` of ``world`` equal ones of every batch.
    """
    if batch < 1 or not 0 <= drop <= 1:
        raise ValueError(f"batch = {batch}, drop = {drop}: need at least 1, and a share in [0, 1]")
    none, mine = len(data.names), rows(batch, rank, world)
    for step in count(start):
        index = indices(len(data), step * batch + mine.start, len(mine), seed)
        rng = generator(seed, "labelled", step, 0)
        x, label = data.images[index].float() / 255, data.labels[index]
        if flip:
            mirrored = torch.rand(batch, generator=rng)[mine.start : mine.stop] < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        label = torch.where(torch.rand(batch, generator=rng)[mine.start : mine.stop] < drop, none, label)
        yield Batch(x, None, {"label": label} if classes else {})


def indices(size: int, first: int, batch: int, seed: int) -> Tensor:
    """Positions `first` .. `first + batch - 1` of the epochs' permutations, one after the other."""
    places = range(first, first + batch)
    return torch.stack([_order(size, place // size, seed)[place % size] for place in places])


@lru_cache(maxsize=4)
def _order(size: int, epoch: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=generator(seed, "epoch", epoch))
