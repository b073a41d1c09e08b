"""What is restored: pairs of clean and degraded photographs per task, read or made when they are wanted.

| set | files | pair i of a task |
|---|---|---|
| `Photographs` | clean ones | crops, degraded as by `data.Degraded`: a function of (seed, i, task) alone |
| `Benchmark` | `<root>/<task>/{LQ,GT}` | as the files say |
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, final

from torch import Tensor

from ..data import Pair, Paired, find_images, generator, read
from ..data.crop import central
from ..degradations import TASKS
from ..registry import check_keys

__all__ = ["Benchmark", "PairSet", "Photographs"]


class PairSet(ABC):
    """Named tasks, each with pairs.

    Arguments:
        root: the folder.
        tasks: which, in this order; default all.
        size: side of the central crop of larger photographs; 0 for all of them.
        limit: photographs per task; 0 for all.
    """

    tasks: tuple[str, ...]

    def __init__(self, root: str | os.PathLike[str], size: int, limit: int) -> None:
        if size < 0 or limit < 0:
            raise ValueError(f"size = {size}, limit = {limit}: need 0 for all, or more")
        if not Path(root).is_dir():
            raise FileNotFoundError(f"no folder {root}")
        self.root, self.size, self.limit = Path(root), size, limit

    @abstractmethod
    def files(self, task: str) -> list[tuple[Path, ...]]:
        """What the pairs of a task are made from."""

    @abstractmethod
    def pair(self, i: int, task: str, files: tuple[Path, ...]) -> Pair: ...

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """What the pairs depend on besides the files, size and limit, as JSON values."""

    def pairs(self, task: str) -> Iterator[Pair]:
        for i, files in enumerate(self.files(task)):
            yield self.pair(i, task, files)

    def facts(self, task: str) -> dict[str, Any]:
        """What decides the pairs of a task: files by content, never by place."""
        files = tuple(file for group in self.files(task) for file in group)
        return {"images": len(self.files(task)), "files": _digest(files), "size": self.size} | self.origin()

    def _some(self, files: list[tuple[Path, ...]]) -> list[tuple[Path, ...]]:
        return files[: self.limit or None]

    def _crop(self, x: Tensor) -> Tensor:
        return central(x, self.size).contiguous() if self.size else x


@cache  # ten tasks share their photographs
def _digest(files: tuple[Path, ...]) -> str:
    """sha256 of names and contents."""
    digest = sha256()
    for file in files:
        digest.update(f"{file.name}\n{sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


@final
class Photographs(PairSet):
    """Clean photographs, cropped, then degraded in the ten ways; `seed` is that of the degradations.

    Raises ValueError for a folder without images, and for unknown tasks.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        tasks: Sequence[str] = (),
        *,
        size: int = 192,
        limit: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(root, size, limit)
        check_keys(tasks, TASKS, "task")
        self.tasks, self.seed = tuple(dict.fromkeys(tasks or TASKS)), seed
        self._files = self._some([(path,) for path in find_images(root)])

    def files(self, task: str) -> list[tuple[Path, ...]]:
        return self._files

    def pair(self, i: int, task: str, files: tuple[Path, ...]) -> Pair:
        x = self._crop(read(files[0]).pixels)
        return Pair(x, TASKS[task](x, generator(self.seed, i, task)), files[0].stem, task)

    def origin(self) -> dict[str, Any]:
        laws = sha256(repr(TASKS).encode()).hexdigest()
        return {"pairs": "degraded", "seed": self.seed, "degradations": laws}


@final
class Benchmark(PairSet):
    """Given pairs, `<root>/<task>/{LQ,GT}/<name>`, both cropped.

    Raises ValueError for unknown tasks, and for photographs without a partner.
    """

    def __init__(
        self, root: str | os.PathLike[str], tasks: Sequence[str] = (), *, size: int = 192, limit: int = 0
    ) -> None:
        super().__init__(root, size, limit)
        known = [folder.parent.name for folder in sorted(self.root.glob("*/LQ")) if folder.is_dir()]
        if known:
            check_keys(tasks, known, "task")
        self._paired = Paired(root, list(dict.fromkeys(tasks)) or None)
        self.tasks = tuple(dict.fromkeys(task for task, *_ in self._paired.files))

    def files(self, task: str) -> list[tuple[Path, ...]]:
        return self._some([tuple(files) for name, *files in self._paired.files if name == task])

    def pair(self, i: int, task: str, files: tuple[Path, ...]) -> Pair:
        y, x = (read(file).pixels for file in files)
        if y.shape != x.shape:
            raise ValueError(f"{files[0]} and {files[1]} differ in size: a pair must have one size")
        return Pair(self._crop(x), self._crop(y), files[1].stem, task)

    def origin(self) -> dict[str, Any]:
        return {"pairs": "read"}
