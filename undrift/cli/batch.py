"""Many photographs, one after the other: a bar on a terminal, a line for each, and no stop at a broken one."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tqdm import tqdm

from ..signals import hung_up
from .errors import one_line, printable
from .manifest import Manifest
from .outputs import Jobs
from .world import World

__all__ = ["each"]


def each(
    jobs: Jobs,
    work: Callable[[Path, tuple[Path, ...]], str],
    done: str,
    bar: tqdm,
    *,
    skipped: int = 0,
    world: World = World(),
    manifest: Manifest | None = None,
    more: Mapping[Path, object] | None = None,
) -> int:
    """`work(photograph, files)` for this process's share; the exit code, in the first process 2 if any failed.

    Arguments:
        work: returns what to say of the photograph, in one line.
        done: what happened to those that did not fail, for the summary.
        bar: closed here. `work` moves it.
        skipped: photographs that were done already.
        manifest: where those that are done are noted.
        more: settings of each photograph.
    """
    failures: list[str] = []
    manifest = manifest or Manifest(None, {})
    with bar:
        for path in world.share(list(jobs)):
            files = tuple(jobs[path])
            try:
                seen = manifest.seen(path)
                line = work(path, files)
                manifest.add(seen, files, (more or {}).get(path))
            except Exception as error:
                if os.environ.get("UNDRIFT_DEBUG"):
                    raise
                failures.append(_named(path, one_line(error)))
            else:
                hung_up()
                bar.write(printable(line), file=sys.stdout)
    failures = [failure for some in world.gathered(failures) for failure in some]
    return _summary(len(jobs), skipped, failures, done) if world.first else 0


def _summary(count: int, skipped: int, failures: list[str], done: str) -> int:
    for failure in failures:
        print(f"undrift: {printable(failure)}", file=sys.stderr)
    if count + skipped > 1:
        already = f", {skipped} of them by an earlier run" if skipped else ""
        print(f"{count + skipped - len(failures)} of {count + skipped} photographs {printable(done)}{already}")
    return 2 if failures else 0


def _named(path: Path, message: str) -> str:
    return message if " ".join(str(path).split()) in message else f"{path}: {message}"
