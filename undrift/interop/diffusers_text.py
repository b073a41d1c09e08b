"""A text-to-image pipeline of diffusers, or a student of one, as a Denoiser, a Space and an encoder of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from .. import prediction
from ..denoiser import Denoiser, Time
from ..process import Table
from ..space import Space
from .diffusers_student import LORA, TextUNet, is_pipeline, low_rank, read_facts

__all__ = ["Latents", "Prompts", "TextToImage", "open_text_to_image", "read_prompts"]


@final
class Prompts(nn.Module):
    """What a network is told of prompts: `encode(["a boot", ""])` -> {"text": (2, L, D)}.

    Arguments:
        tokenizer, text_encoder: CLIP's, as a pipeline holds them.
    """

    def __init__(self, tokenizer: Any, text_encoder: nn.Module) -> None:
        super().__init__()
        self.tokenizer, self.text_encoder = tokenizer, text_encoder.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, captions: Sequence[str]) -> dict[str, Tensor]:
        words = self.tokenizer(
            list(captions), padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip
        device = next(self.text_encoder.parameters()).device
        return {"text": self.text_encoder(words.input_ids.to(device))[0]}


@final
class Latents(nn.Module, Space):
    """z = factor * mean of E(2 x - 1) by an AutoencoderKL; the observation plays no part.

    Arguments:
        vae: the autoencoder; frozen.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae.requires_grad_(False).eval()
        self.factor = float(vae.config.scaling_factor)

    @torch.no_grad()
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        mean: Tensor = self.vae.encode((2 * x - 1).to(self.vae.dtype)).latent_dist.mean
        return self.factor * mean.to(x.dtype)

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        image: Tensor = self.vae.decode((z / self.factor).to(self.vae.dtype)).sample
        return (image.to(z.dtype) + 1) / 2


@final
@dataclass(frozen=True)
class TextToImage:
    """The parts of a pipeline, on the CPU and frozen.

    Arguments:
        denoiser: its network is a `TextUNet`, of conditions as `encode` gives them.
        space: of images (B, 3, side, side).
        encode: captions -> conditions.
        shape: of a state, (C, h, w).
        side: of an image, in pixels.
        facts: of the training of a student; empty for a teacher.
    """

    denoiser: Denoiser
    space: Latents
    encode: Prompts
    shape: tuple[int, int, int]
    side: int
    facts: dict[str, Any]

    def null(self) -> dict[str, Tensor]:
        """The conditions of the empty prompt, without their first axis."""
        return {name: value[0] for name, value in self.encode([""]).items()}


def open_text_to_image(path: str | Path) -> TextToImage:
    """The parts of the pipeline in a folder, with the U-Net of a student where it is one's.

    Raises FileNotFoundError or ValueError, in one line, for a folder that is none, and for one that cannot be read.
    """
    folder = Path(path)
    if not is_pipeline(folder):
        raise FileNotFoundError(f"{path}: no pipeline of diffusers there (no model_index.json)")
    facts = read_facts(folder)
    base = Path(facts["base"]) if (folder / LORA).is_file() else folder
    unet, vae, scheduler = _part(base, "unet"), _part(base, "vae"), _settings(base, "scheduler")
    if (folder / LORA).is_file():
        unet = _changed(unet, folder, facts)
    denoiser = Denoiser(
        TextUNet(unet), _process(scheduler), _prediction(scheduler), scale=None, label=Time()
    ).requires_grad_(False).eval()  # fmt: skip
    denoiser.student = bool(facts)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    side = int(unet.config.sample_size)
    shape = (int(unet.config.in_channels), side, side)
    encode = Prompts(_part(base, "tokenizer"), _part(base, "text_encoder"))
    return TextToImage(denoiser, Latents(vae), encode, shape, side * factor, facts.get("training", {}))


def _part(folder: Path, name: str) -> Any:
    try:
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError:
        raise ValueError(f"{folder}: needs diffusers: pip install 'undrift[diffusers]'") from None
    known: dict[str, Any] = {
        "unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel, "tokenizer": CLIPTokenizer,
    }  # fmt: skip
    try:
        return known[name].from_pretrained(folder / name, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / name}: cannot be read ({' '.join(str(error).split())[:200]})") from None


def _settings(folder: Path, name: str) -> dict[str, Any]:
    import json

    file = folder / name / f"{name}_config.json"
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read ({error})") from None


def _process(scheduler: dict[str, Any]) -> Table:
    from diffusers import DDPMScheduler

    known = {
        k: v for k, v in scheduler.items() if k.startswith("beta_") or k in ("num_train_timesteps", "trained_betas")
    }
    bars = DDPMScheduler(**known).alphas_cumprod.double()
    return Table(tuple((0.5 * bars.log()).tolist()))


def _prediction(scheduler: dict[str, Any]) -> prediction.Prediction:
    name = scheduler.get("prediction_type", "epsilon")
    known = {"epsilon": prediction.noise, "sample": prediction.data, "v_prediction": prediction.velocity(1.0)}
    return known[name]


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
