"""diffusers, in and out: pipelines become our models (`from_pipeline`), our solvers its schedulers.

See docs/diffusers.md. The library itself is imported by the parts that need it, and comes with `undrift[diffusers]`.
"""

from typing import TYPE_CHECKING, Any

from .diffusers_import import Imported, denoiser_of, from_pipeline, latent_of
from .diffusers_process import grid, prediction_of, process_of
from .diffusers_unet import DiffusersUNet, KLCodec, guidance_embedding

if TYPE_CHECKING:
    from .diffusers_scheduler import ConsistencyScheduler, ExponentialScheduler

__all__ = [
    "ConsistencyScheduler",
    "DiffusersUNet",
    "ExponentialScheduler",
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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        from . import diffusers_scheduler
    except ImportError as error:
        raise ImportError(f"{name}: {error}; pip install 'undrift[diffusers]'") from None
    return getattr(diffusers_scheduler, name)
