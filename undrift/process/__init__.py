"""Processes: affine Gaussian paths, one method each. See `base.Process`."""

from .base import Process
from .flow import Flow
from .karras import EDM
from .mean_reverting import MeanReverting
from .song import VE, VP, SubVP
from .stochasticity import DDIM, ERSDE5, Fresh, Interval, NoiseControl, Phased, Stochasticity, noise_exponent
from .table import Table

__all__ = [
    "DDIM",
    "EDM",
    "ERSDE5",
    "VE",
    "VP",
    "Flow",
    "Fresh",
    "Interval",
    "MeanReverting",
    "NoiseControl",
    "Phased",
    "Process",
    "Stochasticity",
    "SubVP",
    "Table",
    "noise_exponent",
]
