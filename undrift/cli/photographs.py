"""A folder of photographs as one job: planned by the first process, shared by all, and gone on with when it stopped."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import __version__
from .batch import each
from .manifest import Manifest, sweep
from .outputs import Jobs, assign, prepare
from .world import World

__all__ = ["folder_job"]


def folder_job(
    inputs: Sequence[str],
    folder: Path,
    names: Callable[[Path], Sequence[Path]],
    work: Callable[[Path, tuple[Path, ...]], str],
    progress: Callable[[Jobs], tqdm],
    *,
    settings: Mapping[str, Any],
    done: str,
    world: World,
    keep: bool = True,
    index: dict[Path, int] | None = None,
) -> int:
    """`work` on all photographs among `inputs` that `folder` does not hold yet; the exit code.

    Arguments:
        names, work, done: as in `outputs.assign` and `batch.each`.
        progress: makes the bar of this process's share.
        settings: all that the outputs depend on but their inputs.
        keep: whether there is a manifest; never for a single photograph, unless there is one already.
        index: filled with the number of each photograph, where the work depends on it.
    """
    manifest = Manifest(folder if keep else None, {"undrift": __version__, **settings})

    def plan() -> tuple[Jobs, Jobs]:
        jobs = assign(inputs, folder, names)
        prepare(jobs)
        sweep(dict.fromkeys(file.parent for files in jobs.values() for file in files))
        numbers = {path: i for i, path in enumerate(jobs)} if index is not None else {}
        left = {p: f for p, f in jobs.items() if not manifest.done(p, f, numbers.get(p))}
        return jobs, left

    jobs, left = world.planned(plan)
    if index is not None:
        index.update({path: i for i, path in enumerate(jobs)})
    single = len(jobs) == 1 and not manifest.known and not Path(inputs[0]).is_dir()
    bar = progress({path: left[path] for path in world.share(list(left))})
    return each(
        left, work, done, bar, skipped=len(jobs) - len(left), world=world,
        manifest=None if single else manifest, more=index,
    )  # fmt: skip
