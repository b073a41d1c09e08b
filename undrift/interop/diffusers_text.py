"""A text-to-image pipeline of diffusers, or a student of one, from a folder: `from_pipeline`, and what was learnt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser
from ..space import Space
from ..training.nodes import instructed
from .diffusers_import import Imported, from_pipeline, quietly
from .diffusers_student import FACTS, LORA, is_pipeline, low_rank, read_facts

__all__ = ["TextToImage", "open_text_to_image", "read_prompts"]


@final
@dataclass(frozen=True, eq=False)
class TextToImage:
    """The parts of a pipeline, frozen.

    Arguments:
        denoiser: its network is a `DiffusersUNet`, of conditions as `encode` gives them.
        imported: the pipeline that the rest is of.
        facts: of the training of a student; empty for a teacher.
    """

    denoiser: Denoiser
    imported: Imported
    facts: dict[str, Any]

    @property
    def space(self) -> Space:
        """Of images (B, 3, side, side)."""
        return self.imported.space

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a state, (C, h, w)."""
        return self.imported.shape

    @property
    def side(self) -> int:
        """Of an image, in pixels."""
        codec: Any = getattr(self.space, "codec", None)
        return self.shape[-1] * int(getattr(codec, "stride", 1))

    def encode(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """What the network is told of captions: `text` (B, L, D), and for SDXL more."""
        return self.imported.encode(list(captions))

    def null(self) -> dict[str, Any]:
        """What stands for no caption."""
        return self.imported.nothing()

    def to(self, device: torch.device | str) -> "TextToImage":
        """Itself, with every network on the device."""
        self.imported.to(device)
        self.denoiser.to(device)
        return self


def open_text_to_image(path: str | Path) -> TextToImage:
    """The parts of the pipeline in a folder, with the U-Net of a student where it is one's; on the CPU, float32.

    Raises FileNotFoundError or ValueError, in one line, for a folder that is none, and for one that cannot be read.
    """
    folder = Path(path)
    if not is_pipeline(folder):
        raise FileNotFoundError(f"{path}: no pipeline of diffusers there (no model_index.json)")
    facts = read_facts(folder)
    changed = (folder / LORA).is_file()
    with quietly():
        imported = from_pipeline(_base(folder, facts) if changed else folder)
    if not imported.textual:
        raise ValueError(f"{path}: its network reads no prompts, and a text-to-image pipeline is needed")
    for part in vars(imported.pipeline).values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False).eval()
    denoiser = imported.denoiser
    if changed:
        network: Any = denoiser.network
        network.unet = _changed(network.unet, folder, facts).requires_grad_(False).eval()
    learnt = facts.get("training", {})
    instructed(denoiser, learnt.get("recipe", {}).get("method"))
    denoiser.student = bool(facts)  # an older one may not say how
    return TextToImage(denoiser, imported, learnt)


def _base(folder: Path, facts: dict[str, Any]) -> Path:
    """The pipeline that a low-rank student changes."""
    if "base" not in facts:
        raise ValueError(f"{folder}: its {LORA} is no student of undrift (no {FACTS}): load it in diffusers")
    base = Path(facts["base"])
    if not base.is_dir():
        raise FileNotFoundError(f"{folder}: a change of the pipeline {base}, which is not there: put it back, or write "
                                f"where it is under \"base\" in {FACTS}")  # fmt: skip
    return base


def _changed(unet: Any, folder: Path, facts: dict[str, Any]) -> Any:
    """The U-Net with the low-rank change of a folder."""
    from diffusers import StableDiffusionPipeline
    from peft import set_peft_model_state_dict

    state = StableDiffusionPipeline.lora_state_dict(folder)
    layers = state[0] if isinstance(state, tuple) else state
    found = low_rank(unet, int(facts["training"]["recipe"]["method"]["rank"]))
    layers = {name.removeprefix("unet."): value for name, value in layers.items()}
    result = set_peft_model_state_dict(found, layers)
    if result is not None and result.unexpected_keys:
        raise ValueError(f"{folder}: its {LORA} has {result.unexpected_keys[0]}, which the U-Net of its base has not")
    return found


def read_prompts(path: str | Path) -> tuple[str, ...]:
    """The lines of a text file, without empty ones; FileNotFoundError or ValueError in one line."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"no prompts {path}: give a text file of one prompt a line") from None
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise ValueError(f"{path}: no prompts: one a line")
    return found
