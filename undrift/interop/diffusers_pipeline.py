"""Our models as pipelines of diffusers: `from_pretrained`, `save_pretrained`, `push_to_hub`, `.images`.

    pipeline = GenerationPipeline.of("fashion")                 # a bundled model, a checkpoint's folder
    pipeline(labels=[3, 3], generator=torch.manual_seed(0)).images[0].save("dress.png")
    pipeline.save_pretrained("here"); GenerationPipeline.from_pretrained("here")

    restored = RestorationPipeline.of("universal")(image, task="hazy").images[0]

A saved folder has model_index.json, the model with its weights, and a model card. diffusers finds a saved model's class
by its module, which must have the names of its base classes in it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from huggingface_hub import file_exists
from torch import Tensor

from ..denoiser import Denoise, Denoiser
from ..generation import PRESETS as GENERATION
from ..generation import USUAL
from ..guidance import ClassifierFree, randomised, tiled
from ..preset import Preset, chosen
from ..registry import build, describe
from ..restoration import USUAL as RESTORING
from ..restoration import presets, seen, telling
from ..sample import trajectory
from ..space import Latent, Pixels, Space
from ..tensor import expand
from ..training.checkpoint import load, method_of, read_card
from ..training.nodes import instructed
from .diffusers_images import as_output, as_tensors, card

__all__ = ["GenerationPipeline", "RestorationPipeline", "UndriftModel"]

Generators = torch.Generator | Sequence[torch.Generator] | None
Callback = Callable[..., dict[str, Any] | None]


class UndriftModel(ModelMixin, ConfigMixin):  # type: ignore[misc]  # two names of one file, by diffusers
    """A `Denoiser` and its `Space` as a model of diffusers; the arguments are the entries of our model.json."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        process: dict[str, Any],
        prediction: dict[str, Any],
        network: dict[str, Any],
        space: dict[str, Any],
        label: dict[str, Any],
        scale: float | None = None,
        training: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        parts = {"process": process, "prediction": prediction, "network": network, "label": label}
        self.denoiser = Denoiser(**{part: build(part, table) for part, table in parts.items()}, scale=scale)
        self.space: Space = build("space", space)
        self.autoencoder: Any = getattr(self.space, "autoencoder", None)  # its weights are the model's too
        facts = training or {}
        instructed(self.denoiser, method_of({"training": facts}))
        self.denoiser.tasks = tuple(facts.get("tasks") or ())

    @classmethod
    def of(cls, denoiser: Denoiser, space: Space, training: Mapping[str, Any] | None = None) -> "UndriftModel":
        """With a copy of the weights of `denoiser`; `training` as under that entry of model.json."""
        parts = {part: describe(getattr(denoiser, part)) for part in ("process", "prediction", "network", "label")}
        made: UndriftModel = cls(**parts, space=describe(space), scale=denoiser.scale, training=dict(training or {}))
        made.denoiser.network.load_state_dict(denoiser.network.state_dict())
        if made.autoencoder is not None:
            made.autoencoder.load_state_dict(space.autoencoder.state_dict())  # type: ignore[attr-defined]
        made.eval()
        return made

    def forward(self, z: Tensor, t: Tensor, **cond: Any) -> Tensor:
        """The estimate of z_0, as a `Denoiser`."""
        out: Tensor = self.denoiser(z, t, **cond)
        return out


