"""undrift distill TEACHER [key=value ...]: a student that needs one to four evaluations, or go on with it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .arguments import whole

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("teacher", metavar="TEACHER", help="a bundled model or a folder: a generator or a restorer")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="e.g. training.steps=1000 critic.weight=0.2")
    parser.add_argument("--preset", metavar="NAME", default="scott", help="lcm, scott-paper, scott or scott-es (scott)")
    parser.add_argument(
        "--data", metavar="PATH", help="images like the teacher's, .npz or folder (its own samples); for a restorer "
        "clean photographs",
    )  # fmt: skip
    parser.add_argument("--samples", metavar="N", type=whole(20), help="of the teacher, without --data (10000)")
    parser.add_argument("-o", "--out", metavar="DIR", help="folder of the run (runs/TEACHER-PRESET)")
    parser.epilog = (
        "OUT/report.html shows how it goes. The same command goes on where the last one stopped; Ctrl-C stops after "
        "the step at hand, saved."
    )


def run(
    *, teacher: str, settings: Sequence[str], preset: str, data: str | None, samples: int | None, out: str | None
) -> int:
    import shlex

    from ..registry import check_keys
    from ..training.presets import PRESETS, distillable, distilling, restores
    from ..training.run import check, train
    from ..training.samples import teacher_samples
    from .folder import writable
    from .train import tell

    check_keys([preset], PRESETS, "preset")
    folder = Path(out) if out else Path("runs", f"{Path(teacher).resolve().name}-{preset}")
    if samples and data:
        raise ValueError("--samples without --data only: they stand in for it")
    given = ["--data", data] if data else ["--samples", str(samples)] if samples else []
    if data is None and not restores(distillable(teacher)):
        data = str(folder / "samples.npz")
        check(distilling(teacher, preset, data, there=False), settings)  # before an hour of sampling
        teacher_samples(teacher, writable(folder) / "samples.npz", samples or 10_000)
    recipe = distilling(teacher, preset, data)
    print(f"distilling {teacher} by {preset} in {folder}", flush=True)
    result = train(recipe, folder, settings)
    again = ["undrift", "distill", teacher, "--preset", preset, *given, "--out", str(folder), *settings]
    return tell(result, shlex.join(again))
