"""Many images that are not held in memory: tar files as webdataset writes them, and Hugging Face data sets on disk.

| given | what it is |
|---|---|
| `*.tar`, `photos-{000..099}.tar` | `key.jpg`, and for classes `key.cls`, a number, or `key.json`, {"label": 3} |
| a folder of `datasets.save_to_disk` | columns `image` and, for classes, `label` |

An index of places and sizes is made by reading the headers of the files; an image is read when it is asked for. Nothing
is unpacked and no name in an archive becomes a path; no pickle is opened.
"""

import io
import json
import re
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = ["Collection", "Pictures", "collection", "is_collection"]

IMAGES = {"jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm"}
PIXELS = 200_000_000
LABEL = 1 << 16  # bytes, of a file that names a class


class Collection(Protocol):
    """Images by number."""

    @property
    def groups(self) -> tuple[int, ...]:
        """Sizes of the parts, in their order, that lie together on the disk."""

    def __len__(self) -> int: ...

    def where(self, index: int) -> str:
        """File and key of an image, for a person."""

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8; ValueError in one line for a damaged one."""

    def label(self, index: int) -> int:
        """Its class; ValueError in one line where it has none."""


def is_collection(path: str | Path) -> bool:
    """Whether a path names tar files or a data set on disk, and not images."""
    return str(path).endswith(".tar") or (Path(path) / "state.json").is_file()


def collection(path: str | Path) -> Collection:
    """What lies there; FileNotFoundError or ValueError in one line."""
    if (Path(path) / "state.json").is_file():
        return _table(str(path))
    if not str(path).endswith(".tar"):
        raise ValueError(
            f"{path}: need .tar files, or a folder written by datasets.save_to_disk; others are not streamed"
        )
    files = sorted({file for pattern in _braced(str(path)) for file in glob(pattern)})
    if not files:
        raise FileNotFoundError(f"no files {path}")
    found = [_index(file) for file in files]
    if not any(found):
        raise ValueError(f"{path}: no images in {len(files)} files; looked for {' '.join(sorted(IMAGES))}")
    samples = [sample for part in found for sample in part]
    return Tars(tuple(samples), tuple(len(part) for part in found if part))


def _braced(path: str) -> Iterator[str]:
    """a{00..12}b -> a00b, ..., a12b."""
    if (match := re.search(r"\{(\d+)\.\.(\d+)\}", path)) is None:
        yield path
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _braced(f"{path[: match.start()]}{number:0{len(first)}d}{path[match.end() :]}")


@final
@dataclass(frozen=True)
class Sample:
    """Where the parts of a sample lie: file, key, and (offset, size) of the image and of what names its class."""

    file: str
    key: str
    image: tuple[int, int]
    label: tuple[int, int] | None
    kind: str


def _index(file: str) -> list[Sample]:
    """The samples of one tar file, in its order."""
    parts: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(file, "r:") as archive:  # no compression: bytes are where the headers say
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                key, _, kind = name.partition(".")
                if member.isreg() and key and not member.issparse():
                    parts.setdefault(f"{folder}/{key}" if folder else key, {})[kind.lower()] = (
                        member.offset_data,
                        member.size,
                    )
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ValueError(f"{file}: not a readable tar file ({' '.join(str(error).split())})") from None
    return [
        Sample(file, key, kinds[image], kinds.get(named) if named else None, named)
        for key, kinds in parts.items()
        if (image := next((kind for kind in kinds if kind in IMAGES), None))
        for named in [next((kind for kind in ("cls", "json") if kind in kinds), "")]
    ]


@final
@dataclass(frozen=True)
class Tars:
    """The samples of tar files."""

    samples: tuple[Sample, ...]
    groups: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def where(self, index: int) -> str:
        return f"{self.samples[index].file}: {self.samples[index].key}"

    def image(self, index: int) -> np.ndarray:
        sample = self.samples[index]
        return decoded(_read(sample.file, *sample.image), self.where(index))

    def label(self, index: int) -> int:
        sample = self.samples[index]
        try:
            if sample.label is None or sample.label[1] > LABEL:
                raise ValueError("it names none")
            text = _read(sample.file, *sample.label).decode()
            return _whole(json.loads(text)["label"] if sample.kind == "json" else text)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{self.where(index)}: no class ({' '.join(str(error).split())[:80]})") from None


def _whole(value: Any) -> int:
    number = int(value)
    if number < 0:
        raise ValueError(f"{number}: need a number >= 0")
    return number


def _read(file: str, offset: int, size: int) -> bytes:
    with open(file, "rb") as handle:
        handle.seek(offset)
        return handle.read(size)


def decoded(data: bytes, where: str) -> np.ndarray:
    """(H, W, 3) uint8; ValueError in one line for what is no image, damaged or too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > PIXELS:
                    raise ValueError(f"more than {PIXELS // 1_000_000} million pixels")
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError(f"{where}: damaged image (none that Pillow can read)") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, EOFError, ...
        raise ValueError(f"{where}: damaged image ({' '.join(str(error).split())[:80]})") from None


