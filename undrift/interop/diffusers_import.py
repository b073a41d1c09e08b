"""A diffusers pipeline in two lines: its network becomes a `Denoiser`, its autoencoder a `Latent` space.

    model = from_pipeline("stable-diffusion-v1-5/stable-diffusion-v1-5")     # a folder, a name on the hub, an object
    images = model.sample(["a red tulip"], steps=10, guidance=7.5)          # (B, 3, H, W) in [0, 1], by any solver

or, with everything in one's own hands,

    images = sample(
        model.guided(7.5), model.denoiser.process, model.space, shape=(1, *model.shape), times=..., solver=...,
        noise=PerSample([0]), **model.encode(["a red tulip"]),
    )
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from ..denoiser import Denoise, Denoiser, Time
from ..generation import generate
from ..guidance import ClassifierFree
from ..space import Latent, Pixels, Space
from .diffusers_process import grid, prediction_of, process_of
from .diffusers_unet import DiffusersUNet, KLCodec

__all__ = ["Imported", "denoiser_of", "from_pipeline", "latent_of", "quietly"]


def denoiser_of(unet: nn.Module, scheduler: Any, null: int | None = None) -> Denoiser:
    """A U-Net of diffusers with its scheduler (an object or a configuration), in evaluation mode.

    Arguments:
        unet: `UNet2DModel` or `UNet2DConditionModel`; it stays the same object.
        scheduler: what it was trained with: betas and prediction type count, the solver does not.
        null: the class that stands for "no class".

    Times are the scheduler's timesteps. Raises ValueError, in one line, for what does not fit.
    """
    network = DiffusersUNet(unet, null)
    denoiser = Denoiser(network, process_of(scheduler), prediction_of(scheduler), scale=None, label=Time())
    return denoiser.requires_grad_(False).eval()


def latent_of(vae: nn.Module, generator: torch.Generator | None = None) -> Latent:
    """An `AutoencoderKL` with its scaling and shift factors; codes are means, or draws by `generator`."""
    known: Any = vae.config
    if getattr(known, "latents_mean", None) is not None:
        raise ValueError("autoencoder with latents_mean: only one scaling_factor and one shift_factor are understood")
    vae.requires_grad_(False).eval()
    return Latent(KLCodec(vae, generator), float(known.scaling_factor), float(getattr(known, "shift_factor", 0) or 0))


@final
@dataclass(frozen=True, eq=False)
class Imported:
    """What a pipeline became.

    Arguments:
        denoiser, space: ours, on the networks of the pipeline.
        shape: (C, h, w) of the states that the U-Net was made for.
        pipeline: the object itself, with its tokenizer, text encoders and scheduler.
    """

    denoiser: Denoiser
    space: Space
    shape: tuple[int, int, int]
    pipeline: Any

    @property
    def textual(self) -> bool:
        """Whether it reads prompts."""
        return bool(getattr(self.denoiser.network, "textual", False))

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def to(self, device: torch.device | str) -> "Imported":
        """Itself, with every network on the device."""
        self.pipeline.to(device)
        return self

    def grid(self, steps: int) -> Tensor:
        """The timesteps that the scheduler of the pipeline would visit, and the end: for comparisons with it."""
        return grid(self.pipeline.scheduler, self.denoiser.process, steps)

    @torch.no_grad()
    def encode(self, prompts: str | Sequence[str], shape: Sequence[int] | None = None) -> dict[str, Tensor]:
        """What the U-Net is to be told: `text` (B, L, D), and for SDXL `pooled` (B, P) and `sizes` (B, 6).

        `shape` of the states, where it is not the usual one: SDXL is told the size of its images.
        """
        self._reads()
        words = [prompts] if isinstance(prompts, str) else list(prompts)
        if not words:
            raise ValueError("0 prompts: give at least one, '' for no text")
        found = self.pipeline.encode_prompt(
            prompt=words, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        told = {"text": found[0]}
        if len(found) == 4:
            told |= {"pooled": found[2], "sizes": self._sizes(len(words), shape or self.shape)}
        return told

    def guided(self, scale: float | Tensor, negative: str = "") -> Denoise:
        """The denoiser with classifier-free guidance, against the prompt `negative` or the class for none.

        A scale of 1 is the denoiser itself. Raises ValueError for a network without conditions to leave out.
        """
        if not torch.is_tensor(scale) and scale == 1:
            return self.denoiser
        return ClassifierFree(self.denoiser, self.denoiser.process, scale, self.nothing(negative))

    def sample(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        seeds: Sequence[int] | None = None,
        label: Tensor | None = None,
        steps: int | None = None,
        solver: str | None = None,
        guidance: float = 1.0,
        negative: str = "",
        batch: int = 4,
        shape: Sequence[int] | None = None,
    ) -> Tensor:
        """Images (N, C, H, W) in [0, 1], one per prompt, by a preset of `undrift.generation`, in batches.

        Arguments:
            prompts: None for a network that reads none.
            seeds: one per image; by default 0, 1, ...
            label: (N,) classes.
            steps, solver: as in `generate`.
            guidance, negative: as in `guided`.
            shape: (C, h, w) of the states; None for the usual one.
        """
        size = tuple(shape or self.shape)
        prompts = [prompts] if isinstance(prompts, str) else prompts
        if not isinstance(prompts, Sequence | None):
            raise ValueError(f"prompts = {prompts!r}: need a list of texts; without, seeds=[0, 1] are two images")
        count = len(prompts) if prompts is not None else len(seeds) if seeds is not None else 1
        told = {} if prompts is None else self.encode(prompts, size)
        if prompts is None and self.textual:
            raise ValueError("prompts are not given: this pipeline reads them; give a list, [''] for no text")
        images = generate(
            self.guided(guidance, negative), self.denoiser.process, self.space, shape=size,
            seeds=range(count) if seeds is None else seeds, steps=steps, solver=solver, label=label, batch=batch,
            device=self.device, each=told,
        )  # fmt: skip
        return torch.cat([part.cpu() for part in images])

    def _sizes(self, count: int, shape: Sequence[int]) -> Tensor:
        """(height, width) of the original, (0, 0) cut off, (height, width) wanted: SDXL's six numbers."""
        stride = getattr(getattr(self.space, "codec", None), "stride", 1)
        height, width = (float(stride * n) for n in shape[1:])
        return torch.tensor([[height, width, 0, 0, height, width]], device=self.device).repeat(count, 1)

    def nothing(self, negative: str = "") -> dict[str, Any]:
        """What stands for no condition in `guidance.ClassifierFree`: a prompt's conditions, or a class."""
        network: Any = self.denoiser.network
        if not self.textual:
            if network.null is None:
                raise ValueError("guidance of a network without prompts: name its class for none, null=K")
            return {"label": network.null}
        if negative == "" and self.pipeline.config.get("force_zeros_for_empty_prompt"):
            return {"text": 0.0, "pooled": 0.0}  # as SDXL was trained
        told = self.encode(negative)
        told.pop("sizes", None)  # the same with and without the prompt
        return told

    def _reads(self) -> None:
        if not (self.textual and hasattr(self.pipeline, "encode_prompt")):
            raise ValueError(f"{type(self.pipeline).__name__} reads no prompts: leave them out")


