"""A text-to-image pipeline in the format of Stable Diffusion, trained from nothing on one CPU core.

    python examples/tiny_text_to_image.py fashion_mnist.npz out/ --vae 8 --minutes 40

It stands in for Stable Diffusion 1.5, with every part of it in small: an AutoencoderKL (32 x 32 pixels to 8 x 8 latents
of 4 channels), a CLIP text encoder with its tokenizer, a U-Net with cross-attention, the schedule of its betas. The
captions name the garment and, half of the time, whether it is light or dark, which is read from the image. The same
command goes on where the last one stopped.

out/pipeline/     `StableDiffusionPipeline.from_pretrained("out/pipeline")`
out/train/, out/test/   images with metadata.jsonl: what `undrift distill` and `undrift evaluate` read

Sources: Latent Diffusion Models (Rombach et al. 2022, arXiv 2112.10752); Auto-Encoding Variational Bayes (Kingma and
Welling 2014, arXiv 1312.6114); Classifier-Free Diffusion Guidance (Ho and Salimans 2022, arXiv 2207.12598).
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from undrift.data import Batch, generator, write
from undrift.data.labelled import LabelledImages, read_labelled
from undrift.methods import Method
from undrift.training import state
from undrift.training.average import Average, Exponential
from undrift.training.fit import fit

QUICK = bool(os.environ.get("UNDRIFT_QUICK"))
NOUNS = ("t-shirt", "pair of trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
SHADES = ("dark", "light")
FORMS = ("a photo of a {noun}", "a photo of a {shade} {noun}", "a picture of a {noun}, {shade}", "{noun}",
         "a {shade} {noun}", "a picture of a {noun}")  # fmt: skip
LIGHT = 0.63
"""Mean of the pixels of the garment above which it is called light: half of them are."""
LENGTH = 12  # tokens of a caption


def shade(images: Tensor) -> Tensor:
    """(N, 1, H, W) in [0, 1] -> (N,), 1 for light: the mean over what is not background."""
    garment = images > 0.1
    return ((images * garment).flatten(1).sum(1) / garment.flatten(1).sum(1).clamp(min=1) > LIGHT).long()


def captions() -> list[str]:
    """All of them, at (class, shade, form) in this order, and last the empty one."""
    return [form.format(noun=noun, shade=s) for noun in NOUNS for s in SHADES for form in FORMS] + [""]


def tokenizer(folder: Path) -> CLIPTokenizer:
    """Byte pairs learnt from the captions, in CLIP's two files."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    learnt = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learnt.normalizer, learnt.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    special = ["<|startoftext|>", "<|endoftext|>"]
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, end_of_word_suffix="</w>", show_progress=False,
        initial_alphabet=letters,
    )  # fmt: skip
    learnt.train_from_iterator(captions(), trainer)
    table = json.loads(learnt.to_str())["model"]
    vocab, merges = table["vocab"], table["merges"]
    for letter in letters:  # a word may end in any of them
        vocab.setdefault(letter + "</w>", len(vocab))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=LENGTH)


