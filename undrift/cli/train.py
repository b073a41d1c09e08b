"""undrift train RECIPE [key=value ...]: train, or go on with what OUT holds."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..training.run import Result

__all__ = ["add", "run", "tell"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a file, or the name of one in recipes/")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="e.g. training.minutes=10 data.batch=8")
    parser.add_argument("-o", "--out", metavar="DIR", help="folder of the run (runs/RECIPE)")
    parser.epilog = "The same command goes on where the last one stopped; Ctrl-C stops after the step at hand, saved."


def run(*, recipe: str, settings: Sequence[str], out: str | None) -> int:
    import shlex

    from ..training.run import train
    from .recipes import find_recipe

    path = find_recipe(recipe)
    folder = Path(out) if out else Path("runs", path.stem)
    print(f"training {path} in {folder}", flush=True)
    result = train(path, folder, settings)
    return tell(result, shlex.join(["undrift", "train", recipe, "--out", str(folder), *settings]))


def tell(result: "Result", again: str) -> int:
    """Say what a run came to, and the command that goes on with it; the exit code."""
    import os

    from ..interop.diffusers_student import is_pipeline, read_facts
    from ..signals import hung_up
    from ..training.checkpoint import read_card

    if int(os.environ.get("RANK", "0")):  # one of several processes speaks
        return 0
    hung_up()
    pipeline = is_pipeline(result.model)
    facts = (read_facts if pipeline else read_card)(result.model)["training"]
    size = sum(file.stat().st_size for file in result.model.rglob("*") if file.is_file()) / 2**20
    print(
        f"{result.model}: {result.step:,} steps in {result.seconds / 60:.1f} minutes, "
        f"{facts['parameters']:,} parameters, {size:.1f} MiB"
    )
    best = result.model.parent / "best"
    if best.is_dir():
        print(f"{best}: {read_card(best)['training']['panel']}")
    if result.finished:
        print(f"how to use it: {result.model / 'README.md'}" if pipeline else _next(result.model))
        return 0
    print(f"stopped and saved; the same command goes on: {again}")
    return 130


def _next(model: Path) -> str:
    """The command that a finished model is for."""
    import shlex

    from ..training.checkpoint import observes, read_card

    card, name = read_card(model), shlex.quote(str(model))
    if card["kind"] == "classifier":
        return f"look at it: undrift info {name}"
    if observes(card["space"]):
        return f"restore with it: undrift restore PHOTO -o OUT --model {name}"
    return f"sample from it: undrift sample --model {name}"
