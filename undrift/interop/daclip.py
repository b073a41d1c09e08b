"""The CLIP towers of DA-CLIP as eyes of a restorer: what they see of a photograph is what its network is told.

Nothing but torch is needed: the two towers are a few blocks (`networks.clip_image`). Source: DA-CLIP (Luo et al. 2023,
arXiv 2310.01018), whose contexts are not normalised; they are computed in half precision there and in float32 here.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..networks.clip_image import ControlledCLIP

__all__ = ["Eyes", "towers"]

HEAD = 64  # channels of a head in CLIP's vision transformers


def towers(state: Mapping[str, Tensor]) -> ControlledCLIP:
    """The towers of a DA-CLIP file, whose sizes follow from its tensors; those of its text tower are left out.

    Raises ValueError, in one line, for tensors of something else.
    """
    kept = {"visual." + name.removeprefix("clip.visual."): v for name, v in state.items() if name.startswith("clip.v")}
    kept |= {name: value for name, value in state.items() if name.startswith(("visual.", "visual_control."))}
    try:
        width, _, patch, _ = kept["visual.conv1.weight"].shape
        tokens, embedding = len(kept["visual.positional_embedding"]), kept["visual.proj"].shape[1]
        inner = len(kept["visual.transformer.resblocks.0.mlp.c_fc.weight"])
    except (KeyError, ValueError):
        raise ValueError(
            "no image tower of a CLIP in it: need the file of DA-CLIP, such as daclip_ViT-B-32.pt"
        ) from None
    layers = 1 + max(int(name.split(".")[3]) for name in kept if name.startswith("visual.transformer.resblocks."))
    side = patch * round((tokens - 1) ** 0.5)
    with torch.device("meta"):
        made = ControlledCLIP(width, layers, max(1, width // HEAD), inner, patch, side, embedding)
    expected = made.state_dict()
    for name, value in expected.items():
        if name not in kept:
            raise ValueError(f"no tensor {name} {tuple(value.shape)}, which the towers of DA-CLIP have")
        if kept[name].shape != value.shape:
            raise ValueError(f"{name} has shape {tuple(kept[name].shape)}, but the tower's is {tuple(value.shape)}")
    made.load_state_dict({name: kept[name].float() for name in expected}, assign=True)
    return made.requires_grad_(False).eval()


@final
class Eyes:
    """eyes(photograph (3, H, W) in [0, 1]) -> {"image_context": (n,), "degradation_context": (n,)}.

    Arguments:
        file: `clip.safetensors` of a model, which is opened when first needed.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    @cached_property
    def clip(self) -> ControlledCLIP:
        try:
            return towers(load_file(self.file))
        except SafetensorError as error:
            raise ValueError(f"{self.file}: damaged or truncated ({error})") from None
        except ValueError as error:
            raise ValueError(f"{self.file}: {error}") from None

    @torch.no_grad()
    def __call__(self, photograph: Tensor) -> dict[str, Tensor]:
        content, degradation = self.clip.to(photograph.device)(photograph[None])
        return {"image_context": content[0], "degradation_context": degradation[0]}
