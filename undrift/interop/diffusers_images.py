"""What goes into a pipeline of diffusers and comes out of it: images of any kind, and the card of a model."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["as_output", "as_tensors", "card"]


def as_output(x: Tensor, kind: str) -> Any:
    """Images (N, C, H, W), clipped to [0, 1], as "pt", "np" (N, H, W, C) or a list of "pil"."""
    x = x.detach().clamp(0, 1).float().cpu()
    if kind == "pt":
        return x
    rows = x.permute(0, 2, 3, 1).numpy()
    if kind == "np":
        return rows
    if kind == "pil":
        whole = (rows * 255).round().astype(np.uint8)
        return [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in whole]
    raise ValueError(f"output_type {kind!r}: choose 'pil', 'np' or 'pt'")


def as_tensors(image: Any) -> list[Tensor]:
    """PIL images, arrays (H, W, 3) or tensors (3, H, W), (N, 3, H, W) in [0, 1], one or a list -> tensors (3, H, W)."""
    if isinstance(image, list | tuple) or (isinstance(image, Tensor | np.ndarray) and image.ndim == 4):
        return [one for each in image for one in as_tensors(each)]
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.dtype != np.uint8:
        image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    fits = isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] == 3 and image.is_floating_point()
    if not fits or not bool(((image >= -1e-3) & (image <= 1 + 1e-3)).all()):
        given = f"{type(image).__name__} {tuple(getattr(image, 'shape', ()))}"
        raise ValueError(f"image {given}: need a PIL image, an array (H, W, 3) or a tensor (3, H, W), in [0, 1]")
    return [image.float()]


def card(pipeline: str, model: Mapping[str, Any]) -> str:
    """README.md of a saved pipeline: the tags of the hub, how to use it, and what it is."""
    generates = pipeline == "GenerationPipeline"
    kind = "unconditional-image-generation" if generates else "image-to-image"
    call = "pipeline(batch_size=4)" if generates else 'pipeline(Image.open("degraded.png"))'
    parts = ("process", "prediction", "network", "space", "label", "scale")
    rows = {part: json.dumps(model[part]) for part in parts}
    rows |= {key: json.dumps(value, default=str) for key, value in (model["training"] or {}).items()}
    table = "\n".join(f"| {key} | `{value}` |" for key, value in rows.items())
    imports = "" if generates else "from PIL import Image\n"
    return f"""---
library_name: undrift
pipeline_tag: {kind}
tags: [undrift, diffusers, diffusion, sde]
---

# A model of undrift

```python
{imports}from undrift.interop.diffusers_pipeline import {pipeline}

pipeline = {pipeline}.from_pretrained("this folder")
{call}.images[0].save("image.png")
```

| | |
|---|---|
{table}
"""
