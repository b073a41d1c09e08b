"""What one optimisation step computes: methods, and the densities and weightings of score matching."""

from .adversarial import Adversarial, Hinge, LeastSquares, NonSaturating, r1
from .base import Method
from .classification import Classification
from .contest import Contest
from .density import Density, LogNormal, UniformIndex, UniformLambda, UniformTime
from .distance import Distance, ElementHuber, Energy, Perceptual, PseudoHuber, Squared
from .score_matching import ScoreMatching
from .scott import Scott
from .watch import balance, leak
from .weighting import Balanced, Likelihood, Norm, Plain, Raw, Sigma2, Weighting

__all__ = [
    "Adversarial",
    "Balanced",
    "Classification",
    "Contest",
    "Density",
    "Distance",
    "ElementHuber",
    "Energy",
    "Hinge",
    "LeastSquares",
    "Likelihood",
    "LogNormal",
    "Method",
    "NonSaturating",
    "Norm",
    "Perceptual",
    "Plain",
    "PseudoHuber",
    "Raw",
    "ScoreMatching",
    "Scott",
    "Sigma2",
    "Squared",
    "UniformIndex",
    "UniformLambda",
    "UniformTime",
    "Weighting",
    "balance",
    "leak",
    "r1",
]
