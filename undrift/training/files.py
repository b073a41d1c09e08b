"""Files that are either whole or not there: written beside the target, flushed to the disk, renamed over it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any

__all__ = ["digest", "digests", "replacing", "sweep", "write_json", "write_text"]

os.umask(_UMASK := os.umask(0))  # there is no way to read it but to set it


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; when the block ends well, what was written becomes `path`."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_UMASK)  # safetensors writes files that only their owner may read
        os.replace(part, path)
        _flush(path.parent)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _flush(folder: Path) -> None:
    """Put a rename on the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what a process that was killed in the middle of `replacing` left in `folder`; no other may be writing."""
    with suppress(OSError):
        for part in folder.glob(".*.part"):
            part.unlink(missing_ok=True)


def digest(file: Path) -> str:
    """SHA-256, hexadecimal; never holds the file whole."""
    with open(file, "rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def digests(root: str | Path, *suffixes: str) -> dict[str, str]:
    """Path within a folder -> SHA-256, of all files below it with these suffixes."""
    files = sorted(path for path in Path(root).rglob("*") if path.suffix in suffixes)
    return {str(file.relative_to(root)): digest(file) for file in files}


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")
