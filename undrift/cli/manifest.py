r"""What a folder of outputs holds already: `.undrift-manifest.jsonl`, a line for every input that is done.

    {"of": "<first file>", "settings": "<sha256>", "input": [size, mtime, sha256], "files": {"a.png": [...]}}

A line is written after its files are whole and on the disk, in one append: an input is done or not, whenever a run is
killed. It counts as done again only if settings, input and files are what they were. A torn or foreign line is as if
it were not there. One append is one write, so that processes may share the file.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, final

__all__ = ["FILE", "Manifest", "sweep"]

FILE = ".undrift-manifest.jsonl"
PART = re.compile(r"\..+\.(\d+)\.part", re.DOTALL)


@final
class Manifest:
    """The manifest of one folder under the settings of one command.

    Arguments:
        folder: of the outputs; None keeps nothing, as for a single file.
        settings: all that the outputs depend on but their inputs, JSON values.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        self.known: dict[str, Any] = {}
        if folder is not None:
            for line in _lines(folder / FILE):
                with suppress(ValueError, TypeError, KeyError, RecursionError):
                    entry = json.loads(line)
                    self.known[str(entry["of"])] = entry

    def done(self, source: Path | None, files: Sequence[Path], more: object = None) -> bool:
        """Whether `files` are what these settings made of `source` as it is now.

        Arguments:
            source: the input; None for work without.
            files: at least one, below the folder; the first names the work.
            more: settings of this input alone.
        """
        if self.folder is None or (entry := self.known.get(self._below(files[0]))) is None:
            return False
        try:
            kept = entry["files"]
            return (
                entry["settings"] == self._key(more)
                and (source is None or _same(source, entry["input"]))
                and len(kept) == len(files)
                and all(_same(file, kept[self._below(file)]) for file in files)
            )
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            return False

    def seen(self, source: Path | None) -> list[Any] | None:
        """The state of an input, taken before it is read: what changes meanwhile is done again next time."""
        return None if source is None or self.folder is None else _facts(source)

    def add(self, seen: list[Any] | None, files: Sequence[Path], more: object = None) -> None:
        """Note that it is done, on the disk."""
        if self.folder is None:
            return
        made = {self._below(file): _facts(file) for file in files}
        entry = {"of": self._below(files[0]), "settings": self._key(more), "input": seen, "files": made}
        line = b"\n" + json.dumps(entry).encode() + b"\n"  # ends what a killed process may have left half
        path = self.folder / FILE
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                if os.write(handle, line) != len(line):
                    raise OSError(28, "No space left on device")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise OSError(f"cannot write {path}: {error.strerror}") from None

    def _key(self, more: object) -> str:
        return sha256(json.dumps([self.settings, more], sort_keys=True).encode()).hexdigest()

    def _below(self, file: Path) -> str:
        assert self.folder is not None
        return os.fspath(file.relative_to(self.folder))


def _lines(path: Path) -> Iterable[bytes]:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{path}: not a file, where the manifest goes: remove it or give another -o")
    try:
        return path.read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise OSError(f"cannot read {path}: {error.strerror}") from None


def _facts(path: Path) -> list[Any]:
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        return [status.st_size, status.st_mtime_ns, file_digest(file, "sha256").hexdigest()]


def _same(path: Path, known: Sequence[Any]) -> bool:
    """By size and time, else by content."""
    size, time, digest = known
    status = path.stat()
    if status.st_size != size:
        return False
    return bool(status.st_mtime_ns == time or _facts(path)[2] == digest)


def sweep(folders: Iterable[Path]) -> None:
    """Remove what killed processes left half written; not that of a process that lives."""
    for folder in folders:
        with suppress(OSError):
            for entry in list(os.scandir(folder)):
                found = PART.fullmatch(entry.name)
                if found and entry.is_file(follow_symlinks=False) and not _alive(int(found[1])):
                    with suppress(OSError):
                        os.unlink(entry.path)


def _alive(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True
