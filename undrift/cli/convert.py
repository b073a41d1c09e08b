"""undrift convert CHECKPOINT -o OUT: official weights of Score SDE, IR-SDE, Refusion or DA-CLIP become a model.

And a model of undrift becomes a small one: its difference from another.
"""

import argparse

from .arguments import whole

__all__ = ["add", "run"]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint_N.pth of score_sde_pytorch, N_G.pth, ...")
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help="a folder, for the model")
    about = "of Score SDE: its configuration, e.g. vp/cifar10_ddpmpp_continuous"
    parser.add_argument("--config", dest="name", metavar="NAME", help=about)
    parser.add_argument("--last", action="store_true", help="take the last weights, not their moving average")
    restorer = parser.add_argument_group("IR-SDE, Refusion, DA-CLIP", "The schedule is not in the file: say which.")
    restorer.add_argument("--preset", metavar="NAME", help="the released settings, e.g. deraining, refusion, daclip")
    restorer.add_argument("--max-sigma", metavar="X", type=float, help="deviation of the noise, in 1/255")
    restorer.add_argument("--steps", metavar="T", type=whole(2), help="number of time indices")
    restorer.add_argument("--schedule", metavar="NAME", help="cosine, linear or constant")
    restorer.add_argument("--eps", metavar="X", type=float, help="alpha at the noise end")
    restorer.add_argument("--noise", metavar="X", type=float, help="DenoisingSDE: the noise to remove, in 1/255")
    about = "it was trained to match the noise, not by the maximum-likelihood loss"
    restorer.add_argument("--matched", action="store_true", help=about)
    restorer.add_argument("--latent", metavar="FILE", help="the network between images and codes, of a latent model")
    restorer.add_argument("--clip", metavar="FILE", help="the CLIP of a DA-CLIP model, e.g. daclip_ViT-B-32.pt")
    own = parser.add_argument_group("models of undrift", "A student, or a fine-tuned model, may be stored small.")
    own.add_argument("--base", metavar="MODEL", help="store only the difference from it: what it was made of")
    own.add_argument("--rank", metavar="R", type=whole(1), help="of that difference, of each matrix (16)")
    parser.epilog = "A NAME that is not known lists those that are. The file is read as data: nothing in it can run."


def run(
    *,
    checkpoint: str,
    out: str,
    name: str | None,
    last: bool,
    preset: str | None,
    matched: bool,
    latent: str | None,
    clip: str | None,
    base: str | None,
    rank: int | None,
    **schedule: float | str | None,
) -> int:
    given = {key: value for key, value in schedule.items() if value is not None} | (
        {"matched": True} if matched else {}
    )
    if base is not None:
        if name or last or preset or given or latent or clip:
            raise ValueError("--base is for models of undrift, which say all else themselves: leave the rest out")
        from .converting import shorten

        print(shorten(checkpoint, base, rank or 16, out))
        return 0
    if rank:
        raise ValueError(f"--rank {rank}: of the difference from a model: give --base too")
    if name is not None:
        if preset or given or latent or clip:
            raise ValueError("--config is for Score SDE, and --preset, schedule, --latent and --clip are for IR-SDE")
        return _score_sde(checkpoint, name, out, last)

    from .converting import convert_restorer

    print(convert_restorer(checkpoint, out, preset=preset, given=given, latent=latent, clip=clip, average=not last))
    return 0


def _score_sde(checkpoint: str, name: str, out: str, last: bool) -> int:
    from pathlib import Path

    from ..interop.score_sde_checkpoint import score_sde_checkpoint
    from ..training.checkpoint import save
    from .folder import own

    denoiser, space = score_sde_checkpoint(checkpoint, name, average=not last)
    folder = own(Path(out))
    source = {"converted from": Path(checkpoint).name, "configuration": name, "weights": "last" if last else "average"}
    save(folder, denoiser, space, source)
    print(f"{folder}: {sum(p.numel() for p in denoiser.parameters()):,} parameters, of {checkpoint} as {name}")
    return 0
