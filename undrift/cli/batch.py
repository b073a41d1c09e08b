"""Many photographs, one after the other: a bar on a terminal, a line for each, and no stop at a broken one."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from .errors import one_line
from .outputs import Jobs

__all__ = ["each"]


def each(jobs: Jobs, work: Callable[[Path, tuple[Path, ...]], str], done: str, bar: tqdm) -> int:
    """`work(photograph, files)` for all; the exit code, 2 if any failed.

    Arguments:
        work: returns what to say of the photograph, in one line.
        done: what happened to those that did not fail, for the summary.
        bar: closed here. `work` moves it.
    """
    failures: list[str] = []
    with bar:
        for path, files in jobs.items():
            try:
                line = work(path, tuple(files))
            except Exception as error:
                if os.environ.get("UNDRIFT_DEBUG"):
                    raise
                failures.append(_named(path, one_line(error)))
            else:
                bar.write(line, file=sys.stdout)
    for failure in failures:
        print(f"undrift: {failure}", file=sys.stderr)
    if len(jobs) > 1:
        print(f"{len(jobs) - len(failures)} of {len(jobs)} photographs {done}")
    return 2 if failures else 0


def _named(path: Path, message: str) -> str:
    return message if str(path) in message else f"{path}: {message}"
