"""The CLIP score: how well an image shows its caption, by a local CLIP model of `transformers`.

    score = cos(E_image(x), E_text(c)),    in [-1, 1]

CLIPScore (Hessel et al. 2021, arXiv 2104.08718) without its factor 2.5 and its floor at 0, as papers on text-to-image
models print it: 0.31 is usual of Stable Diffusion 1.5 with ViT-g/14, less with smaller models.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.crop import central
from ..metrics import eight_bit
from ..training.files import digest

__all__ = ["ClipJudge"]


@final
class ClipJudge:
    """A judge for `evaluation`: images (B, 3, H, W) in [0, 1] and the captions of their numbers -> (B, 1).

    Arguments:
        folder: of a CLIP model and its tokenizer and image processor, as `save_pretrained` writes them.
        captions: of the images, by number.

    Images are scaled to the model's side, bicubic and antialiased, the central square taken, and normalised as its
    `preprocessor_config.json` says. Raises ValueError or FileNotFoundError in one line.
    """

    measures = ("clip",)

    def __init__(self, folder: str | Path, captions: Sequence[str], device: torch.device | str = "cpu") -> None:
        try:
            from transformers import CLIPModel, CLIPTokenizer
        except ImportError:
            raise ValueError("the CLIP score needs transformers: pip install 'undrift[diffusers]'") from None
        home = Path(folder)
        if not (home / "config.json").is_file():
            raise FileNotFoundError(
                f"no CLIP model in {folder}: give a folder that holds one, as save_pretrained writes"
            )
        try:
            model: Any = CLIPModel.from_pretrained(home, local_files_only=True)
            self.words: Any = CLIPTokenizer.from_pretrained(home, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder}: not a CLIP model ({' '.join(str(error).split())[:200]})") from None
        self.model = model.to(device).eval()
        self.captions, self.device = captions, device
        self.side = int(self.model.config.vision_config.image_size)
        self.mean, self.std = _normal(home)
        weights = next(iter(sorted(home.glob("*.safetensors"))), home / "config.json")
        self.name, self.digest = home.name, digest(weights)

    @property
    def protocols(self) -> Mapping[str, str]:
        return {"clip": f"CLIP score, cosine of image and caption, {self.name} ({self.digest[:8]}), {self.side} px, "
                        "higher is better"}  # fmt: skip

    @torch.no_grad()
    def __call__(self, images: Tensor, numbers: range) -> Tensor:
        words = self.words(
            [self.captions[i] for i in numbers], padding="max_length", truncation=True, return_tensors="pt",
            max_length=self.model.config.text_config.max_position_embeddings,
        )  # fmt: skip
        found = self.model(
            input_ids=words.input_ids.to(self.device), attention_mask=words.attention_mask.to(self.device),
            pixel_values=self._prepared(images),
        )  # fmt: skip
        return F.cosine_similarity(found.image_embeds, found.text_embeds)[:, None]

    def _prepared(self, images: Tensor) -> Tensor:
        x = eight_bit(images).to(self.device).expand(-1, 3, -1, -1)
        scale = self.side / min(x.shape[2:])
        sides = [max(self.side, round(side * scale)) for side in x.shape[2:]]
        x = F.interpolate(x, sides, mode="bicubic", antialias=True).clamp(0, 1)
        x = central(x, self.side)
        return (x - x.new_tensor(self.mean).view(-1, 1, 1)) / x.new_tensor(self.std).view(-1, 1, 1)


def _normal(home: Path) -> tuple[list[float], list[float]]:
    """Mean and deviation of the pixels; CLIP's own where nothing is said."""
    import json

    file = home / "preprocessor_config.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    usual = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return known.get("image_mean", usual[0]), known.get("image_std", usual[1])
