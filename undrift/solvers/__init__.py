"""Solvers: pure steps from noise to data. See `base.Solver`."""

from .base import Solver, State
from .euler import Ancestral, EulerMaruyama, ReverseDiffusion
from .exponential import Coefficients, Exponential, Multistep
from .heun import Heun

__all__ = [
    "Ancestral",
    "Coefficients",
    "EulerMaruyama",
    "Exponential",
    "Heun",
    "Multistep",
    "ReverseDiffusion",
    "Solver",
    "State",
]
