"""Which files a photograph becomes: settled, and found to be writable, before any work starts.

Folders keep their structure below the output folder. Photographs that would meet there keep the folders down from
the one that all inputs share. No input is ever overwritten.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from ..data import find_images
from ..data.image import FORMATS
from .folder import writable

__all__ = ["Jobs", "assign", "prepare", "target"]

Jobs: TypeAlias = Mapping[Path, Sequence[Path]]
"""Photograph -> the files that it becomes."""


def target(inputs: Sequence[str], out: str) -> tuple[Path, str | None]:
    """The output folder, and the name of the one file in it that `out` means, or None where it means a folder."""
    path = Path(out)
    if not path.suffix or path.is_dir() or out.endswith(("/", os.sep)):
        return path, None
    if path.suffix.lower() not in FORMATS:
        if len(inputs) > 1 or Path(inputs[0]).is_dir():
            return path, None
        raise ValueError(f"{out}: cannot write {path.suffix}: use one of {' '.join(FORMATS)}, or end a folder with /")
    if len(inputs) > 1 or Path(inputs[0]).is_dir():
        raise ValueError(f"{out} is the name of one picture: give a folder for more")
    return path.parent, path.name


def assign(inputs: Sequence[str], folder: Path, names: Callable[[Path], Sequence[Path]]) -> Jobs:
    """Every photograph among `inputs`, sorted, with its files `folder / names(its relative path)`.

    Raises ValueError where two photographs would become one file, or an input would be overwritten; and what
    `data.find_images` raises.
    """
    found = _find(inputs, folder)
    jobs = _jobs(found, folder, names)
    if _clash(jobs):
        shared = Path(os.path.commonpath([path.parent.absolute() for path in found]))
        jobs = _jobs({path: path.absolute().relative_to(shared) for path in found}, folder, names)
    if clash := _clash(jobs):
        raise ValueError("{} and {} would both become {}: rename one, or take them one by one".format(*clash))
    originals = set(map(_identity, found))
    for path, files in jobs.items():
        if overwritten := next((file for file in files if _identity(file) in originals), None):
            raise ValueError(f"{path} would overwrite the input {overwritten}: give another -o")
    return jobs


def _find(inputs: Sequence[str], folder: Path) -> dict[Path, Path]:
    """Photograph -> its path below the input folder that it was found in, once each, sorted."""
    found: dict[Path, Path] = {}
    seen: set[Path] = set()
    for given in map(Path, inputs):
        for path in find_images([given]):
            if path.resolve() not in seen and not (given.is_dir() and _earlier(path, folder, given)):
                seen.add(path.resolve())
                found[path] = path.relative_to(given if given.is_dir() else given.parent)
    if not found:
        raise ValueError(f"no images in {', '.join(inputs)} but those below {folder}, where the output goes")
    return dict(sorted(found.items()))


def _earlier(path: Path, folder: Path, given: Path) -> bool:
    """Whether `path` is output of an earlier run into a folder inside the given one."""
    out = folder.resolve()
    return out != given.resolve() and path.resolve().is_relative_to(out) and out.is_relative_to(given.resolve())


def _jobs(found: Mapping[Path, Path], folder: Path, names: Callable[[Path], Sequence[Path]]) -> Jobs:
    return {path: [folder / name for name in names(below)] for path, below in found.items()}


def _clash(jobs: Jobs) -> tuple[Path, Path, Path] | None:
    """Two photographs and the file that both would become."""
    owner: dict[Path, Path] = {}
    for path, files in jobs.items():
        for file in files:
            if owner.setdefault(file, path) != path:
                return owner[file], path, file
    return None


def _identity(path: Path) -> tuple[int, int] | None:
    """What is one and the same file under whatever name; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def prepare(jobs: Jobs) -> None:
    """Make the output folders; OSError, in one line, for one that cannot be written to."""
    for file in _files(jobs):
        if file.is_dir():
            raise OSError(f"cannot write {file}: there is a folder of that name")
    for folder in dict.fromkeys(file.parent for file in _files(jobs)):
        writable(folder)


def _files(jobs: Jobs) -> Iterator[Path]:
    return (file for files in jobs.values() for file in files)
