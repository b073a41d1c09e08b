"""What a run writes down: one JSON object per line, always; TensorBoard besides, if asked."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .files import write_text

__all__ = ["Log"]


class Log:
    """`<folder>/log.jsonl`, continued: lines after step `start`, of a run that was cut off, are dropped.

    Arguments:
        folder: None keeps no log, as in all but the first of several processes.
        start: steps done before.
        tensorboard: write to `<folder>/tensorboard` too; ValueError where it is not installed.
    """

    def __init__(self, folder: Path | None, start: int = 0, tensorboard: bool = False) -> None:
        self.file = self.board = None
        if folder is None:
            return
        self.board = _board(folder, start) if tensorboard else None
        path = folder / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        write_text(path, "".join(f"{line}\n" for line in lines if _step(line) <= start))
        self.file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: dict[str, float]) -> None:
        if self.file is not None:
            self.file.write(json.dumps({"step": step, **values}) + "\n")
            self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sink in (self.file, self.board):
            if sink is not None:
                sink.close()


def _board(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "training.tensorboard = true, but it is not installed: pip install 'undrift[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)


def _step(line: str) -> float:
    """The step of a line; infinite for one cut off in the middle."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
