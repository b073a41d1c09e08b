"""A generator and its students side by side: a row of images of the same seeds for each, and one table.

    python benchmarks/image_students.py PICTURE.png TEACHER:EVALUATION NAME=RUN/model:EVALUATION[,MORE...] ...

EVALUATION is a folder that `undrift evaluate` wrote of that model. Several models of one NAME are seeds of one method:
the table has their mean and standard deviation, the picture the first.
"""

import argparse
from pathlib import Path
from statistics import fmean, stdev

import undrift
from undrift.evaluation import Results, sampler
from undrift.evaluation.generation import REAL, TASK
from undrift.report import Strip, grid
from undrift.training.checkpoint import read_card

MEASURES = {"fd": "Fréchet distance", "coverage": "coverage", "density": "density", "precision": "precision"}


def rows(name, folders, real=False):
    """Of the table: one for each sampler; of one model with the standard error, of several with the deviation."""
    found = [Results.read(folder).tasks[TASK] for folder in folders]
    for spec in found[0]:
        if spec == REAL and not real:
            continue
        cells = []
        for key in MEASURES:
            values = [each[spec][key] for each in found]
            error = stdev(values) if len(values) > 1 else found[0][spec][f"{key}_error"]
            cells.append(f"{fmean(values):.3f} ± {error:.3f}")
        who = "half of the real images against the other" if spec == REAL else f"{name}, {spec}"
        yield f"| {who} | {' | '.join(cells)} |"


def images(model, spec, count):
    """The first `count` images that `undrift evaluate` measures, of the classes in turn."""
    facts = read_card(model)["training"]
    drawn = sampler(*undrift.load(model), spec, facts["shape"], classes=len(facts["classes"]))
    return drawn.draw(range(count))[0].clamp(0, 1)


def large(image, factor=2):
    """(C, H, W) -> (3, H f, W f)."""
    return image.repeat_interleave(factor, 1).repeat_interleave(factor, 2).expand(3, -1, -1)


def main():
    parser = argparse.ArgumentParser(description="A generator and its students side by side.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("teacher", metavar="TEACHER:EVALUATION")
    parser.add_argument("students", nargs="+", metavar="NAME=MODEL:EVALUATION[,MODEL:EVALUATION...]")
    parser.add_argument("--solver", default="ode-2c:50", help="solver:evaluations of the teacher's row (ode-2c:50)")
    parser.add_argument("--count", type=int, default=20, help="images in a row of the picture (20)")
    given = parser.parse_args()
    teacher, _, folder = given.teacher.rpartition(":")
    print(f"| sampler | {' | '.join(MEASURES.values())} |\n|---|{'---:|' * len(MEASURES)}")
    print(*rows("teacher", [folder], real=True), sep="\n")
    strips = [Strip(f"teacher, {given.solver}", "", [*map(large, images(teacher, given.solver, given.count))])]
    for text in given.students:
        name, _, rest = text.partition("=")
        pairs = [seed.rpartition(":")[::2] for seed in rest.split(",")]
        print(*rows(name, [folder for _, folder in pairs]), sep="\n")
        for spec in (spec for spec in Results.read(pairs[0][1]).tasks[TASK] if spec != REAL):
            strips.append(Strip(f"{name}, {spec}", "", [*map(large, images(pairs[0][0], spec, given.count))]))
    grid(given.picture, strips, [""] * given.count, across=1)


if __name__ == "__main__":
    main()
