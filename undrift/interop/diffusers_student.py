"""Students of diffusers' text-to-image pipelines: how they are made, judged, saved for plain diffusers, and read again.

    <folder>/unet/                              a whole U-Net, and around it the pipeline of its teacher; or
    <folder>/pytorch_lora_weights.safetensors   a low-rank change of the teacher's U-Net, for `pipe.load_lora_weights`
    <folder>/scheduler/                         LCMScheduler, at the times that the student was trained on
    <folder>/undrift.json                       the teacher, the method and facts of the training

A whole student is loaded by `StableDiffusionPipeline.from_pretrained(folder)`. With `time_cond_proj_dim` it is told the
guidance scale of its teacher, as Latent Consistency Models (Luo et al. 2023, arXiv 2310.04378) are.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..training.files import write_json, write_text
from .diffusers_unet import DiffusersUNet

__all__ = ["FACTS", "LORA", "is_pipeline", "low_rank", "read_facts", "save_student", "with_guidance"]

FACTS, INDEX, LORA = "undrift.json", "model_index.json", "pytorch_lora_weights.safetensors"
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
          "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj")  # fmt: skip
"""Of a U-Net, those that a low-rank student changes: the list of LCM-LoRA (Luo et al. 2023, arXiv 2311.05556)."""


def with_guidance(unet: Any, width: int) -> Any:
    """A copy of a U-Net that is told the guidance scale, through weights of zero: its outputs are equal.

    Arguments:
        width: of the embedding of the scale, `time_cond_proj_dim`; 0 makes a plain copy. 256 is LCM's.
    """
    told = {"time_cond_proj_dim": width} if width else {}
    with torch.random.fork_rng(devices=[]):
        copy = type(unet).from_config({**unet.config, **told})
    state = dict(unet.state_dict())
    if width and not unet.config.time_cond_proj_dim:
        layer = copy.time_embedding.cond_proj
        state["time_embedding.cond_proj.weight"] = torch.zeros_like(layer.weight)
    copy.load_state_dict(state)
    return copy.to(next(unet.parameters()).device)


def low_rank(unet: Any, rank: int) -> Any:
    """A copy of a U-Net of which only changes of that rank are trained (LoRA, by `peft`); they start at zero."""
    try:
        from peft import LoraConfig
    except ImportError:
        raise ValueError("a LoRA student needs `peft`: pip install 'undrift[diffusers]'") from None
    copy = with_guidance(unet, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        copy.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(LAYERS), init_lora_weights="gaussian"))
    for name, weight in copy.named_parameters():
        weight.requires_grad_("lora_" in name)
    return copy


def is_pipeline(path: str | Path) -> bool:
    """Whether a folder holds a pipeline of diffusers, or a low-rank student of one."""
    return any((Path(path) / name).is_file() for name in (INDEX, LORA))


def read_facts(path: str | Path) -> dict[str, Any]:
    """What `save_student` noted, the training under "training"; empty for a pipeline that is no student."""
    file = Path(path) / FACTS
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{file}: damaged ({error})") from None


def save_student(folder: Path, network: DiffusersUNet, facts: Mapping[str, Any]) -> None:
    """Write a student as plain diffusers reads it; `facts` of the training hold its recipe, which names the teacher."""
    from diffusers import LCMScheduler

    method = facts["recipe"]["method"]
    base = Path(method["teacher"])
    nodes = method["nodes"] if method.get("spacing") == "trailing" else 50
    unet: Any = network.unet
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.loads((base / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    LCMScheduler.from_config(settings, original_inference_steps=nodes).save_pretrained(folder / "scheduler")
    if getattr(unet, "peft_config", None):
        _save_low_rank(folder, unet)
    else:
        unet.save_pretrained(folder / "unet", safe_serialization=True)
        _save_around(folder, base)
    write_json(folder / FACTS, {"base": str(base.resolve()), "training": dict(facts)})
    write_text(folder / "README.md", _readme(folder, facts))


def _save_low_rank(folder: Path, unet: Any) -> None:
    from diffusers import StableDiffusionPipeline
    from peft import get_peft_model_state_dict

    layers = {name: value.detach().cpu().contiguous() for name, value in get_peft_model_state_dict(unet).items()}
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, safe_serialization=True)


def _save_around(folder: Path, base: Path) -> None:
    """The rest of the pipeline, copied once."""
    index = json.loads((base / INDEX).read_text(encoding="utf-8"))
    for part in base.iterdir():
        if part.is_dir() and part.name not in ("unet", "scheduler") and not (folder / part.name).exists():
            shutil.copytree(part, folder / part.name)
    write_json(folder / INDEX, index | {"scheduler": ["diffusers", "LCMScheduler"]})


def _readme(folder: Path, facts: Mapping[str, Any]) -> str:
    method = facts["recipe"]["method"]
    scale = method.get("guidance")
    lora = (folder / LORA).is_file()
    index = Path(method["teacher"]) / INDEX
    kind = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    how = (
        [f'pipe = {kind}.from_pretrained("{method["teacher"]}")',
         f'pipe.load_lora_weights("{folder}")',
         f'pipe.scheduler = LCMScheduler.from_pretrained("{folder}", subfolder="scheduler")']
        if lora else [f'pipe = {kind}.from_pretrained("{folder}")']
    )  # fmt: skip
    told = f"{sum(scale) / 2:g}" if scale and not lora else "1.0"
    lines = [
        f"# {folder.resolve().name}", "",
        f"A student of {method['teacher']}, by stochastic consistency distillation, for 1 to 4 evaluations.", "",
        "```python", f"from diffusers import LCMScheduler, {kind}", "", *how,
        f'image = pipe("...", num_inference_steps=2, guidance_scale={told}).images[0]', "```", "",
        f"Guidance: {scale or 'none'}{', part of its weights' if scale and lora else ''}.", "",
    ]  # fmt: skip
    return "\n".join(lines)
