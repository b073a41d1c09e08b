"""undrift convert CHECKPOINT --config NAME -o OUT: an official checkpoint of Score SDE becomes a model of ours."""

import argparse

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint_N.pth of score_sde_pytorch")
    about = "its configuration, e.g. vp/cifar10_ddpmpp_continuous"
    parser.add_argument("--config", dest="name", required=True, metavar="NAME", help=about)
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="a folder, for the model")
    parser.add_argument("--last", action="store_true", help="take the last weights, not their moving average")
    parser.epilog = "A NAME that is not known lists those that are. The file is read as data: nothing in it can run."


def run(*, checkpoint: str, name: str, out: str, last: bool) -> int:
    from pathlib import Path

    from ..interop.score_sde_checkpoint import score_sde_checkpoint
    from ..training.checkpoint import save
    from .folder import writable

    denoiser, space = score_sde_checkpoint(checkpoint, name, average=not last)
    folder = writable(Path(out))
    source = {"converted from": Path(checkpoint).name, "configuration": name, "weights": "last" if last else "average"}
    save(folder, denoiser, space, source)
    print(f"{folder}: {sum(p.numel() for p in denoiser.parameters()):,} parameters, of {checkpoint} as {name}")
    return 0
