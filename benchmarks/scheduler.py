"""A few steps of a Stable Diffusion pipeline: our scheduler and diffusers' own against the limit of many steps.

    python benchmarks/scheduler.py PIPELINE_FOLDER [--steps 10] [--reference 200] [--seeds 8] [--prompt TEXT ...]

RMS distance of the final latents to those of a long deterministic run (DDIM's own ODE: order 3, uniform in lambda) from
the same noise, for several prompts and guidance scales; the mean over seeds with its standard error, and in how many of
them ours is the closer. The inputs are the same for every row, so that their difference is the schedulers' alone.
"""

import argparse

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline, UniPCMultistepScheduler

from undrift.interop.diffusers_scheduler import ExponentialScheduler

PROMPTS = [f"a photo of a {noun}" for noun in ("shirt", "bag", "sneaker", "dress", "coat", "sandal", "pullover")]
"""Captions of Fashion-MNIST, on which the pipeline of docs/diffusers.md was trained."""


def schedulers(given):
    """Name -> scheduler; the first is the one to win, the second the one to beat."""
    return {
        "undrift, defaults": ExponentialScheduler.from_config(given),
        "DPMSolverMultistep": DPMSolverMultistepScheduler.from_config(given),
        "DPMSolverMultistep, Karras": DPMSolverMultistepScheduler.from_config(given, use_karras_sigmas=True),
        "DPMSolverMultistep, lambda": DPMSolverMultistepScheduler.from_config(given, use_lu_lambdas=True),
        "UniPCMultistep": UniPCMultistepScheduler.from_config(given),
        "DDIM": DDIMScheduler.from_config(given, clip_sample=False),
    }


def latents(pipeline, scheduler, prompts, noise, steps, guidance):
    pipeline.scheduler = scheduler
    return pipeline(
        prompts, latents=noise, num_inference_steps=steps, guidance_scale=guidance, output_type="latent"
    ).images


def measure(folder, steps=10, reference=200, seeds=8, prompts=PROMPTS, guidances=(1.0, 4.0)):
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    given, side = pipeline.scheduler.config, pipeline.unet.config.sample_size
    words = [prompts[k % len(prompts)] for k in range(seeds)]
    draws = [torch.randn(pipeline.unet.config.in_channels, side, side, generator=torch.Generator().manual_seed(k))
             for k in range(seeds)]  # fmt: skip
    noise = torch.stack(draws)
    rows = []
    for guidance in guidances:
        exact = ExponentialScheduler.from_config(given, solver_order=3)
        limit = latents(pipeline, exact, words, noise, reference, guidance)
        coarse = latents(pipeline, exact, words, noise, reference // 2, guidance)
        size = limit.square().mean().sqrt()
        print(f"guidance {guidance:g}: RMS of the latents {size:.3f}; reference {reference} against {reference // 2} "
              f"steps {(coarse - limit).square().mean().sqrt():.5f}")  # fmt: skip
        found = {
            name: (latents(pipeline, made, words, noise, steps, guidance) - limit).square().mean((1, 2, 3)).sqrt()
            for name, made in schedulers(given).items()
        }
        ours = next(iter(found.values()))
        for name, far in found.items():
            error = far.std() / len(far) ** 0.5
            better = int((ours < far).sum())
            print(f"  {name:28s} {far.mean():.4f} +- {error:.4f}   ours is closer in {better} of {len(far)}")
            rows.append((guidance, name, float(far.mean())))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="PIPELINE_FOLDER")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--reference", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--prompt", nargs="+", default=PROMPTS)
    asked = parser.parse_args()
    measure(asked.folder, asked.steps, asked.reference, asked.seeds, asked.prompt)
