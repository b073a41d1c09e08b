"""undrift demo: the ten tasks on the bundled photographs, the model's student and the posterior sampler beside it."""

import argparse
from pathlib import Path

from .arguments import add_machine, whole

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", metavar="DIR", default="undrift-demo", help="where to write (undrift-demo)")
    parser.add_argument("--model", metavar="NAME", default="universal", help="a bundled model or a folder (universal)")
    parser.add_argument("--steps", metavar="N", type=whole(1), help="network evaluations (8; students 2)")
    parser.add_argument("--solver", metavar="NAME", help="see `undrift info` for all (ode-2; students consistency)")
    parser.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of degradations and noise (0)")
    parser.add_argument("--size", metavar="PX", type=whole(32, 256), default=160, help="side of the photographs (160)")
    parser.add_argument(
        "--baseline-steps",
        metavar="N",
        type=whole(0),
        default=100,
        help="evaluations of the posterior sampler to compare with, 0 for none (100)",
    )
    parser.add_argument(
        "--blind", action="store_true", help="do not tell the model what each photograph suffers from, let it see"
    )
    add_machine(parser)


def run(
    *,
    out: str,
    model: str,
    steps: int | None,
    solver: str | None,
    seed: int,
    size: int,
    baseline_steps: int,
    blind: bool,
    device: str,
    threads: int,
) -> int:
    from ..evaluation import Setting, scenes
    from ..preset import chosen
    from ..restoration import USUAL
    from ..training.checkpoint import student_of
    from .demonstration import Demonstration
    from .folder import writable
    from .model import open_model

    denoiser, space = open_model(model, device, threads)
    contestants = [(denoiser, Setting(*chosen(denoiser, solver, steps, USUAL), blind=blind))]
    if name := student_of(model):
        student, _ = open_model(name, device)
        contestants.append((student, Setting(*chosen(student, None, None, USUAL), blind=blind)))
    if baseline_steps and not denoiser.student:  # a student's steps sample no posterior
        contestants.append((denoiser, Setting("posterior", baseline_steps, blind=blind)))
    folder = writable(Path(out))
    demonstration = Demonstration.of(space, scenes(size, seed), contestants, seed)
    print(demonstration.text())
    for path in demonstration.write(folder, model):
        print(path)
    return 0
