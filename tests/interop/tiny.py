"""Random pipelines of diffusers, small enough for CI and built without a download."""

import json
from types import SimpleNamespace

import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""Stable Diffusion's betas."""
SD15 = SD | {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}


def tokenizer(folder, length=16):
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,"
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length, pad_token="<|endoftext|>"
    )


def text_encoder(projection=None, length=16):
    made = CLIPTextConfig(
        vocab_size=80, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=length, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=projection or 32,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(made).eval()


def unet(**settings):
    torch.manual_seed(0)
    model = UNet2DModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        **({"in_channels": 3, "out_channels": 3} | settings),
    )  # fmt: skip
    return model.eval()


def text_unet(**settings):
    torch.manual_seed(0)
    model = UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8, sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **({"cross_attention_dim": 32, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4} | settings),
    )  # fmt: skip
    with torch.no_grad():  # else a random network hardly hears its prompt
        for name, weight in model.named_parameters():
            if "attn2.to_out" in name or "conv_out" in name:
                weight *= 4
    return model.eval()


def autoencoder(**settings):
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **settings,
    ).eval()  # fmt: skip


class Curved(nn.Module):
    """A cheap network with the manners of a U-Net: its output bends with the state and the time."""

    def __init__(self, channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(in_channels=channels, out_channels=channels, sample_size=8)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, z, t, return_dict=True):
        t = torch.as_tensor(t, dtype=z.dtype).reshape(-1, 1, 1, 1)
        out = torch.tanh(self.mix(z) * (1 + t / 500)) + 0.3 * torch.sin(z + t / 100)
        return SimpleNamespace(sample=out) if return_dict else (out,)


def unconditional(**settings):
    """DDIM in pixels, without its clipping, which is not a matter of the model."""
    return DDIMPipeline(unet(**settings), DDIMScheduler(clip_sample=False))


def stable_diffusion(folder, scheduler=None, **settings):
    torch.manual_seed(2)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder(), text_encoder=text_encoder(), tokenizer=tokenizer(folder), unet=text_unet(**settings),
        scheduler=scheduler or DDIMScheduler(**SD15), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stable_diffusion_xl(folder):
    torch.manual_seed(2)
    wide = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "transformer_layers_per_block": (1, 2)}
    network = text_unet(cross_attention_dim=64, projection_class_embeddings_input_dim=6 * 8 + 24, **wide)
    pipeline = StableDiffusionXLPipeline(
        vae=autoencoder(), text_encoder=text_encoder(), text_encoder_2=text_encoder(24), tokenizer=tokenizer(folder),
        tokenizer_2=tokenizer(folder), unet=network, scheduler=DDIMScheduler(**SD15), add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
