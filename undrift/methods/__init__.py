"""What one optimisation step computes: methods, and the densities and weightings of score matching."""

from .base import Method
from .classification import Classification
from .density import Density, LogNormal, UniformIndex, UniformLambda, UniformTime
from .score_matching import ScoreMatching
from .weighting import Balanced, Likelihood, Norm, Plain, Raw, Sigma2, Weighting

__all__ = [
    "Balanced",
    "Classification",
    "Density",
    "Likelihood",
    "LogNormal",
    "Method",
    "Norm",
    "Plain",
    "Raw",
    "ScoreMatching",
    "Sigma2",
    "UniformIndex",
    "UniformLambda",
    "UniformTime",
    "Weighting",
]
