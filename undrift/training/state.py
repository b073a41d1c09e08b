"""The state of an unfinished run: all that is needed to go on as if nothing had happened.

    <out>/state/step-00001200.pt    tensors, numbers and strings; read with weights_only=True

Each file bears the SHA-256 of its own bytes, as the comment that a zip file may end with, so that it is one file, whole
or not there, and torn or altered ones are found out. Inference never reads these; they are not models. The last few are
kept, and a damaged newest one is passed over.
"""

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from .files import replacing

__all__ = ["latest", "newest", "store"]

MARK = b"undrift sha256 "
COMMENT = len(MARK) + 64
END = b"PK\x05\x06"  # of a zip file: 22 bytes, of which the last two are the length of the comment


class Torn(ValueError):
    """A file is not the one that was written."""


def store(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write the state after `step` steps atomically, and drop all but the last `keep`."""
    path = folder / f"step-{step:08d}.pt"
    with replacing(path) as part:
        with open(part, "wb") as file:
            torch.save({"step": step, **state}, file)
        _seal(part)
    for old in _files(folder)[keep:]:
        old.unlink(missing_ok=True)
    return path


def latest(folder: Path, mapped: bool = False) -> dict[str, Any] | None:
    """The newest state that is sound, on the CPU; None where there is none. ValueError if all are damaged.

    Its tensors may stay in the file, `mapped`: of several processes on a machine each then holds only what it takes.
    """
    files = _files(folder)
    for path in files:
        try:
            _check(path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            return state
        except OSError as error:
            if error.errno is not None:  # the disk's fault, not the file's
                raise
            warnings.warn(f"{path}: damaged, passed over ({type(error).__name__})", stacklevel=2)
        except Torn as error:
            warnings.warn(f"{path}: damaged, passed over ({error})", stacklevel=2)
        except Exception as error:  # a damaged zip raises whatever its first wrong byte leads to
            warnings.warn(f"{path}: damaged, passed over ({type(error).__name__})", stacklevel=2)
    if files:
        raise ValueError(f"{folder}: none of the {len(files)} states can be read: start in a new folder")
    return None


def newest(folder: Path) -> Path | None:
    """The file that `latest` would try first."""
    return next(iter(_files(folder)), None)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)


def _digest(path: Path, without: int = 0) -> bytes:
    """The checksum, in hexadecimal digits, of all but the last bytes."""
    left, digest = path.stat().st_size - without, hashlib.sha256()
    with open(path, "rb") as file:
        while left > 0 and (block := file.read(min(left, 1 << 22))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest().encode()


def _seal(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(-22, os.SEEK_END)
        if (end := file.read()).startswith(END) and end.endswith(b"\0\0"):
            file.seek(-2, os.SEEK_END)
            file.write(COMMENT.to_bytes(2, "little"))
    with open(path, "r+b") as file:
        digest = _digest(path)
        file.seek(0, os.SEEK_END)
        file.write(MARK + digest)


def _check(path: Path) -> None:
    """Torn unless the file is the one that was written; the files of older versions bear no checksum."""
    with open(path, "rb") as file:
        file.seek(-min(COMMENT, path.stat().st_size), os.SEEK_END)
        tail = file.read()
    if tail.startswith(MARK):
        if tail[len(MARK) :] != _digest(path, COMMENT):
            raise Torn("its checksum is another")
    elif END not in tail or not tail.endswith(b"\0\0"):
        raise Torn("it ends in the middle")
