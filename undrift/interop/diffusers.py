"""diffusers, in and out: pipelines become our models (`from_pipeline`), our solvers its schedulers.

See docs/diffusers.md. The library itself is imported by the parts that need it, and comes with `undrift[diffusers]`.
"""

from .diffusers_import import Imported, denoiser_of, from_pipeline, latent_of
from .diffusers_process import grid, prediction_of, process_of
from .diffusers_unet import DiffusersUNet, KLCodec, guidance_embedding

__all__ = [
    "DiffusersUNet",
    "Imported",
    "KLCodec",
    "denoiser_of",
    "from_pipeline",
    "grid",
    "guidance_embedding",
    "latent_of",
    "prediction_of",
    "process_of",
]
