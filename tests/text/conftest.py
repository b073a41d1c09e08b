"""A text-to-image pipeline of random weights, in a folder, and captioned images for it."""

import json

import pytest
import torch

pytest.importorskip("diffusers", reason="diffusers is not installed")

CAPTIONS = ("a photo of a dark sneaker", "a light bag", "two sandals", "")


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """Stable Diffusion's parts at 16 pixels, and 8 x 8 latents; saved by diffusers."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    home = tmp_path_factory.mktemp("pipelines")
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (home / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (home / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(home / "vocab.json"), str(home / "merges.txt"), model_max_length=12)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=12, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    ))  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 8), norm_num_groups=4, sample_size=16, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, scaling_factor=0.5,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae, text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(home / "tiny")  # fmt: skip
    return home / "tiny"


@pytest.fixture(scope="session")
def captioned(tmp_path_factory):
    """A folder of 24 small captioned images."""
    from undrift.data import write

    home, random = tmp_path_factory.mktemp("captioned"), torch.Generator().manual_seed(0)
    lines = []
    for i in range(24):
        write(home / f"{i:02d}.png", torch.rand(3, 1, 1, generator=random).expand(3, 16, 20))
        lines.append(json.dumps({"file_name": f"{i:02d}.png", "text": CAPTIONS[i % 4]}))
    (home / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return home
