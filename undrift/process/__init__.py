"""Processes: affine Gaussian paths, one method each. See `base.Process`."""

from .base import Process, Stochasticity, noise_exponent
from .flow import Flow
from .karras import EDM
from .mean_reverting import MeanReverting
from .song import VE, VP, SubVP
from .table import Table

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Flow",
    "MeanReverting",
    "Process",
    "Stochasticity",
    "SubVP",
    "Table",
    "noise_exponent",
]
