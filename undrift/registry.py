"""Names <-> classes, for recipes and checkpoints: one dict per kind, and nothing else decides by a string.

    build("process", {"name": "mean_reverting", "lam": 0.1})  ->  MeanReverting(lam=0.1)
    describe(MeanReverting(lam=0.1))                          ->  the table again, all fields spelt out

A table is a constructor call: its keys are arguments, a key that is itself a kind holds a nested table. Only
what is listed here can be built, so a table from a stranger cannot name arbitrary code. A class of one's own
becomes known by one line: `registry.CLASSES["process"]["mine"] = Mine`.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch

from . import denoiser, methods, networks, prediction, process, restart, solvers, space
from .training import average

__all__ = ["CLASSES", "build", "check_keys", "describe"]

CLASSES: dict[str, dict[str, type]] = {
    "process": {
        "ve": process.VE,
        "vp": process.VP,
        "subvp": process.SubVP,
        "edm": process.EDM,
        "flow": process.Flow,
        "mean_reverting": process.MeanReverting,
        "table": process.Table,
    },
    "prediction": {
        "data": prediction.Data,
        "noise": prediction.Noise,
        "score": prediction.Score,
        "flow": prediction.FlowVelocity,
        "velocity": prediction.Velocity,
        "ml_noise": prediction.MLNoise,
    },
    "network": {"unet": networks.UNet, "ncsnpp": networks.NCSNpp, "classifier": networks.Classifier},
    "space": {"pixels": space.Pixels, "residual": space.Residual},
    "label": {
        "log_noise": denoiser.LogNoise,
        "time": denoiser.Time,
        "sigma": denoiser.Sigma,
        "level": denoiser.Level,
    },
    "density": {
        "uniform_time": methods.UniformTime,
        "uniform_lambda": methods.UniformLambda,
        "uniform_index": methods.UniformIndex,
        "log_normal": methods.LogNormal,
    },
    "weighting": {
        "plain": methods.Plain,
        "raw": methods.Raw,
        "sigma2": methods.Sigma2,
        "likelihood": methods.Likelihood,
        "norm": methods.Norm,
        "balanced": methods.Balanced,
    },
    "average": {"exponential": average.Exponential, "power": average.Power},
    "optimizer": {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD},
    "solver": {
        "exponential": solvers.Exponential,
        "euler_maruyama": solvers.EulerMaruyama,
        "reverse_diffusion": solvers.ReverseDiffusion,
        "ancestral": solvers.Ancestral,
        "heun": solvers.Heun,
        "dormand_prince": solvers.DormandPrince,
        "adaptive_exponential": solvers.AdaptiveExponential,
        "corrected": solvers.Corrected,
        "restart": restart.Restart,
    },
    "corrector": {"langevin": solvers.Langevin, "annealed_langevin": solvers.AnnealedLangevin},
}
CLASSES["predictor"] = CLASSES["solver"]  # of `Corrected`


def build(kind: str, table: Mapping[str, Any], *args: Any, **given: Any) -> Any:
    """The object that `table`, of the given kind, describes; ValueError in one line for a table that does not fit.

    `args` are passed on; of `given`, only what the class takes and the table leaves out.
    """
    classes = CLASSES[kind]
    if not isinstance(table, Mapping) or "name" not in table:
        raise ValueError(f"[{kind}] {table!r}: need a table with a name, one of {', '.join(classes)}")
    name = table["name"]
    check_keys([name], classes, f"{kind} name")
    parameters = inspect.signature(classes[name]).parameters
    arguments = {key: _nested(key, value) for key, value in table.items() if key != "name"}
    check_keys(arguments, list(parameters)[len(args) :], f"argument of {kind} {name}")
    arguments |= {key: value for key, value in given.items() if key in parameters and key not in arguments}
    try:
        return classes[name](*args, **arguments)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{kind} {name}: {' '.join(str(error).split())}") from None


def _nested(key: str, value: Any) -> Any:
    if key in CLASSES and isinstance(value, Mapping):
        return build(key, value)
    return tuple(value) if isinstance(value, list) else value


def describe(thing: Any) -> dict[str, Any]:
    """The table that `build` turns into `thing` again, of JSON values only.

    The arguments are the fields of a dataclass, or what a network keeps in `arguments`.
    """
    name = next((n for names in CLASSES.values() for n, known in names.items() if known is type(thing)), None)
    if name is None:
        raise ValueError(f"{type(thing).__name__} has no name: add it to undrift.registry.CLASSES to save it")
    if dataclasses.is_dataclass(thing):
        arguments = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    else:
        arguments = thing.arguments
    return {"name": name} | {key: _plain(value) for key, value in arguments.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else describe(value)


def check_keys(given: Any, known: Any, what: str) -> None:
    """ValueError naming the first of `given` that is not among `known`, what it may have meant, and what exists."""
    for key in given:
        if key not in list(known):
            close = get_close_matches(str(key), [str(k) for k in known], 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"unknown {what} {key!r}: {hint}There are {', '.join(known) or 'none'}")
