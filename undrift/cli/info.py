"""undrift info [WHAT]: what is installed, what a model is, what a recipe will do, which steps a run takes."""

import argparse

from .arguments import whole

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", metavar="WHAT", help="a model, a recipe or a process; without it, what is installed"
    )
    parser.add_argument("--steps", metavar="N", type=whole(1), help="show every step of a run of N evaluations")
    parser.add_argument("--solver", metavar="NAME", help="of that run (ode-2; students consistency)")
    parser.epilog = "For example: undrift info universal --steps 8 --solver ode-2"


def run(*, what: str | None, steps: int | None, solver: str | None) -> int:
    from . import explain
    from .model import stand_in
    from .run_plan import run_plan

    if what is None:
        if steps or solver:
            raise ValueError(
                "--steps and --solver need a model, a recipe or a process: undrift info universal --steps 8"
            )
        print(explain.installation())
        return 0
    model = stand_in(what, steps, solver)
    subject = explain.find(model)
    if model != what:
        print(f"{what} is stood in for by its student {model}; with --solver it is not")
    if steps or solver:
        usual = explain.usual(subject)
        solver, steps = solver or usual[0], steps or usual[1]
        told = explain.process_of(subject), explain.presets_of(subject)
        print(run_plan(*told, steps, solver))
    else:
        print(explain.explain(subject))
    return 0