def _table(path: str) -> "Table":
    try:
        from datasets import Dataset, load_from_disk
        from datasets import Image as Column
    except ImportError:
        raise ValueError(f"{path}: a data set of Hugging Face needs pip install 'undrift[shards]'") from None
    try:
        rows = load_from_disk(path)
        if not isinstance(rows, Dataset):
            raise ValueError(f"holds several splits, {', '.join(rows)}: give the folder of one")
        if "image" not in rows.column_names:
            raise ValueError(f"no column 'image'; it has {', '.join(rows.column_names)}")
        return Table(path, rows.cast_column("image", Column(decode=False)))
    except Exception as error:  # whatever the first wrong byte of a damaged set leads to
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


@final
@dataclass(frozen=True)
class Table:
    """The rows of a data set of Hugging Face, mapped from the disk."""

    path: str
    rows: Any

    @property
    def groups(self) -> tuple[int, ...]:
        return (len(self.rows),)

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, index: int) -> str:
        return f"{self.path}: row {index}"

    def image(self, index: int) -> np.ndarray:
        cell = self.rows[index]["image"] or {}
        data = cell.get("bytes")
        if data is None:  # a path in a data set may point anywhere
            raise ValueError(f"{self.where(index)}: no image in the row")
        return decoded(data, self.where(index))

    def label(self, index: int) -> int:
        try:
            return _whole(self.rows[index]["label"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{self.where(index)}: no class in a column 'label', a number >= 0") from None


@dataclass
class Pictures(Sequence[np.ndarray]):
    """Images of a collection by number, decoded when asked for; the next sound one stands in for a damaged one.

    Arguments:
        source: the collection.
        chosen: which of its images, in which order.
        least: images with a smaller side are passed over too, without being counted.
        corrupt: how many damaged ones, in each process that loads, are passed over with a warning.

    Asking for one raises ValueError, in one line with file and key, where there are more; OSError where files vanished.
    """

    source: Collection
    chosen: Sequence[int]
    least: int = 1
    corrupt: int = 100
    damaged: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, place: Any) -> Any:
        return self.found(int(place))[1]

    def found(self, place: int, labelled: bool = False) -> tuple[int, np.ndarray, int]:
        """(number in the collection, image, label or 0) of the first sound one from `place` on."""
        for step in range(len(self)):
            index = int(self.chosen[(place + step) % len(self)])
            try:
                image = self.source.image(index)
                if min(image.shape[:2]) >= self.least:
                    return index, image, self.source.label(index) if labelled else 0
            except ValueError as error:
                self._count(index, str(error))
        raise ValueError(f"{self.source.where(0)}: none of the {len(self)} images has both sides >= {self.least}")

    def _count(self, index: int, text: str) -> None:
        if index in self.damaged:
            return
        self.damaged.add(index)
        if len(self.damaged) > self.corrupt:
            raise ValueError(f"{text}; more than data.corrupt = {self.corrupt} are damaged")
        warnings.warn(f"{text}: skipped, {len(self.damaged)} of at most {self.corrupt}", stacklevel=2)