class Autoencoding(Method):
    """Absolute and squared error of the reconstruction, and a little of the divergence from N(0, I)."""

    def __init__(self, vae: AutoencoderKL) -> None:
        self.vae: nn.Module = vae

    @property
    def phases(self) -> tuple[str, ...]:
        return ("vae",)

    def loss(self, phase: str, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        code = self.vae.encode(batch.x).latent_dist
        error = self.vae.decode(code.sample(generator)).sample - batch.x
        kl = code.kl().mean() / code.mean[0].numel()
        absolute = error.abs().mean()
        return absolute + error.square().mean() + 5e-4 * kl, {"l1": absolute.item(), "kl": kl.item()}


class TextToImage(nn.Module):
    """What is trained together: the U-Net and the text encoder."""

    def __init__(self, unet: UNet2DConditionModel, text: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text = unet, text

    def forward(self, z: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(z, t, self.text(tokens).last_hidden_state).sample


class Matching(Method):
    """The mean squared error of the estimated noise, at all of the 1000 times alike."""

    def __init__(self, model: TextToImage, scheduler: DDIMScheduler) -> None:
        self.model: nn.Module = model
        self.scheduler = scheduler

    @property
    def phases(self) -> tuple[str, ...]:
        return ("model",)

    def loss(self, phase: str, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        t = torch.randint(self.scheduler.config.num_train_timesteps, (len(batch.x),), generator=generator)
        eps = torch.randn(batch.x.shape, generator=generator)
        z = self.scheduler.add_noise(batch.x, eps, t).contiguous(memory_format=torch.channels_last)
        return F.mse_loss(self.model(z, t, batch.cond["tokens"]), eps), {}


def images_of(data: LabelledImages, index: Tensor) -> Tensor:
    """(N, 3, 32, 32) in [-1, 1], framed in black."""
    x = F.pad(data.images[index].float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0)
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def run(
    name: str,
    method: Method,
    stream: Callable[[int], Iterator[Batch]],
    average: Average,
    folder: Path,
    minutes: float,
    lr: float,
) -> None:
    """Train the only phase of a method for some minutes, in all, saved every two; then the average is the result."""
    (phase,) = method.phases
    module: nn.Module = getattr(method, phase)
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    rng, start, before = generator(name, "loss"), 0, 0.0
    if saved := state.latest(folder):
        module.load_state_dict(saved["module"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        rng.set_state(saved["rng"].clone())
        start, before = saved["step"], saved["seconds"]
    began = at = time.monotonic()

    def progress() -> float:
        return min(1.0, (before + time.monotonic() - began) / (60 * minutes))

    def save(step: int) -> None:
        state.store(folder, step, {
            "module": module.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(),
            "rng": rng.get_state(), "seconds": before + time.monotonic() - began,
        })  # fmt: skip

    if progress() >= 1:
        return
    schedule = lambda step: min(1.0, (step + 1) / 100) * (1 - 0.98 * progress() ** 2)  # noqa: E731
    records = fit(
        method, stream(start), {phase: optimizer}, accelerator=Accelerator(cpu=True), generator=rng, start=start,
        schedule=schedule, averages=[average],
    )  # fmt: skip
    shown = 0.0
    for record in records:
        shown += (record.logs[f"{phase}/loss"] - shown) * max(0.02, 1 / (record.step - start))
        if record.step % 50 == 0 or progress() >= 1:
            print(f"{name} step {record.step:,} loss {shown:.4f} {record.seconds:.2f} s, {progress():.0%}", flush=True)
        if progress() >= 1:
            break
        if time.monotonic() - at > 120:
            save(record.step)
            at = time.monotonic()
    records.close()
    save(record.step)


def pictures(data: LabelledImages, size: int, start: int) -> Iterator[Batch]:
    """Batches for the autoencoder, without end; others for every start."""
    rng = generator("pictures", start)
    while True:
        yield Batch(images_of(data, torch.randint(len(data), (size,), generator=rng)), None, {})


def latents(codes: Tensor, rows: Tensor, tokens: Tensor, size: int, start: int, drop: float = 0.1) -> Iterator[Batch]:
    """Batches for the U-Net, without end: latents drawn from codes (N, 2, 4, 8, 8), and a caption of each."""
    rng = generator("latents", start)
    while True:
        index = torch.randint(len(codes), (size,), generator=rng)
        mean, std = codes[index].unbind(1)
        row = rows[index] * len(FORMS) + torch.randint(len(FORMS), (size,), generator=rng)
        row[torch.rand(size, generator=rng) < drop] = len(tokens) - 1
        yield Batch(mean + std * torch.randn(mean.shape, generator=rng), None, {"tokens": tokens[row]})


@torch.no_grad()
def encoded(vae: AutoencoderKL, data: LabelledImages) -> tuple[Tensor, float]:
    """Means and deviations of the latents (N, 2, 4, 8, 8), scaled to variance 1; and by what they were scaled."""
    found = []
    for index in torch.arange(len(data)).split(250):
        code = vae.encode(images_of(data, index)).latent_dist
        found.append(torch.stack([code.mean, code.std], 1))
    codes = torch.cat(found)
    scale = float(1 / (codes[:, 0].var() + codes[:, 1].square().mean()).sqrt())
    return codes * scale, scale


def captioned(data: LabelledImages, folder: Path, count: int, seed: str) -> None:
    """The first `count` images, of 32 pixels, with one caption each, in a folder."""
    if (folder / "metadata.jsonl").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    index = torch.arange(min(count, len(data)))
    rows = data.labels[index] * len(SHADES) + shade(data.images[index].float() / 255)
    forms = torch.randint(len(FORMS), (len(index),), generator=generator("captions", seed))
    known, lines = captions(), []
    for i, image in enumerate((images_of(data, index) + 1) / 2):
        write(folder / f"{i:05d}.png", image)
        lines.append(
            json.dumps({"file_name": f"{i:05d}.png", "text": known[int(rows[i]) * len(FORMS) + int(forms[i])]})
        )
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a tiny text-to-image pipeline.")
    parser.add_argument("data", help="fashion_mnist.npz")
    parser.add_argument("out", type=Path)
    parser.add_argument("--vae", type=float, default=0.05 if QUICK else 8, metavar="MINUTES")
    parser.add_argument("--minutes", type=float, default=0.05 if QUICK else 40, help="of the U-Net and text encoder")
    parser.add_argument("--images", type=int, default=20 if QUICK else 20_000, help="in the captioned folder")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data, out = read_labelled(given.data), given.out

    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=32, norm_num_groups=8, layers_per_block=1,
        block_out_channels=(8, 16, 32), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
    ).to(memory_format=torch.channels_last)  # fmt: skip
    mean = Average(vae, Exponential(0.99))
    run("vae", Autoencoding(vae), partial(pictures, data, 64), mean, out / "vae-state", given.vae, 2e-3)
    vae = mean.module

    cache = out / "latents.pt"
    if not cache.is_file():
        torch.save(dict(zip(("codes", "scale"), encoded(vae, data), strict=True)), cache)
    cached = torch.load(cache, weights_only=True)
    vae.register_to_config(scaling_factor=cached["scale"])
    words = tokenizer(out / "tokenizer")
    tokens = words(captions(), padding="max_length", truncation=True, return_tensors="pt").input_ids
    rows = data.labels * len(SHADES) + shade(data.images.float() / 255)

    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(words), hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=LENGTH, projection_dim=64, bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    ))  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 96), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64, attention_head_dim=4, norm_num_groups=16,
    ).to(memory_format=torch.channels_last)  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type="epsilon",
    )  # fmt: skip
    model = TextToImage(unet, text)
    mean = Average(model, Exponential(0.999))
    stream = partial(latents, cached["codes"], rows, tokens, 64)
    run("unet", Matching(model, scheduler), stream, mean, out / "state", given.minutes, 2e-3)

    StableDiffusionPipeline(
        vae, mean.module.text, words, mean.module.unet, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(out / "pipeline")
    captioned(data, out / "train", given.images, "train")
    captioned(read_labelled(given.data, "test"), out / "test", given.images // 4, "test")
    print(f"pipeline in {out / 'pipeline'}")


if __name__ == "__main__":
    main()
