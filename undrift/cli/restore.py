"""undrift restore IN... -o OUT: photographs of any size and kind, restored."""

import argparse
from collections.abc import Sequence

from .arguments import add_machine, add_sampling, whole

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="IN", help="photographs, or folders of them")
    parser.add_argument(
        "-o", "--out", required=True, metavar="OUT", help="a folder; for a single photograph also a file name"
    )
    add_sampling(parser)
    parser.add_argument(
        "--samples", metavar="K", type=whole(1), default=1, help="draw K, write their mean and spread (1)"
    )
    parser.add_argument(
        "--task", metavar="NAME", help="what the photographs suffer from, such as hazy or noisy (the model judges)",
    )  # fmt: skip
    parser.add_argument(
        "--contexts", metavar="PATH", help="for DA-CLIP: a .safetensors file, or a folder with one per photograph"
    )  # fmt: skip
    add_machine(parser)
    parser.epilog = (
        "Existing files in OUT are replaced, but for those that an earlier run made alike; input files never are."
    )


def run(
    *,
    inputs: Sequence[str],
    out: str,
    model: str,
    steps: int | None,
    solver: str | None,
    seed: int,
    tile: int,
    samples: int,
    task: str | None,
    contexts: str | None,
    device: str,
    threads: int,
) -> int:
    from ..preset import chosen
    from ..registry import check_keys
    from ..restoration import PRESETS, USUAL, telling
    from .contexts import Contexts, check_told
    from .model import open_model, stand_in
    from .outputs import target
    from .photographs import folder_job
    from .restorer import Restorer
    from .world import joined

    if solver is not None:
        check_keys([solver], PRESETS, "solver")
    folder, name = target(inputs, out)
    model = stand_in(model, steps, solver)
    denoiser, space = open_model(model, device, threads)
    telling(denoiser, task)  # refused before any work
    check_told(denoiser, contexts)
    settings = chosen(denoiser, solver, steps, USUAL)[::-1]
    restorer = Restorer(model, denoiser, space, *settings, seed, samples, tile, task, Contexts(contexts))
    with joined() as world:
        return folder_job(
            inputs, folder, lambda below: restorer.names(below.with_name(name) if name else below),
            restorer, lambda jobs: restorer.progress(jobs, quiet=not world.first),
            settings=restorer.identity(), done=f"restored into {folder}", world=world, keep=name is None,
        )  # fmt: skip
