"""undrift edit WHAT IN... -o OUT: fill in, colourise or interpolate images with a generator."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .arguments import add_machine, whole

__all__ = ["add", "run"]

WHATS = ("inpaint", "colourise", "interpolate")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="WHAT", help=f"{', '.join(WHATS[:-1])} or {WHATS[-1]}")
    parser.add_argument("inputs", nargs="+", metavar="IN", help="images of the model's size; interpolate takes two")
    parser.add_argument("-o", "--out", metavar="OUT", default="edited.png", help="the picture to write (edited.png)")
    parser.add_argument("--mask", metavar="IMAGE", help="inpaint: white is filled in; without it, the lower half")
    parser.add_argument("--model", metavar="NAME", default="fashion", help="a bundled model or a folder (fashion)")
    parser.add_argument("--samples", metavar="K", type=whole(1), default=8, help="results per image (8)")
    parser.add_argument("--label", metavar="CLASS", help="tell the model the class, by name or number")
    parser.add_argument("--steps", metavar="N", type=whole(1), default=50, help="steps of inpaint and colourise (50)")
    parser.add_argument("--seed", metavar="N", type=whole(0), default=0, help="of the noise (0)")
    add_machine(parser)
    parser.epilog = (
        "inpaint and colourise sample the posterior given what is known, by pseudo-inverse guidance; interpolate "
        "follows the great circle between two latent codes. One row per image: what was given, then the results."
    )


def run(
    *,
    what: str,
    inputs: Sequence[str],
    out: str,
    mask: str | None,
    model: str,
    samples: int,
    label: str | None,
    steps: int,
    seed: int,
    device: str,
    threads: int,
) -> int:
    import torch
    from tqdm import tqdm

    from ..data import write
    from ..registry import check_keys
    from ..report import sheet
    from .batch import each
    from .editing import editor, interpolated
    from .folder import writable
    from .generator import open_generator
    from .outputs import target

    check_keys([what], WHATS, "edit")
    if mask and what != "inpaint":
        raise ValueError(f"--mask {mask}: only inpaint takes a mask: leave it out")
    generator = open_generator(model, device, threads)
    folder, name = target([inputs[0]], out)
    path = writable(folder) / (name or "edited.png")
    if any(Path(given).resolve() == path.resolve() for given in inputs):
        raise ValueError(f"{path} would overwrite the input: give another -o")
    labels = None if label is None else generator.labels(1, label)
    rows, code = list[torch.Tensor](), 0
    if what == "interpolate":
        rows.append(interpolated(generator, inputs, samples, labels))
    else:
        edit, bar = editor(what, generator, mask), tqdm(total=len(inputs), unit="image", disable=None)

        def work(image: Path, _: tuple[Path, ...]) -> str:
            rows.append(edit(str(image), samples, labels, steps, seed))
            bar.update()
            return f"{image}: row {len(rows)}"

        code = each(dict.fromkeys(map(Path, inputs), ()), work, f"edited into {path}", bar)
    if rows:
        write(path, sheet(torch.cat(rows), len(rows[0])))
        print(f"{what}: {len(rows)} x {len(rows[0])} images in {path}")
    return code
