"""undrift sample: images from noise, by a trained generator."""

import argparse
import os
from pathlib import Path

from .arguments import add_machine, whole

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", metavar="OUT", default="samples.png", help="a picture of them all (samples.png);"
                        " or a folder: each image, and the picture")  # fmt: skip
    about = "a bundled model, a folder, or that of a diffusers pipeline (fashion)"
    parser.add_argument("--model", metavar="NAME", default="fashion", help=about)
    parser.add_argument("--prompt", metavar="TEXT", help="what to make, for a text-to-image pipeline of diffusers")
    parser.add_argument("--negative", metavar="TEXT", help="what guidance turns away from, with --prompt")
    parser.add_argument("--count", metavar="N", type=whole(1), help="how many (100; of a diffusers pipeline 4)")
    parser.add_argument("--label", metavar="CLASS", help="a class by name or number; by default all in turn")
    parser.add_argument(
        "--steps", metavar="N", type=whole(1), help="network evaluations (10; students 2); up to 4: by its student"
    )
    parser.add_argument("--solver", metavar="NAME", help="see `undrift info` for all (ode-2c; students consistency)")
    parser.add_argument(
        "--guidance",
        metavar="W",
        type=float,
        help="classifier-free scale; 1 is none (1; of students that were told one, the middle)",
    )
    parser.add_argument("--temperature", metavar="T", type=float, default=1.0, help="scale of the first noise (1)")
    parser.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of the first image; the rest follow (0)")
    parser.add_argument(
        "--size", metavar="PX", type=whole(1), help="side of the images (what the model was trained on)"
    )
    parser.add_argument(
        "--batch", metavar="N", type=whole(1), default=16, help="images between two writes; changes none of them (16)"
    )
    add_machine(parser)
    parser.epilog = (
        "Image k depends on seed + k and its class alone: not on the count, the batch or the number of processes. "
        "In a folder, what an earlier run made alike is not made again."
    )


def run(
    *,
    out: str,
    model: str,
    prompt: str | None,
    negative: str | None,
    count: int | None,
    label: str | None,
    steps: int | None,
    solver: str | None,
    guidance: float | None,
    temperature: float,
    seed: int,
    size: int | None,
    batch: int,
    device: str,
    threads: int,
) -> int:
    from ..data.image import FORMATS
    from ..generation import USUAL
    from ..preset import chosen
    from .generator import open_generator
    from .model import stand_in
    from .sampling import Sampling
    from .world import joined

    if guidance in (None, 1.0):
        model = stand_in(model, steps, solver)
    generator = open_generator(model, device, threads)
    if count is None:
        count = 100 if generator.pipeline is None else 4
    labels = generator.labels(count, label)
    denoise, told = generator.guided(guidance, negative)
    solver, steps = chosen(generator.denoiser, solver, steps, USUAL)
    shape = generator.sized(size)
    read = generator.reading(prompt, shape)
    path = Path(out)
    single = bool(path.suffix) and not path.is_dir() and not out.endswith(("/", os.sep))
    if single and path.suffix.lower() not in FORMATS:
        raise ValueError(f"{out}: cannot write {path.suffix}: use one of {' '.join(FORMATS)}, or end a folder with /")
    across = len(generator.names) if labels is not None and label is None else round(count**0.5)
    work = Sampling(
        model, generator, denoise, told, shape, labels, steps, solver, seed, temperature, guidance, count, batch,
        across=max(1, min(across, count)), path=path, single=single, words=(prompt, negative),
        read=read,
    )  # fmt: skip
    with joined() as world:
        return work.run(world)
