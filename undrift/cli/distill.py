"""undrift distill TEACHER [key=value ...]: a student that needs one to four evaluations, or go on with it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .arguments import whole

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "teacher", metavar="TEACHER", help="a bundled model or a folder: a generator, a restorer, or a text-to-image "
        "pipeline of diffusers",
    )  # fmt: skip
    parser.add_argument("settings", nargs="*", metavar="key=value", help="e.g. training.steps=1000 critic.weight=0.2")
    parser.add_argument("--preset", metavar="NAME", default="scott", help="lcm, scott-paper, scott or scott-es (scott)")
    parser.add_argument(
        "--data", metavar="PATH", help="images like the teacher's, .npz or folder (its own samples); for a restorer "
        "clean photographs; for a pipeline captioned images: a folder, shards, a data set",
    )  # fmt: skip
    parser.add_argument("--samples", metavar="N", type=whole(20), help="of the teacher, without --data (10000)")
    parser.add_argument("--prompts", metavar="FILE", help="a pipeline's, one a line, for samples instead of --data")
    parser.add_argument("--lora", metavar="RANK", type=whole(1), help="of a pipeline: a low-rank student (a whole one)")
    parser.add_argument("-o", "--out", metavar="DIR", help="folder of the run (runs/TEACHER-PRESET)")
    parser.epilog = (
        "OUT/report.html shows how it goes. The same command goes on where the last one stopped; Ctrl-C stops after "
        "the step at hand, saved."
    )


def run(
    *,
    teacher: str,
    settings: Sequence[str],
    preset: str,
    data: str | None,
    samples: int | None,
    prompts: str | None,
    lora: int | None,
    out: str | None,
) -> int:
    import shlex

    from ..interop.diffusers_student import is_pipeline
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
    if prompts and (data or not is_pipeline(teacher)):
        raise ValueError("--prompts are for a pipeline without --data: they stand in for it")
    given = ["--data", data] if data else ["--samples", str(samples)] if samples else []
    given += [*(["--prompts", prompts] if prompts else []), *(["--lora", str(lora)] if lora else [])]
    if prompts:
        data = _imagined(teacher, preset, settings, folder, prompts, samples or 10_000, lora or 0)
    elif data is None and not is_pipeline(teacher) and not restores(distillable(teacher)):
        data = str(folder / "samples.npz")
        check(distilling(teacher, preset, data, there=False), settings)  # before an hour of sampling
        teacher_samples(teacher, writable(folder) / "samples.npz", samples or 10_000)
    recipe = distilling(teacher, preset, data, rank=lora or 0)
    print(f"distilling {teacher} by {preset} in {folder}", flush=True)
    result = train(recipe, folder, settings)
    again = ["undrift", "distill", teacher, "--preset", preset, *given, "--out", str(folder), *settings]
    return tell(result, shlex.join(again))


def _imagined(
    teacher: str, preset: str, settings: Sequence[str], folder: Path, prompts: str, samples: int, rank: int
) -> str:
    """A pipeline's own images of the prompts in a file, at the middle of the guidance that the student will know."""
    from ..interop.diffusers_text import read_prompts
    from ..training.presets import distilling
    from ..training.recipe import override
    from ..training.run import check
    from ..training.text_samples import prompted_samples
    from .folder import writable

    home = folder / "samples"
    recipe = distilling(teacher, preset, home, rank=rank)
    check(recipe, settings)  # before an hour of sampling
    scale = override(recipe, settings)["method"].get("guidance") or [1.0]
    lines = read_prompts(prompts)
    return str(prompted_samples(teacher, lines, writable(folder) / "samples", samples, sum(scale) / len(scale)))
