"""A teacher and its students side by side: rows of the same captions and seeds, and one table of their evaluations.

    python benchmarks/text_students.py PICTURE.jpg PIPELINE TEST_FOLDER NAME=RUN/model:EVALUATION ...

EVALUATION is a folder that `undrift evaluate` wrote of that model; the one named `teacher` belongs to PIPELINE.
"""

import argparse
from pathlib import Path

import torch

from undrift.data.captioned import read_captioned
from undrift.evaluation import Results
from undrift.evaluation.prompted import pictures
from undrift.interop.diffusers_text import open_text_to_image
from undrift.report import Strip, grid

MEASURES = {"fd": 3, "coverage": 3, "agreement": 3}
SHOWN = 10


def table(evaluations):
    """Markdown: a row per model and number of evaluations, the real images first."""
    lines = ["| | evaluations | Fréchet distance | coverage | agreement |", "|---|---:|---:|---:|---:|"]
    for number, (name, folder) in enumerate(evaluations.items()):
        for sampler, row in Results.read(folder).tasks["generation"].items():
            if sampler == "real" and number:
                continue
            shown = [f"{row[key]:.{digits}f} ± {row[f'{key}_error']:.{digits}f}" for key, digits in MEASURES.items()]
            who = "half of the real images against the other" if sampler == "real" else f"{name}, {sampler}"
            lines.append(f"| {who} | {row['evaluations']:g} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="A teacher and its students side by side.")
    parser.add_argument("picture", type=Path)
    parser.add_argument("pipeline")
    parser.add_argument("data")
    parser.add_argument("students", nargs="+", metavar="NAME=MODEL:EVALUATION")
    parser.add_argument("--teacher", default="ode-1:50", help="solver:evaluations of the teacher's row (ode-1:50)")
    parser.add_argument("--guidance", type=float, default=2.0)
    given = parser.parse_args()
    data, rows, evaluations = read_captioned(given.data), [], {}
    captions, seeds = list(data.captions[:SHOWN]), list(range(SHOWN))
    for text in given.students:
        name, _, rest = text.partition("=")
        model, _, evaluations[name] = rest.rpartition(":")
        parts = open_text_to_image(given.pipeline if name == "teacher" else model)
        for spec in [given.teacher] if name == "teacher" else [f"consistency:{n}" for n in (1, 2, 4)]:
            rows.append((f"{name}, {spec}", pictures(parts, captions, seeds, spec, given.guidance)))
    rows.append(("real images of these captions", data.images(range(SHOWN), rows[0][1].shape[-1])))
    strips = [Strip(name, "", [_large(image) for image in images.clamp(0, 1)]) for name, images in rows]
    grid(given.picture, strips, [""] * SHOWN, across=2)
    print(table(evaluations))
    print("captions:", "; ".join(captions))


def _large(image, factor=2):
    return torch.as_tensor(image).repeat_interleave(factor, 1).repeat_interleave(factor, 2)


if __name__ == "__main__":
    main()
