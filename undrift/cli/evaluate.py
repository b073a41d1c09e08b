"""undrift evaluate --data DIR: a model on many photographs, with all that can be measured.

A restorer is given degraded ones, every task and setting; a generator's own are compared with them as a set.
"""

import argparse
from typing import Any

from .arguments import add_machine, whole

__all__ = ["add", "run"]

# Flag -> its value where it is not given, for the one kind of model that knows it. None: not given.
RESTORER: dict[str, Any] = {
    "paired": False,
    "tasks": [],
    "baseline": None,  # a student has none
    "lpips": None,
}
GENERATOR: dict[str, Any] = {
    "split": "test",
    "extractor": "fashion-classifier",
    "guidance": 1.0,
    "neighbours": 5,
    "bits": 0,
}
PIPELINE: dict[str, Any] = {
    "captions": None,
    "clip": None,
    "agreement": None,
    "extractor": None,
    "guidance": None,
    "neighbours": 5,
}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="PATH", help="photographs: a folder; for generators also class folders, .npz")
    parser.add_argument("-o", "--out", metavar="DIR", default="undrift-evaluation", help="(undrift-evaluation)")
    parser.add_argument("--model", metavar="NAME", default="universal", help="a bundled model or a folder (universal)")
    usual = "5 8; generators 5 10 20; their students 1 2 and 1 2 4"
    parser.add_argument("--steps", metavar="N", nargs="+", type=whole(1), help=f"evaluations ({usual})")
    parser.add_argument(
        "--solver",
        metavar="NAME",
        nargs="+",
        help="each with all --steps, or as solver:steps (ode-2; generators ode-2c)",
    )
    parser.add_argument(
        "--samples",
        metavar="K",
        type=whole(1),
        help="also the mean of K samples of the first setting (1); generators: how many images (as many as the data)",
    )
    parser.add_argument(
        "--size", metavar="PX", type=whole(0), help="central crop, 0 for none (192; generators: what they make)"
    )
    parser.add_argument("--limit", metavar="N", type=whole(0), default=0, help="photographs per task, 0 for all (0)")
    parser.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of degradations and noise (0)")
    parser.add_argument("--batch", metavar="N", type=whole(1), help="photographs at a time (8; generators 100)")
    parser.add_argument("--fid", metavar="FILE", help="FID, with this TorchScript Inception, a program that will run")
    parser.add_argument(
        "--compare", metavar="RESULTS", nargs=2, help="instead: two results.json, made alike, side by side"
    )
    restorer = parser.add_argument_group("restorers")
    restorer.add_argument(
        "--paired",
        action="store_true",
        default=None,
        help="the folder holds pairs: <task>/LQ/<name> and <task>/GT/<name>, nothing is made",
    )
    restorer.add_argument("--tasks", metavar="NAME", nargs="+", help="some of them (all)")
    restorer.add_argument(
        "--baseline", metavar="SPEC", nargs="*", help="to compare with (posterior:100; of students none)"
    )
    restorer.add_argument(
        "--lpips", metavar="FILE", nargs="?", const="", help="measure LPIPS; the AlexNet file, or UNDRIFT_WEIGHTS"
    )
    generator = parser.add_argument_group("generators")
    generator.add_argument("--split", choices=["test", "train", "all"], help="part of the data to compare with (test)")
    generator.add_argument("--extractor", metavar="NAME", help="of features: a bundled classifier or a folder")
    generator.add_argument("--guidance", metavar="W", type=float, help="classifier-free scale; 1 is none (1)")
    generator.add_argument("--neighbours", metavar="K", type=whole(1), help="k of precision ... coverage (5)")
    generator.add_argument("--bits", metavar="N", type=whole(0), help="measure bits/dim, on N of the data (0)")
    text = parser.add_argument_group("text-to-image pipelines of diffusers, on captioned images")
    text.add_argument(
        "--captions", metavar="FILE", help="COCO's captions .json; --data then is the folder of its images"
    )
    text.add_argument("--clip", metavar="DIR", help="CLIP score, by this model in a folder, as transformers saves it")
    text.add_argument("--agreement", metavar="NAME", help="how often this classifier sees what the caption names")
    add_machine(parser)
    parser.epilog = "Interrupted, it goes on where it was when started again with the same -o."


def run(*, compare: list[str] | None, model: str, device: str, threads: int, data: str | None, **given: Any) -> int:
    from ..interop.diffusers_student import is_pipeline
    from .evaluate_generator import evaluate, makes_images
    from .evaluate_restorer import assess
    from .model import open_model

    if compare:
        from .comparison import comparison

        print(comparison(*compare))
        return 0
    if data is None:
        raise ValueError("nothing to measure on: give --data DIR, a folder of photographs (see --help)")
    if is_pipeline(model):
        from .evaluate_prompted import evaluate_prompted

        return evaluate_prompted(model, data, device, threads, **_only(given, PIPELINE, f"{model} is a pipeline"))
    denoiser, space = open_model(model, device, threads)
    if makes_images(denoiser, space):
        return evaluate(model, denoiser, space, data, **_only(given, GENERATOR, f"{model} is a generator"))
    return assess(model, denoiser, space, data, **_only(given, RESTORER, f"{model} is a restorer"))


def _only(given: dict[str, Any], own: dict[str, Any], what: str) -> dict[str, Any]:
    """Without the flags of other kinds of models, which must not be given; with the values of those left out."""
    others = [name for kind in (RESTORER, GENERATOR, PIPELINE) for name in kind if name not in own]
    if wrong := [name for name in others if given[name] is not None and given[name] is not False]:
        raise ValueError(f"--{wrong[0]}: {what}, which knows no such thing: leave it out")
    known = {name: value for name, value in given.items() if name not in others}
    return known | {name: value for name, value in own.items() if known[name] is None}