def from_pipeline(pipeline: Any, *, null: int | None = None, dtype: torch.dtype = torch.float32) -> Imported:
    """The model of a diffusers pipeline: unconditional, by class, by text (Stable Diffusion 1, 2, XL).

    Arguments:
        pipeline: a `DiffusionPipeline`, the folder of one, or a name on the hub.
        null: the class that stands for "no class", of a network by class that was trained with one.
        dtype: of the networks, where they are loaded here.

    Raises ValueError, in one line, for what is not there or not understood, and names the extra to install.
    """
    if isinstance(pipeline, str | Path):
        pipeline = _opened(pipeline, dtype)
    unet, scheduler = getattr(pipeline, "unet", None), getattr(pipeline, "scheduler", None)
    if unet is None or scheduler is None:
        raise ValueError(f"{type(pipeline).__name__}: need a pipeline with a unet and a scheduler")
    vae = getattr(pipeline, "vae", None)
    if vae is None and getattr(pipeline, "vqvae", None) is not None:
        raise ValueError(f"{type(pipeline).__name__}: its quantised autoencoder is not understood; need AutoencoderKL")
    if vae is not None and getattr(vae.config, "force_upcast", False) and vae.dtype == torch.float16:
        vae.float()  # its activations leave the range of float16
    denoiser = denoiser_of(unet, scheduler, null)
    side = unet.config.sample_size
    height, width = (side, side) if isinstance(side, int) else side
    space = Pixels() if vae is None else latent_of(vae)
    return Imported(denoiser, space, (denoiser.network.channels, height, width), pipeline)  # type: ignore[arg-type]


def _opened(path: str | Path, dtype: torch.dtype) -> Any:
    try:
        from diffusers import DiffusionPipeline
    except ImportError:
        raise ValueError("diffusers is not installed: pip install 'undrift[diffusers]'") from None
    kind = {} if dtype == torch.float32 else {"torch_dtype": dtype}  # float32 is the library's own choice
    try:
        return DiffusionPipeline.from_pretrained(str(path), **kind)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a pipeline of diffusers ({' '.join(str(error).split())[:200]})") from None


@contextmanager
def quietly() -> Iterator[None]:
    """Without the bars and remarks of diffusers and transformers while a pipeline loads."""
    try:
        from diffusers.utils import logging as theirs
        from transformers.utils import logging as others
    except ImportError:  # `from_pipeline` will say so
        yield
        return
    kinds: list[tuple[Any, bool, int]] = [(m, m.is_progress_bar_enabled(), m.get_verbosity()) for m in (theirs, others)]
    for module, _, _ in kinds:
        module.disable_progress_bar()
        module.set_verbosity_error()
    try:
        yield
    finally:
        for module, bars, verbosity in kinds:
            module.set_verbosity(verbosity)
            if bars:
                module.enable_progress_bar()
