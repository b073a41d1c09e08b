"""A U-Net of diffusers as a network of ours, and its AutoencoderKL as the codec of a `Latent` space.

Conditions go by name, each (B, ...), so that guidance and batching need to know nothing about them:

| ours | diffusers |
|---|---|
| `text` (B, L, D) | `encoder_hidden_states` |
| `pooled` (B, P), `sizes` (B, 6) | SDXL's `added_cond_kwargs`: `text_embeds`, `time_ids` |
| `label` (B,) | `class_labels` |
| `guidance` () or (B,) | `timestep_cond` of latent consistency models, whose embedding counts from 1 |
| `image` (B, c, h, w) | further channels of the input: inpainting, editing, super-resolution |

The networks are used, never imported: nothing here needs diffusers to be installed.
"""

import math
from typing import Any, final

import torch
from torch import Tensor, nn

__all__ = ["DiffusersUNet", "KLCodec", "guidance_embedding"]


@final
class DiffusersUNet(nn.Module):
    """`forward(z (B, C, h, w), c (B,), **cond) -> (B, C, h, w)` of a `UNet2DModel` or `UNet2DConditionModel`.

    c is the timestep. A network that also predicts a variance has twice the channels: the variance is left out.

    Arguments:
        unet: of diffusers.
        null: the class that stands for "no class", where the network was trained with one.
    """

    label_dtype = torch.float32  # float16 would round timestep 999.5, bfloat16 981

    def __init__(self, unet: nn.Module, null: int | None = None) -> None:
        super().__init__()
        known: Any = getattr(unet, "config", None)
        if known is None or not hasattr(known, "in_channels") or not hasattr(known, "out_channels"):
            raise ValueError(f"{type(unet).__name__}: need a UNet2DModel or UNet2DConditionModel of diffusers")
        self.unet, self.null = unet, null
        inputs, outputs = int(known.in_channels), int(known.out_channels)
        self.channels = inputs if outputs == 2 * inputs else outputs
        if inputs < self.channels:
            raise ValueError(f"U-Net with {inputs} channels in and {outputs} out: need as many in as out, or half")
        self.classes = int(getattr(known, "num_class_embeds", None) or 0)
        if null is not None and not 0 <= null < self.classes:
            raise ValueError(f"null class {null}: this U-Net knows the classes 0 to {self.classes - 1}")
        self.arguments = {"in_channels": self.channels, "cond_channels": inputs - self.channels}
        self.embedded = int(getattr(known, "time_cond_proj_dim", None) or 0)
        self.textual = hasattr(known, "cross_attention_dim")

    @property
    def stride(self) -> int:
        """Sides of states are multiples of it."""
        return int(2 ** (len(self.unet.config.block_out_channels) - 1))  # type: ignore[union-attr, arg-type]

    def forward(
        self,
        z: Tensor,
        c: Tensor,
        *,
        text: Tensor | None = None,
        pooled: Tensor | None = None,
        sizes: Tensor | None = None,
        label: Tensor | None = None,
        guidance: Tensor | None = None,
        image: Tensor | None = None,
    ) -> Tensor:
        given: dict[str, Any] = {}
        if self.classes:
            given["class_labels"] = self._checked(label, len(z))
        if self.textual:
            if text is None:
                raise ValueError("condition 'text' is not given: this U-Net reads prompts; pass what `encode` gives")
            given["encoder_hidden_states"] = text
        if pooled is not None:
            given["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
        if self.embedded:
            scale = torch.ones(()) if guidance is None else guidance
            told = guidance_embedding(scale.to(z.device).expand(len(z)), self.embedded)
            given["timestep_cond"] = told.to(z.dtype)
        if image is not None:
            z = torch.cat([z, image], 1)
        out: Tensor = self.unet(z, c, **given, return_dict=False)[0]
        return out[:, : self.channels]

    @property
    def feature_channels(self) -> tuple[int, ...]:
        """Of the maps of `features`."""
        widths = tuple(int(width) for width in self.unet.config.block_out_channels)  # type: ignore[union-attr]
        return (widths[-1], *reversed(widths))

    @property
    def decoder(self) -> tuple[str, ...]:
        """The modules that a critic may change."""
        return ("unet.up_blocks",)

    def features(self, z: Tensor, c: Tensor, **cond: Any) -> tuple[Tensor, ...]:
        """Outputs of the middle block and of the decoder's, the coarsest first; as `networks.Critic` asks."""
        found: list[Tensor] = []
        blocks: list[Any] = [self.unet.mid_block, *self.unet.up_blocks]  # type: ignore[misc]
        hooks = [block.register_forward_hook(lambda module, given, made: found.append(made)) for block in blocks]
        try:
            self(z, c, **cond)
        finally:
            for hook in hooks:
                hook.remove()
        return tuple(found)

    def recompute(self) -> None:
        """Keep of each block only its input, and compute the rest again on the way back, as diffusers does."""
        self.unet.enable_gradient_checkpointing()  # type: ignore[operator]

    def _checked(self, label: Tensor | None, count: int) -> Tensor:
        if label is None and self.null is not None:
            return torch.full((count,), self.null, device=next(self.parameters()).device)
        if label is None:
            raise ValueError(f"condition 'label' is not given: this U-Net needs a class, 0 to {self.classes - 1}")
        if label.shape != (count,) or label.is_floating_point():
            raise ValueError(f"label {label.dtype} {tuple(label.shape)}: need {count} integers, one per sample")
        if label.device.type == "cpu" and not bool(((label >= 0) & (label < self.classes)).all()):
            raise ValueError(f"label in [{label.min()}, {label.max()}]: need 0 to {self.classes - 1}")
        return label


def guidance_embedding(scale: Tensor, width: int) -> Tensor:
    """Sines and cosines of 1000 (scale - 1), float32 (B, width), of a guidance scale (B,).

    Source: Latent Consistency Models (Luo et al. 2023, arXiv 2310.04378), which count the scale from 0.
    """
    half = width // 2
    rates = torch.exp(-math.log(10000.0) / (half - 1) * torch.arange(half, dtype=torch.float32, device=scale.device))
    angles = 1000 * (scale.float() - 1)[:, None] * rates
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, width % 2))


@final
class KLCodec(nn.Module):
    """An `AutoencoderKL` (or `AutoencoderTiny`) of diffusers: images in [-1, 1] <-> codes, in the dtype of the input.

    Arguments:
        vae: of diffusers.
        generator: of draws from the posterior of a code; None for its mean.
    """

    def __init__(self, vae: nn.Module, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.vae, self.generator = vae, generator

    @property
    def stride(self) -> int:
        """Pixels per side of a code."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))  # type: ignore[union-attr, arg-type]

    def encode(self, x: Tensor) -> Tensor:
        found = self.vae.encode(self._in(x))  # type: ignore[operator]
        law = getattr(found, "latent_dist", None)
        if law is None:
            code: Tensor = found.latents
        else:
            code = law.mode() if self.generator is None else law.sample(generator=self.generator)
        return code.to(x.dtype)

    def decode(self, code: Tensor) -> Tensor:
        image: Tensor = self.vae.decode(self._in(code), return_dict=False)[0]  # type: ignore[operator]
        return image.to(code.dtype)

    def _in(self, x: Tensor) -> Tensor:
        return x.to(next(self.vae.parameters()).dtype)
