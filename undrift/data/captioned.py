"""Images with a caption each, wherever they lie on this machine, for text-to-image models.

| given | layout |
|---|---|
| folder with `metadata.jsonl` | one JSON object a line: `file_name`, and the caption as `text` or `caption` |
| folder of images | beside each `<name>.png` (or any other image) its caption, `<name>.txt` |
| `.tar`, or a folder of them | shards as webdataset writes them: `<key>.jpg` and `<key>.txt` in turn |
| folder of `Dataset.save_to_disk`, `.parquet` | a Hugging Face data set with an image and a text column |
| `captions.json` beside `images/` | COCO's annotations: the first caption of each image; see `read_coco` |

Pictures are decoded when they are asked for. Everything is reached by number, shards too, so that a stream of batches
is a function of (seed, step) and goes on exactly where it stopped.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import torch
from PIL import Image
from torch import Tensor

from .crop import central
from .image import SUFFIXES, find_images, read

__all__ = ["Captioned", "read_captioned", "read_coco", "square"]

COLUMNS = ("text", "caption", "prompt")


class Pictures(Protocol):
    """Pictures by number; can be sent to another process."""

    def __call__(self, index: int) -> Tensor:
        """(3, H, W) in [0, 1]."""


@final
@dataclass(frozen=True)
class Captioned:
    """Captions, and a picture of each by its number.

    Arguments:
        captions: one per picture, "" where there is none.
        picture: number -> (3, H, W) in [0, 1], of its own size.
        name: where they come from, for stamps.
    """

    captions: tuple[str, ...]
    picture: Pictures
    name: str

    def __len__(self) -> int:
        return len(self.captions)

    def images(self, numbers: Sequence[int], size: int) -> Tensor:
        """(B, 3, size, size) in [0, 1], the central squares; size 0 takes pictures as they are, all of one size."""
        return torch.stack([square(self.picture(int(i)), size) for i in numbers])


def square(image: Tensor, size: int) -> Tensor:
    """The central square of (C, H, W), scaled to `size`; 0 leaves it as it is."""
    if not size or image.shape[1:] == (size, size):
        return image
    patch = central(image, min(image.shape[1:]))[None]
    return torch.nn.functional.interpolate(patch, (size, size), mode="bicubic", antialias=True)[0].clamp(0, 1)


def read_captioned(path: str | Path) -> Captioned:
    """What is found at `path`, in one of the layouts above.

    Raises FileNotFoundError or ValueError, in one line, for what is missing, damaged or without captions.
    """
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"no captioned images at {source}: give a folder, a .tar, a .parquet or COCO's .json")
    if source.suffix == ".json":
        return read_coco(source, source.with_name("images"))
    if source.suffix == ".parquet" or (source / "dataset_info.json").is_file():
        return _hugging_face(source)
    shards = [source] if source.suffix == ".tar" else sorted(source.glob("*.tar")) if source.is_dir() else []
    if shards:
        return _shards(source, shards)
    if not source.is_dir():
        raise ValueError(f"{source}: need a folder of captioned images, a .tar, a .parquet or COCO's captions .json")
    return _listed(source) if (source / "metadata.jsonl").is_file() else _beside(source)


def read_coco(annotations: str | Path, images: str | Path) -> Captioned:
    """COCO's `captions_val2017.json` and the folder of its images: for each image its first caption, by image id.

    The 5,000 images of MSCOCO-2017's validation split in this order are the paper's protocol. Raises in one line.
    """
    try:
        table = json.loads(Path(annotations).read_text(encoding="utf-8"))
        names = {entry["id"]: entry["file_name"] for entry in table["images"]}
        first: dict[int, str] = {}
        for entry in sorted(table["annotations"], key=lambda entry: entry["id"]):
            first.setdefault(entry["image_id"], str(entry["caption"]).strip())
    except FileNotFoundError:
        raise FileNotFoundError(f"no captions {annotations}: give COCO's captions_val2017.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{annotations}: not COCO's captions ({' '.join(str(error).split())})") from None
    known = [i for i in sorted(names) if i in first]
    return _made([first[i] for i in known], Files(tuple(Path(images) / names[i] for i in known)), Path(annotations))


@final
@dataclass(frozen=True)
class Files:
    """Pictures that are files."""

    paths: tuple[Path, ...]

    def __call__(self, index: int) -> Tensor:
        return read(self.paths[index]).pixels


@final
@dataclass(frozen=True)
class Members:
    """Pictures that are members of tar files: (file, first byte, length)."""

    places: tuple[tuple[Path, int, int], ...]

    def __call__(self, index: int) -> Tensor:
        path, offset, size = self.places[index]
        with open(path, "rb") as file:
            file.seek(offset)
            return _decoded(file.read(size), f"{path}, byte {offset}")


@final
@dataclass(frozen=True)
class Rows:
    """Pictures in a column of a Hugging Face data set."""

    rows: Any
    column: str

    def __call__(self, index: int) -> Tensor:
        return _pixels(self.rows[index][self.column])


def _decoded(data: bytes, where: str) -> Tensor:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _pixels(image)
    except OSError as error:
        raise ValueError(f"{where}: not a picture ({' '.join(str(error).split())})") from None


def _pixels(image: Image.Image) -> Tensor:
    rgb = image.convert("RGB")
    flat = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
    return flat.view(rgb.height, rgb.width, 3).permute(2, 0, 1).float() / 255


def _made(captions: Sequence[str], picture: Pictures, source: Path) -> Captioned:
    if not captions:
        raise ValueError(f"{source}: no image with a caption there")
    return Captioned(tuple(captions), picture, source.name)


def _listed(root: Path) -> Captioned:
    captions, paths = [], []
    for number, line in enumerate(_text(root / "metadata.jsonl").splitlines(), 1):
        try:
            row = json.loads(line)
            captions.append(str(row[_column(row)]))
            paths.append(root / row["file_name"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{root}/metadata.jsonl, line {number}: need an object with file_name and text ({error})"
            ) from None
    return _made(captions, Files(tuple(paths)), root)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: byte {error.start} is not UTF-8: save it as that") from None


def _beside(root: Path) -> Captioned:
    paths = [path for path in find_images([root]) if path.with_suffix(".txt").is_file()]
    if not paths:
        raise ValueError(f"{root}: no captions: need metadata.jsonl, a .txt beside each image, or .tar shards")
    captions = [_text(path.with_suffix(".txt")).strip() for path in paths]
    return _made(captions, Files(tuple(paths)), root)


def _shards(source: Path, shards: Sequence[Path]) -> Captioned:
    """All shards, their directories read once: then every member is reached by its place."""
    captions, places = [], []
    for shard in shards:
        pictures: dict[str, tuple[Path, int, int]] = {}
        texts: dict[str, str] = {}
        try:
            with tarfile.open(shard) as tar:
                for member in tar:
                    key, dot, kind = member.name.rpartition(".")
                    if f".{kind.lower()}" in SUFFIXES:
                        pictures[key] = (shard, member.offset_data, member.size)
                    elif kind == "txt" and dot and (file := tar.extractfile(member)):
                        texts[key] = file.read().decode("utf-8").strip()
        except (tarfile.TarError, UnicodeDecodeError) as error:
            raise ValueError(f"{shard}: not a readable shard ({' '.join(str(error).split())})") from None
        for key in (key for key in pictures if key in texts):
            captions.append(texts[key])
            places.append(pictures[key])
    return _made(captions, Members(tuple(places)), source)


def _hugging_face(source: Path) -> Captioned:
    try:
        import datasets
    except ImportError:
        raise ValueError(f"{source}: reading it needs `datasets`: pip install 'undrift[shards]'") from None
    try:
        rows: Any = (
            datasets.load_from_disk(str(source))
            if source.is_dir()
            else datasets.load_dataset("parquet", data_files=str(source), split="train")
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{source}: not a data set ({' '.join(str(error).split())})") from None
    column = next((name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)), None)
    if column is None:
        raise ValueError(f"{source}: no column of images, only {', '.join(rows.features)}")
    return _made([str(text) for text in rows[_column(rows.features)]], Rows(rows, column), source)


def _column(names: Any) -> str:
    """The column of captions."""
    found = next((name for name in COLUMNS if name in names), None)
    if found is None:
        raise ValueError(f"no caption: need one of {', '.join(COLUMNS)} among {', '.join(names)}")
    return found