class _Pipeline(DiffusionPipeline):
    """What making and restoring share: one model, a loop that a callback may stop or change, and a card."""

    model_cpu_offload_seq: Any = "model"

    def __init__(self, model: UndriftModel) -> None:
        super().__init__()
        self.register_modules(model=model)
        self._interrupt = False

    @classmethod
    def of(cls, name: str | Path) -> Any:
        """The pipeline of a bundled model or the folder of a checkpoint of ours."""
        return cls(UndriftModel.of(*load(name), read_card(name)["training"]))

    def save_pretrained(self, save_directory: Any, *args: Any, **settings: Any) -> None:
        """As in diffusers, and a model card, README.md, where there is none yet."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        readme = folder / "README.md"
        if not readme.exists():
            readme.write_text(card(type(self).__name__, self.model.config), encoding="utf-8")
        self._card = readme.read_text(encoding="utf-8")
        super().save_pretrained(str(save_directory), *args, **settings)

    def _upload_folder(  # type: ignore[override]  # called by name
        self, working_dir: Any, repo_id: str, token: Any = None, **settings: Any
    ) -> Any:
        """As in diffusers, with the model card where the repository has none: it would write an empty one."""
        if not (settings.get("subfolder") or file_exists(repo_id, "README.md", token=token)):
            text = self._card.replace("this folder", repo_id)
            (Path(working_dir) / "README.md").write_text(text, encoding="utf-8")
        return super()._upload_folder(working_dir, repo_id, token=token, **settings)

    @property
    def facts(self) -> dict[str, Any]:
        """Of the training of the model."""
        return self.model.config.training or {}

    def _run(
        self, denoise: Denoise, z: Tensor, times: Tensor, preset: Preset, noise: "_Drawn", callback: Callback | None
    ) -> Tensor:
        """The state at the end of the grid. Other latents, which a callback returns, start the solver afresh."""
        self._interrupt, done, steps = False, 0, len(times) - 1
        bar = self.progress_bar(total=steps)
        while done < steps and not self._interrupt:
            left = trajectory(denoise, self.model.denoiser.process, z, times[done:], preset.solver, noise)
            for z in left:
                done += 1
                bar.update()
                told = callback(self, done - 1, float(times[done - 1]), {"latents": z}) if callback else None
                changed = _latents(told, z)
                if self._interrupt or changed is not z:
                    z = changed
                    break
        bar.close()
        return z


def _latents(told: Any, z: Tensor) -> Tensor:
    """What a callback returned, or the state itself."""
    changed = z if told is None else told.get("latents", z) if isinstance(told, Mapping) else told
    if isinstance(told, Tensor) or getattr(changed, "shape", None) != z.shape:
        raise ValueError(f"callback_on_step_end returned {type(told).__name__}: need None or a dict with latents of "
                         f"shape {tuple(z.shape)}")  # fmt: skip
    return changed


class _Drawn:
    """Noise of one generator, or of one for each sample; a generator on the CPU gives the same on every device."""

    def __init__(self, generators: Generators, count: int) -> None:
        self.generators = list(generators) if isinstance(generators, Sequence) else generators
        if isinstance(self.generators, list) and len(self.generators) != count:
            raise ValueError(f"{len(self.generators)} generators for {count} images: give one, or one each")

    def __call__(self, like: Tensor, t: Tensor, s: Tensor) -> Tensor:
        if isinstance(self.generators, list):
            return torch.cat([_normal(like[k : k + 1], each) for k, each in enumerate(self.generators)])
        return _normal(like, self.generators)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = "cpu" if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


class GenerationPipeline(_Pipeline):
    """Images from noise, by a generator of ours."""

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        labels: Sequence[int] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        solver: str | None = None,
        size: tuple[int, int] | None = None,
        generator: Generators = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Images, `batch_size` of them or one for each of `labels`.

        Arguments:
            labels: classes; None for a model without, or for "no class".
            num_inference_steps: network evaluations; None for 10, or 2 of a student.
            guidance_scale: of classifier-free guidance, for a model by class; 1 is none.
            solver: a name in `undrift.generation.PRESETS`.
            size: (height, width); None for that of the training.
            generator: one, or one per image.
            output_type: "pil", "np" (N, H, W, C), "pt" (N, C, H, W), or "latent" for the states.
            callback_on_step_end: `(pipeline, step, time, {"latents": z})`; it may return other latents, and stops
                everything by `pipeline._interrupt = True`.

        Raises ValueError for values outside these.
        """
        denoiser, space, device = self.model.denoiser, self.model.space, self.model.device
        if not isinstance(space, Pixels | Latent):
            raise ValueError("this model restores photographs: use RestorationPipeline")
        if labels is not None and (isinstance(labels, str) or torch.as_tensor(labels).ndim != 1):
            raise ValueError(f"labels = {labels!r}: need a list of class numbers")
        if size is not None and (not isinstance(size, Sequence) or len(size) != 2):
            raise ValueError(f"size = {size!r}: need (height, width)")
        count = len(labels) if labels is not None else 1 if batch_size is None else batch_size
        if count < 1 or (labels is not None and batch_size not in (None, count)):
            raise ValueError(
                f"batch_size = {batch_size} with {count} labels: need one image or more, as many as labels"
            )
        channels, *sides = self.facts.get("shape") or (denoiser.network.arguments["in_channels"], 32, 32)
        solver, steps = chosen(denoiser, solver, num_inference_steps, USUAL)
        preset = _preset(GENERATION, solver).of(denoiser)
        times, noise = preset.grid(denoiser.process, steps), _Drawn(generator, count)
        like = torch.zeros(count, channels, *(size or sides), device=device)
        told = {} if labels is None else {"label": torch.as_tensor(labels, device=device)}
        denoise = self._guided(guidance_scale, bool(told))
        z = expand(denoiser.process.alpha_sigma(times[0])[1], like) * noise(like, times[0], times[0])
        denoise = randomised(denoise, noise, denoiser.noise_channels)
        z = self._run(partial(denoise, **told), z, times, preset, noise, callback_on_step_end)
        images: Any = z if output_type == "latent" else as_output(space.decode(z), output_type)
        return ImagePipelineOutput(images) if return_dict else (images,)

    def _guided(self, scale: float, labelled: bool) -> Denoise:
        if not math.isfinite(scale):
            raise ValueError(f"guidance_scale = {scale}: need a finite number, 1 for none")
        denoiser: Denoiser = self.model.denoiser
        classes = getattr(denoiser.network, "arguments", {}).get("classes", 0)
        if scale == 1:
            return denoiser
        if not (classes and labelled):
            raise ValueError(f"guidance_scale = {scale:g}: needs labels, and a model that knows classes; leave it out")
        return ClassifierFree(denoiser, denoiser.process, scale, {"label": classes})


