"""Solvers: pure steps from noise to data. See `base.Solver`."""

from .adaptive import DormandPrince
from .adaptive_exponential import AdaptiveExponential
from .base import Solver, State
from .consistency import Consistency, consistency_map, implied_estimate
from .corrector import AnnealedLangevin, Corrected, Corrector, Langevin
from .euler import Ancestral, EulerMaruyama, ReverseDiffusion
from .exponential import Coefficients, Exponential, Multistep
from .heun import Heun
from .twisted import Twist, Twisted

__all__ = [
    "AdaptiveExponential",
    "Ancestral",
    "AnnealedLangevin",
    "Coefficients",
    "Consistency",
    "Corrected",
    "Corrector",
    "DormandPrince",
    "EulerMaruyama",
    "Exponential",
    "Heun",
    "Langevin",
    "Multistep",
    "ReverseDiffusion",
    "Solver",
    "State",
    "Twist",
    "Twisted",
    "consistency_map",
    "implied_estimate",
]
