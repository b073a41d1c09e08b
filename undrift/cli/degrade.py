"""undrift degrade IN... -o OUT --task NAME: photographs, degraded."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .arguments import whole

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IN", help="photographs, or folders of them")
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="a folder")
    parser.add_argument("--task", required=True, metavar="NAME", help="one of ten, see `undrift info`; or all")
    parser.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of all that is random (0)")
    parser.add_argument(
        "--paired",
        action="store_true",
        help="write OUT/<task>/LQ/<name>.png and OUT/<task>/GT/<name>.png, the layout of the benchmark sets",
    )
    parser.epilog = "The k-th photograph, in sorted order, has random numbers of its own for (seed, k, task)."


def run(*, inputs: Sequence[str], out: str, task: str, seed: int, paired: bool) -> int:
    from tqdm import tqdm

    from ..data import generator, read, write
    from ..degradations import TASKS
    from ..registry import check_keys
    from .outputs import Jobs
    from .photographs import folder_job
    from .world import joined

    check_keys([task], [*TASKS, "all"], "task")
    tasks = list(TASKS) if task == "all" else [task]

    def names(below: Path) -> list[Path]:
        if paired:
            return [Path(name, side, below.with_suffix(".png")) for name in tasks for side in ("LQ", "GT")]
        return [below.with_name(f"{below.stem}.{name}.png") for name in tasks]

    index: dict[Path, int] = {}

    def degrade(path: Path, files: tuple[Path, ...]) -> str:
        photo = read(path)
        for i, name in enumerate(tasks):
            y = TASKS[name](photo.pixels, generator(seed, index[path], name))
            if paired:
                write(files[2 * i], y)
                write(files[2 * i + 1], photo.pixels)
            else:
                write(files[i], y, like=photo)
            bar.update()
        return f"{path} -> {files[0] if len(files) == 1 else f'{len(files)} files'}"

    def progress(jobs: Jobs) -> tqdm:
        bar.reset(len(jobs) * len(tasks))
        return bar

    with joined() as world:
        bar = tqdm(unit="image", disable=None if world.first else True, dynamic_ncols=True)
        return folder_job(
            inputs, Path(out), names, degrade, progress,
            settings={"command": "degrade", "tasks": tasks, "seed": seed, "paired": paired},
            done=f"degraded into {out}", world=world, index=index,
        )  # fmt: skip
