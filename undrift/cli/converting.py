"""What `undrift convert` does: to the files of a restorer, IR-SDE, Refusion or DA-CLIP; and to a model of undrift."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file

from ..interop.daclip import towers
from ..interop.irsde_checkpoint import autoencoder_from, irsde_checkpoint, is_score_sde, read_state
from ..interop.irsde_presets import settings
from ..interop.score_sde_presets import RELEASED
from ..training.checkpoint import CLIP, WEIGHTS, find, load, read_card, save
from ..training.files import replacing
from .folder import own

__all__ = ["convert_restorer", "shorten"]

Made = TypeVar("Made")


def convert_restorer(
    checkpoint: str,
    out: str,
    *,
    preset: str | None,
    given: Mapping[str, Any],
    latent: str | None,
    clip: str | None,
    average: bool,
) -> str:
    """Write the model to the folder `out`; what was written, in a line. Errors name the file."""
    state = read_state(checkpoint, average=average)
    if is_score_sde(state):
        raise ValueError(f"{checkpoint}: of Score SDE: give its --config, e.g. {next(iter(RELEASED))}")
    chosen = settings(preset, given)
    codes = read_state(latent, average=average) if latent else None
    if codes is not None:
        _of(str(latent), lambda: autoencoder_from(codes))  # whose fault it is
    denoiser, space = _of(checkpoint, lambda: irsde_checkpoint(state, chosen, codes))
    eyes = _of(clip, lambda: towers(read_state(clip))) if clip else None
    wanted = getattr(denoiser.network, "contexts", {})
    if eyes is not None:
        _same_size(wanted, eyes.visual.proj.shape[1])
    folder = own(Path(out))
    facts = {"converted from": Path(checkpoint).name} | ({"preset": preset} if preset else {})
    facts |= {key: Path(file).name for key, file in (("latent", latent), ("clip", clip)) if file}
    save(folder, denoiser, space, facts)
    if eyes is None:
        (folder / CLIP).unlink(missing_ok=True)  # of an earlier model in this folder
    else:
        with replacing(folder / CLIP) as part:
            save_file(dict(eyes.state_dict()), part)
    blind = " without its CLIP: undrift restore will ask for --contexts" if wanted and eyes is None else ""
    count = sum(p.numel() for p in denoiser.parameters())
    return f"{folder}: {count:,} parameters, of {checkpoint} as {_called(preset, given)}{blind}"


def _called(preset: str | None, given: Mapping[str, Any]) -> str:
    """The settings, as they were asked for."""
    return ", ".join([*([preset] if preset else []), *(f"{name} {value}" for name, value in given.items())])


def shorten(model: str, base: str, rank: int, out: str) -> str:
    """Write a model to the folder `out` as its difference from `base`, in float16; what was written, in a line."""
    if Path(out).resolve() == find(model).resolve():
        raise ValueError(
            f"--out {out}: the model itself, which would lose what the rank leaves out: name another folder"
        )
    find(base)  # before a folder is made
    denoiser, space = load(model)
    before = (find(model) / WEIGHTS).stat().st_size
    folder = own(Path(out))
    save(folder, denoiser, space, read_card(model)["training"], torch.float16, base=base, rank=rank)
    (folder / CLIP).unlink(missing_ok=True)  # of an earlier model in this folder
    if (towers := find(model) / CLIP).is_file():
        with replacing(folder / CLIP) as part:
            shutil.copyfile(towers, part)
    after = (folder / WEIGHTS).stat().st_size
    return f"{folder}: {model} on top of {base}, rank {rank}: {before / 2**20:.2f} MiB -> {after / 2**20:.2f} MiB"


def _same_size(wanted: Mapping[str, int], size: int) -> None:
    if not wanted:
        raise ValueError("--clip: this network wants no context: leave it out")
    if set(wanted.values()) != {size}:
        raise ValueError(f"--clip gives contexts of {size} numbers, but this network wants {max(wanted.values())}")


def _of(file: str, make: Callable[[], Made]) -> Made:
    """What `make` returns; its ValueError after the name of the file."""
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