class RestorationPipeline(_Pipeline):
    """Degraded photographs back to clean ones, by a mean-reverting model of ours."""

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        task: str | None = None,
        num_inference_steps: int | None = None,
        solver: str | None = None,
        generator: Generators = None,
        tile: int = 512,
        overlap: int = 64,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Restored images, in a list.

        Arguments:
            image: a PIL image, an array (H, W, 3) or tensor (3, H, W) in [0, 1], or a list of them, of any sizes.
            task: what they suffer from, one of `pipeline.model.denoiser.tasks`; None leaves it to the model to see.
            num_inference_steps: network evaluations; None for 8, or 2 of a student.
            solver: a name in `undrift.restoration.PRESETS`.
            tile, overlap: larger images are estimated in tiles.

        The rest as in `GenerationPipeline`; "latent" is refused. Raises ValueError for values outside these.
        """
        denoiser, space = self.model.denoiser, self.model.space
        if isinstance(space, Pixels | Latent):
            raise ValueError("this model makes images from noise: use GenerationPipeline")
        photographs, several = as_tensors(image), isinstance(generator, Sequence)
        if several and len(generator) != len(photographs):  # type: ignore[arg-type]
            raise ValueError(f"{len(generator)} generators for {len(photographs)} images: give one, or one each")  # type: ignore[arg-type]
        solver, steps = chosen(denoiser, solver, num_inference_steps, RESTORING)
        preset = _preset(presets(denoiser.process, denoiser.prediction), solver).of(denoiser)
        times, told = preset.grid(denoiser.process, steps), telling(denoiser, task)
        estimate = tiled(denoiser, tile, overlap)
        found: list[Any] = []
        for k, photograph in enumerate(photographs):
            given = photograph[None].to(self.model.device)
            y, inner = space.observed(given)
            noise = _Drawn(generator[k] if several else generator, 1)  # type: ignore[index,arg-type]
            known = told | seen(denoiser, given, None)
            denoise = partial(randomised(estimate, noise, denoiser.noise_channels), image=y, **known)
            z = inner.begins(y)
            if z is None:
                z = expand(denoiser.process.alpha_sigma(times[0])[1], y) * noise(y, times[0], times[0])
            z = self._run(denoise, z, times, preset, noise, callback_on_step_end)
            found += list(as_output(inner.decode(z, y), output_type))
        return ImagePipelineOutput(found) if return_dict else (found,)


def _preset(presets: Mapping[str, Preset], name: str) -> Preset:
    if name not in presets:
        raise ValueError(f"solver {name!r}: choose one of {', '.join(presets)}")
    return presets[name]
