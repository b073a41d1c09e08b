"""What a run writes down: one JSON object per line, always; TensorBoard besides, if asked."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from .files import write_text

__all__ = ["Log", "lines"]


class Log:
    """`<folder>/log.jsonl`, continued: lines after step `start`, of a run that was cut off, are dropped.

    Nothing is written before the first line.

    Arguments:
        folder: None keeps no log, as in all but the first of several processes.
        start: steps done before.
        tensorboard: write to `<folder>/tensorboard` too; ValueError where it is not installed.
    """

    def __init__(self, folder: Path | None, start: int = 0, tensorboard: bool = False) -> None:
        self.folder, self.start = folder, start
        self.writer = _writer() if tensorboard and folder is not None else None
        self.file: TextIO | None = None
        self.board: Any = None

    def write(self, step: int, values: Mapping[str, float | str]) -> None:
        if self.folder is None:
            return
        if self.file is None:
            self.file = self._open(self.folder)
        try:
            self.file.write(json.dumps({"step": step, **values}) + "\n")
            self.file.flush()
        except OSError as error:
            raise OSError(f"cannot write {self.folder / 'log.jsonl'}: {error.strerror or error}") from None
        if self.board is not None:
            for name, value in values.items():
                add = self.board.add_text if isinstance(value, str) else self.board.add_scalar
                add(name, value, step)

    def _open(self, folder: Path) -> TextIO:
        path = folder / "log.jsonl"
        before = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        write_text(path, "".join(f"{line}\n" for line in before if _step(line) <= self.start))
        if self.writer is not None:
            self.board = self.writer(str(folder / "tensorboard"), purge_step=self.start + 1)
        return path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sink in (self.file, self.board):
            if sink is not None:
                with suppress(OSError):  # of a full disk, which the line that did not fit told of
                    sink.close()


def lines(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a log so far; none where there is no log."""
    path = folder / "log.jsonl"
    written = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in written if line.endswith("}")]


def _writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "training.tensorboard = true, but it is not installed: pip install 'undrift[tensorboard]'"
        ) from None
    return SummaryWriter


def _step(line: str) -> float:
    """The step of a line; infinite for one cut off in the middle."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
