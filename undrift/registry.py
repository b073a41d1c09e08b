"""Names <-> classes, for recipes and checkpoints: one dict per kind, and nothing else decides by a string.

    build("process", {"name": "mean_reverting", "lam": 0.1})  ->  MeanReverting(lam=0.1)
    describe(MeanReverting(lam=0.1))                          ->  the table again, all fields spelt out

A table is a constructor call: its keys are arguments, a key that is itself a kind holds a nested table. Only
what is listed here can be built, so a table from a stranger cannot name arbitrary code. A class of one's own
becomes known by one line: `registry.CLASSES["process"]["mine"] = Mine`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch

from . import denoiser, methods, networks, prediction, process, restart, solvers, space
from .interop import irsde
from .names import check_keys
from .training import average

__all__ = ["CLASSES", "build", "check_keys", "describe", "fitted"]

CLASSES: dict[str, dict[str, type]] = {
    "process": {
        "ve": process.VE,
        "vp": process.VP,
        "subvp": process.SubVP,
        "edm": process.EDM,
        "flow": process.Flow,
        "mean_reverting": process.MeanReverting,
        "table": process.Table,
        "denoising": irsde.Denoising,
    },
    "prediction": {
        "data": prediction.Data,
        "noise": prediction.Noise,
        "score": prediction.Score,
        "flow": prediction.FlowVelocity,
        "velocity": prediction.Velocity,
        "ml_noise": prediction.MLNoise,
        "ml_denoising": irsde.MLDenoising,
    },
    "network": {
        "unet": networks.UNet,
        "ncsnpp": networks.NCSNpp,
        "classifier": networks.Classifier,
        "irsde_unet": networks.IRSDEUNet,
        "nafnet": networks.NAFNet,
    },
    "space": {
        "pixels": space.Pixels,
        "residual": space.Residual,
        "noisy": space.Noisy,
        "observed_latent": space.ObservedLatent,
    },
    "autoencoder": {"latent_unet": networks.LatentUNet},
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
        "consistency": solvers.Consistency,
    },
    "tau": {
        "ddim": process.DDIM,
        "er_sde_5": process.ERSDE5,
        "fresh": process.Fresh,
        "interval": process.Interval,
        "phased": process.Phased,
    },
    "game": {
        "hinge": methods.Hinge,
        "least_squares": methods.LeastSquares,
        "non_saturating": methods.NonSaturating,
    },
    "distance": {
        "squared": methods.Squared,
        "pseudo_huber": methods.PseudoHuber,
        "element_huber": methods.ElementHuber,
        "perceptual": methods.Perceptual,
        "energy": methods.Energy,
    },
    "corrector": {"langevin": solvers.Langevin, "annealed_langevin": solvers.AnnealedLangevin},
}
CLASSES["predictor"] = CLASSES["solver"]  # of `Corrected`
CLASSES["path"] = CLASSES["process"]  # of `Denoising`


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
    arguments = fitted(classes[name], arguments, f"{kind} {name}: ")
    arguments |= {key: value for key, value in given.items() if key in parameters and key not in arguments}
    try:
        return classes[name](*args, **arguments)
    except (TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError, LookupError) as error:
        raise ValueError(f"{kind} {name}: {' '.join(str(error).split())}") from None


def _nested(key: str, value: Any) -> Any:
    return build(key, value) if key in CLASSES and isinstance(value, Mapping) else value


def fitted(constructor: Any, arguments: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The arguments as `constructor` annotates them: lists as tuples, a single value where several may stand as one.

    ValueError, `<prefix><key> = <value>: need ...` in one line, for one of another type.
    """
    try:
        hints = get_type_hints(constructor.__init__)
    except (NameError, TypeError):  # somebody else's, which only a type checker can read
        hints = {}
    found = {}
    for key, value in arguments.items():
        hint = hints.get(key, Any)
        choices = (tuple(value),) if isinstance(value, list) else (value, (value,))
        fitting = [choice for choice in choices if _fits(choice, hint)]
        if not fitting:
            raise ValueError(f"{prefix}{key} = {value!r}: need {_words(hint)}")
        found[key] = fitting[0]
    return found


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; True for annotations that say more than can be checked here."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin in (tuple, Sequence):
        many = origin is Sequence or inner[-1:] == (...,)
        kinds = (inner[0],) * len(value) if many and isinstance(value, tuple | list) else inner
        return isinstance(value, tuple | list) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(each, inner[1]) for each in value.values())
    if hint in (int, float):
        whole = isinstance(value, Integral)
        kind = whole if hint is int else isinstance(value, Real)
        return kind and not isinstance(value, bool) and not (whole and abs(value) >= 2**63)
    if origin is Callable:
        return callable(value)
    if getattr(hint, "_is_protocol", False):
        return not isinstance(value, str | Real | tuple | Mapping)
    return not isinstance(hint, type) or hint is Any or isinstance(value, hint)


def _words(hint: Any) -> str:
    """What to write in TOML."""
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(each) for each in inner if each in plain or get_origin(each)) or _words(inner[0])
    if origin in (tuple, Sequence):
        return f"a list [{', '.join('...' if kind is ... else _words(kind) for kind in inner)}]"
    if origin is Mapping:
        return f"a table, each value {_words(inner[1])}"
    return plain.get(hint, "a table")


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
