"""Foreign weights, schedulers and samplers, told in our objects. Their quirks live here and nowhere else."""

from .irsde import (
    Denoising,
    denoising_sde,
    denoising_start,
    indices,
    irsde_process,
    posterior,
    reverse_ode,
    reverse_sde,
)
from .mr_sampler import MRSampler

__all__ = [
    "Denoising",
    "MRSampler",
    "denoising_sde",
    "denoising_start",
    "indices",
    "irsde_process",
    "posterior",
    "reverse_ode",
    "reverse_sde",
]
