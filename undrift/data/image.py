"""One photograph: file -> pixels -> file, whatever its kind, with nothing lost that the format can carry.

``read`` gives RGB in [0, 1], upright, with alpha, ICC profile, greyness and bit depth kept aside;
``write(..., like=photo)`` puts them back. 16-bit *grey* stays 16 bit. Not promised: 16-bit RGB, which Pillow
itself reduces to 8 bits on opening.
"""

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

__all__ = ["Photo", "find_images", "read", "write"]

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what is wrong with a file, our line says

FORMATS: dict[str, tuple[str, dict[str, object]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".tif": ("TIFF", {"compression": "tiff_lzw"}),
    ".tiff": ("TIFF", {"compression": "tiff_lzw"}),
    ".bmp": ("BMP", {}),
}
SUFFIXES = {*FORMATS, ".gif", ".ppm", ".pgm", ".jp2"}  # found in folders


@dataclass(frozen=True)
class Photo:
    """A photograph as read.

    Arguments:
        pixels: (3, H, W) float32 in [0, 1]; a grey file is replicated to three channels. `read(levels=True)` keeps
            the uint8 levels of a file of 8 bits, a quarter of the memory.
        alpha: (1, H, W) float32 in [0, 1], or None.
        grey: the file had no colour; ``write`` makes it grey again.
        bits: 8 or 16 (16 only for grey files).
        icc: the embedded profile that ``pixels`` are in, or None.
        path: where it came from.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    grey: bool = False
    bits: int = 8
    icc: bytes | None = None
    path: Path | None = None


@contextmanager
def _named(path: Path, limit: int) -> Iterator[None]:
    """Whatever a decoder raises becomes one line naming the file; Pillow's size limit is ours meanwhile."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, limit
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(
            f"{path}: more than {limit / 1e6:g} million pixels; if you trust it, set UNDRIFT_MEGAPIXELS higher"
        ) from None
    except UnidentifiedImageError:
        what = "not an image that Pillow can read" if path.stat().st_size else "an empty file"
        raise ValueError(f"{path}: {what}") from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error, EOFError, ...
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(f"cannot read {path}: {error.strerror}") from None
        raise ValueError(f"{path}: damaged or truncated image ({' '.join(str(error).split())})") from None
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _tensor(array: np.ndarray, scale: float, levels: bool = False) -> Tensor:
    """(H, W) or (H, W, C) -> (C, H, W) in [0, 1]; or as it is."""
    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    if levels:
        return torch.from_numpy(np.array(planes, order="C"))
    return torch.from_numpy(np.array(planes, dtype=np.float32, order="C")).div_(scale)


def _deep_grey(im: Image.Image) -> Tensor:
    """(3, H, W) of a 16-bit, 32-bit integer or float image."""
    array = np.asarray(im)
    scale = 1.0 if im.mode == "F" else 65535.0
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= scale):
        raise ValueError(f"mode {im.mode} with values outside 0..{scale:g}; rescale it first")
    return _tensor(array, scale).expand(3, -1, -1).contiguous()


def _to_srgb(im: Image.Image, icc: bytes | None) -> Image.Image:
    """CMYK and LAB to sRGB, through the embedded profile where it is a good one."""
    try:
        if im.mode == "LAB":
            return _converted(im, ImageCms.createProfile("LAB"))
        if icc:
            return _converted(im, ImageCms.ImageCmsProfile(io.BytesIO(icc)))
    except (ImageCms.PyCMSError, OSError):
        pass  # a broken or mismatched profile: the plain formula
    return im.convert("RGB")


