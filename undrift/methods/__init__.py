"""What one optimisation step computes: methods, and the densities and weightings of score matching."""

from .base import Method
from .density import Density, LogNormal, UniformLambda, UniformTime
from .score_matching import ScoreMatching
from .weighting import Balanced, Norm, Plain, Raw, Weighting

__all__ = [
    "Balanced",
    "Density",
    "LogNormal",
    "Method",
    "Norm",
    "Plain",
    "Raw",
    "ScoreMatching",
    "UniformLambda",
    "UniformTime",
    "Weighting",
]
