"""Foreign weights, schedulers and samplers, told in our objects. Their quirks live here and nowhere else."""

from .irsde import (
    Denoising,
    MLDenoising,
    denoising_sde,
    denoising_start,
    indices,
    irsde_process,
    posterior,
    reverse_ode,
    reverse_sde,
)
from .mr_sampler import MRSampler
from .score_sde import DiscreteNoise, ScoreSDE
from .score_sde_checkpoint import score_sde_checkpoint
from .score_sde_controllable import colorizer, inpainter

__all__ = [
    "Denoising",
    "DiscreteNoise",
    "MLDenoising",
    "MRSampler",
    "ScoreSDE",
    "colorizer",
    "denoising_sde",
    "denoising_start",
    "indices",
    "inpainter",
    "irsde_process",
    "posterior",
    "reverse_ode",
    "reverse_sde",
    "score_sde_checkpoint",
]
