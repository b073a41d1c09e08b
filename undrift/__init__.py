"""undrift: diffusion models written as stochastic differential equations.

    z_t = alpha_t z_0 + sigma_t eps

is the one path behind generation and restoration; `process` gives its numbers, `prediction` the meaning of a network's
output, `space` the coordinates, `solvers` the steps, and `sample` the loop. Names are imported when first used, so that
`import undrift` costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import prediction, times
    from .denoiser import Denoiser, GaussianMixture
    from .likelihood import log_likelihood
    from .noise import Brownian, Gaussian, PerSample, Replay
    from .process import EDM, VE, VP, Flow, MeanReverting, Process, SubVP, Table
    from .restart import Restart
    from .sample import sample, trajectory
    from .solvers import (
        AdaptiveExponential,
        Ancestral,
        AnnealedLangevin,
        Corrected,
        DormandPrince,
        EulerMaruyama,
        Exponential,
        Heun,
        Langevin,
        ReverseDiffusion,
        Solver,
        Twisted,
    )
    from .space import Pixels, Residual, Space
    from .training.checkpoint import load, save

__version__ = "0.1.0"
__all__ = [
    "EDM",
    "VE",
    "VP",
    "AdaptiveExponential",
    "Ancestral",
    "AnnealedLangevin",
    "Brownian",
    "Corrected",
    "Denoiser",
    "DormandPrince",
    "EulerMaruyama",
    "Exponential",
    "Flow",
    "Gaussian",
    "GaussianMixture",
    "Heun",
    "Langevin",
    "MeanReverting",
    "PerSample",
    "Pixels",
    "Process",
    "Replay",
    "Residual",
    "Restart",
    "ReverseDiffusion",
    "Solver",
    "Space",
    "SubVP",
    "Table",
    "Twisted",
    "load",
    "log_likelihood",
    "prediction",
    "sample",
    "save",
    "times",
    "trajectory",
]

_MODULES = (
    "denoiser",
    "noise",
    "process",
    "sample",
    "solvers",
    "space",
    "restart",
    "likelihood",
    "training.checkpoint",
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'undrift' has no attribute {name!r}; it has {', '.join(__all__)}")
    if name in ("prediction", "times"):
        return import_module(f".{name}", __name__)
    return next(vars(home)[name] for home in map(_home, _MODULES) if name in home.__all__)


def _home(module: str) -> ModuleType:
    return import_module(f".{module}", __name__)


class _Package(ModuleType):
    """`undrift.sample` is the function, also after somebody imported from the module of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        same = name == "sample" and isinstance(value, ModuleType)
        super().__setattr__(name, value.sample if same else value)


sys.modules[__name__].__class__ = _Package