def _converted(im: Image.Image, source: Any) -> Image.Image:
    out = ImageCms.profileToProfile(im, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert out is not None  # it is None only for inPlace=True
    return out


def _upright(im: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(im)
    except Exception:  # unreadable EXIF says nothing against the pixels
        return im


def read(path: str | os.PathLike[str], limit: int | None = None, *, levels: bool = False) -> Photo:
    """Read a photograph: first frame of an animation, EXIF orientation applied, CMYK and LAB brought to sRGB.

    Arguments:
        limit: pixels; None for 200 million, or as many millions as the environment variable UNDRIFT_MEGAPIXELS says.
        levels: keep 8-bit files in uint8.

    Raises ValueError for what is no image, is truncated, or has more than ``limit`` pixels; OSError for what
    cannot be opened.
    """
    path, limit = Path(path), _limit() if limit is None else limit
    if path.exists() and not path.is_file():  # a pipe would wait, a device may never end
        raise ValueError(f"{path}: a folder, a pipe or a device, and no file")
    with _named(path, limit), Image.open(path) as opened:
        opened.load()
        icc = opened.info.get("icc_profile") or None
        im = _upright(opened)
        if im.mode in ("I", "F") or im.mode.startswith("I;16"):
            return Photo(_deep_grey(im), grey=True, bits=16, icc=icc, path=path)
        if im.mode in ("CMYK", "LAB"):
            im, icc = _to_srgb(im, icc), None
        grey = im.mode in ("1", "L", "LA", "La")
        if im.has_transparency_data:
            rgba = _tensor(np.asarray(im.convert("RGBA")), 255.0, levels)
            alpha = rgba[3:].float().div_(255) if levels else rgba[3:].contiguous()
            return Photo(rgba[:3].contiguous(), alpha, grey, 8, icc, path)
        return Photo(_tensor(np.asarray(im.convert("RGB")), 255.0, levels), None, grey, 8, icc, path)


def _limit() -> int:
    """The most pixels that are read; ValueError for an UNDRIFT_MEGAPIXELS that is no positive number."""
    text = os.environ.get("UNDRIFT_MEGAPIXELS", "200")
    try:
        limit = round(float(text) * 1e6)
    except (ValueError, OverflowError):
        limit = 0
    if limit < 1:
        raise ValueError(f"UNDRIFT_MEGAPIXELS={text}: need a positive number, the most million pixels of an image")
    return limit


ROWS = 256  # of a large photograph that are float at a time


def _quantised(planes: Callable[[slice], Tensor], height: int, bits: int = 8) -> np.ndarray:
    """Rows -> (C, rows, W) in [0, 1], made (H, W) or (H, W, C) unsigned integers."""
    made = []
    for first in range(0, height, ROWS):
        part = planes(slice(first, min(first + ROWS, height))).mul(2**bits - 1).round_().permute(1, 2, 0)
        made.append(part.numpy().astype(np.uint8 if bits == 8 else np.uint16))
    array = np.concatenate(made) if len(made) > 1 else made[0]
    return np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array)


def _image(pixels: Tensor, like: Photo | None, kind: str) -> Image.Image:
    """The Pillow image of the richest mode that both ``like`` and the format know."""
    alpha, height = (None if like is None else like.alpha), pixels.shape[1]
    opaque = kind in ("JPEG", "BMP")  # no alpha there: what a viewer would show on white
    grey = like is not None and like.grey

    def rows(at: slice) -> Tensor:
        x = pixels[:, at].detach().to("cpu", torch.float32)
        x = x.div(255) if pixels.dtype == torch.uint8 else x.clamp(0, 1)
        if alpha is not None and opaque:
            x = x * alpha[:, at] + (1 - alpha[:, at])
        x = x.mean(0, keepdim=True) if grey else x
        return torch.cat((x, alpha[:, at])) if alpha is not None and not opaque and not deep else x

    deep = grey and like is not None and like.bits == 16 and kind in ("PNG", "TIFF")
    return Image.fromarray(_quantised(rows, height, 16 if deep else 8))


def write(
    path: str | os.PathLike[str],
    pixels: Tensor,
    like: Photo | None = None,
    text: Mapping[str, str] | None = None,
) -> None:
    """Write ``pixels`` (3 or 1, H, W), clamped to [0, 1], or uint8 levels, in the format of the suffix.

    ``like`` gives back alpha (laid on white where the format has none), greyness, bit depth and ICC profile;
    ``text`` goes into a PNG's text chunks and is ignored elsewhere. Never leaves half a
    file. Raises ValueError for an unknown suffix,
    OSError where it cannot write.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: unknown suffix {path.suffix!r}; use one of {', '.join(FORMATS)}")
    if not (pixels.ndim == 3 and pixels.shape[0] in (1, 3) and _finite(pixels)):
        raise ValueError(
            f"{path}: expected finite pixels (3 or 1, H, W), got shape {tuple(pixels.shape)} or infinite values"
        )
    if like is not None and like.alpha is not None and like.alpha.shape[1:] != pixels.shape[1:]:
        raise ValueError(f"{path}: pixels {tuple(pixels.shape)} do not fit the alpha {tuple(like.alpha.shape)} of like")
    kind, options = FORMATS[path.suffix.lower()]
    if like is not None and like.icc:
        options = options | {"icc_profile": like.icc}
    if text and kind == "PNG":
        chunks = PngImagePlugin.PngInfo()
        for key, value in text.items():
            chunks.add_text(key, value)
        options = options | {"pnginfo": chunks}
    _save(_image(pixels, like, kind), path, kind, options)


def _finite(pixels: Tensor) -> bool:
    return pixels.dtype == torch.uint8 or all(bool(plane.isfinite().all()) for plane in pixels)


def _save(im: Image.Image, path: Path, kind: str, options: Mapping[str, object]) -> None:
    """Write beside the target, flush to the disk, then rename over it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            im.save(file, kind, **options)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if part.is_file():
            part.unlink()


def find_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The image files among ``paths`` (files, or folders searched recursively), sorted, without hidden ones.

    A file named outright is taken whatever its suffix. Raises ValueError where there is none at all,
    FileNotFoundError for a missing path.
    """
    given = [Path(p) for p in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    found: set[Path] = set()
    for path in given:
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        found.update(_inside(path) if path.is_dir() else [path])
    if not found:
        where = ", ".join(map(str, given)) or "an empty list"
        raise ValueError(f"no images in {where}; looked for {' '.join(sorted(SUFFIXES))}")
    return sorted(found)


def _inside(folder: Path) -> list[Path]:
    files = (f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    return [f for f in files if not any(part.startswith(".") for part in f.relative_to(folder).parts)]
