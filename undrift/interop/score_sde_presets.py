"""The released configurations of Score SDE (Song et al. 2021, arXiv 2011.13456), told as our parts.

`RELEASED` maps their names, as in `configs/` of the official repository, to network, process and time. The NCSN and
NCSNv2 models of its ablation are another kind of network and not here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

import torch
from torch import nn

from ..denoiser import Denoiser, Label, Level, Sigma, Time
from ..networks.ncsnpp import NCSNpp, ddpm, ddpmpp
from ..prediction import Prediction, noise, score
from ..process import VE, VP, Process, SubVP, Table
from ..space import Pixels, Space

__all__ = ["RELEASED", "Released", "network_from", "released"]

Make: TypeAlias = Callable[..., NCSNpp]


@dataclass(frozen=True)
class Released:
    """One configuration.

    Arguments:
        make: `NCSNpp`, `ddpmpp` or `ddpm`.
        network: arguments of it.
        process: the path of the training; a `Table` of its 1000 levels for a discretely trained VP model.
        label: what the network is told of the time.
        prediction: what it returns: the score where it divides by sigma itself, the noise else.
        centred: data in [-1, 1], or in [0, 1].
    """

    make: Make
    network: Mapping[str, Any]
    process: Process
    label: Label
    prediction: Prediction
    centred: bool

    def empty(self) -> NCSNpp:
        """The network, its weights yet unset and taking no memory."""
        with torch.device("meta"):
            return self.make(**self.network)

    def parts(self, network: nn.Module) -> tuple[Denoiser, Space]:
        """That network with its meaning."""
        denoiser = Denoiser(network, self.process, self.prediction, scale=None, label=self.label)
        return denoiser, Pixels(centred=self.centred)


def released(name: str) -> Released:
    """The configuration of that name; ValueError that lists all of them."""
    if name not in RELEASED:
        close = get_close_matches(name, RELEASED, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"unknown configuration {name!r}: {hint}There are {', '.join(RELEASED)}")
    return RELEASED[name]


def network_from(settings: Mapping[str, Mapping[str, Any]], architecture: str = "") -> NCSNpp:
    """The network of an official configuration, {"model": {...}, "data": {...}}, by the names it has there.

    Arguments:
        architecture: "ncsnpp" or "ddpm", where `settings["model"]["name"]` does not say it.
    """
    model, data = settings["model"], settings["data"]
    sides = [data["image_size"] // 2**level for level in range(len(model["ch_mult"]))]
    shared = {
        "width": model["nf"],
        "multipliers": model["ch_mult"],
        "blocks": model["num_res_blocks"],
        "attention": [level for level, side in enumerate(sides) if side in model["attn_resolutions"]],
        "in_channels": data.get("num_channels", 3),
        "conditional": model["conditional"],
        "activation": model["nonlinearity"].lower(),
        "dropout": model["dropout"],
        "learnt_resample": model["resamp_with_conv"],
        "centred": data["centered"],
        "scale_by_sigma": model["scale_by_sigma"],
        "sigmas": (model["sigma_min"], model["sigma_max"], model["num_scales"]),
    }
    kind = architecture or model.get("name")
    if kind == "ddpm":
        return ddpm(**shared)
    if kind != "ncsnpp":
        raise ValueError(f"architecture {kind!r}: this reads ncsnpp and ddpm")
    return NCSNpp(
        **shared,
        block=model["resblock_type"].lower(),
        taps=model["fir_kernel"] if model["fir"] else (),
        pyramid_in=model["progressive_input"].lower().removeprefix("input_"),
        pyramid_out=model["progressive"].lower().removeprefix("output_"),
        combine=model["progressive_combine"].lower(),
        rescale=model["skip_rescale"],
        embedding=model["embedding_type"].lower(),
        fourier_scale=model.get("fourier_scale", 16),
        init_scale=model["init_scale"],
    )


def _ve(make: Make, largest: float, count: int = 1000, *, continuous: bool, **own: Any) -> Released:
    label, kind = (Sigma(), "fourier") if continuous else (Level(count), "positional")
    arguments = {"embedding": kind, "centred": False, "scale_by_sigma": True, "sigmas": (0.01, largest, count)}
    return Released(make, arguments | own, VE(0.01, largest), label, score, False)


def _vp(make: Make, process: Process | None = None, **own: Any) -> Released:
    """On the levels of DDPM, by their index, where no process is given."""
    label = Time(1.0) if process is None else Time(999.0)
    return Released(make, {"embedding": "positional"} | own, process or _levels(), label, noise, True)


def _levels(count: int = 1000, beta_min: float = 0.1, beta_max: float = 20.0) -> Table:
    """log alpha_i = 1/2 sum_{j <= i} log(1 - beta_j), beta evenly spaced from beta_min / count to beta_max / count."""
    betas = torch.linspace(beta_min / count, beta_max / count, count, dtype=torch.float64)
    return Table(tuple((torch.log1p(-betas).cumsum(0) / 2).tolist()))


_SMALL: dict[str, Any] = {"multipliers": (1, 2, 2, 2), "attention": (1,), "dropout": 0.1}
_256: dict[str, Any] = {"multipliers": (1, 1, 2, 2, 2, 2, 2), "attention": (4,), "blocks": 2}
_1024: dict[str, Any] = {"width": 16, "multipliers": (1, 2, 4, 8, 16, 32, 32, 32), "attention": (6,), "blocks": 1}
_SKIPS: dict[str, Any] = {"pyramid_in": "skip", "pyramid_out": "skip"}
_DDPM_256: dict[str, Any] = {"multipliers": (1, 1, 2, 2, 4, 4), "attention": (4,)}

RELEASED: dict[str, Released] = {
    "ve/cifar10_ncsnpp": _ve(NCSNpp, 50.0, continuous=False, **_SMALL),
    "ve/cifar10_ncsnpp_continuous": _ve(NCSNpp, 50.0, continuous=True, **_SMALL),
    "ve/cifar10_ncsnpp_deep_continuous": _ve(NCSNpp, 50.0, continuous=True, blocks=8, **_SMALL),
    "ve/cifar10_ddpm": _ve(ddpm, 50.0, continuous=False, **_SMALL),
    "ve/celeba_ncsnpp": _ve(NCSNpp, 90.0, continuous=False, **_SMALL | {"attention": (2,)}),
    "ve/bedroom_ncsnpp_continuous": _ve(NCSNpp, 378.0, 2000, continuous=True, **_256, **_SKIPS),
    "ve/church_ncsnpp_continuous": _ve(NCSNpp, 380.0, 2000, continuous=True, **_256, **_SKIPS),
    "ve/celebahq_256_ncsnpp_continuous": _ve(NCSNpp, 348.0, 2000, continuous=True, **_256, **_SKIPS),
    "ve/ffhq_256_ncsnpp_continuous": _ve(NCSNpp, 348.0, 2000, continuous=True, **_256, **_SKIPS),
    "ve/celebahq_ncsnpp_continuous": _ve(NCSNpp, 1348.0, 2000, continuous=True, **_1024, **_SKIPS),
    "ve/ffhq_ncsnpp_continuous": _ve(NCSNpp, 1348.0, 2000, continuous=True, **_1024, **_SKIPS),
    "vp/cifar10_ncsnpp": _vp(NCSNpp, **_SMALL),
    "vp/cifar10_ncsnpp_continuous": _vp(NCSNpp, VP(), **_SMALL),
    "vp/cifar10_ncsnpp_deep_continuous": _vp(NCSNpp, VP(), blocks=8, **_SMALL),
    "vp/cifar10_ddpmpp": _vp(ddpmpp, **_SMALL),
    "vp/cifar10_ddpmpp_continuous": _vp(ddpmpp, VP(), **_SMALL),
    "vp/cifar10_ddpmpp_deep_continuous": _vp(ddpmpp, VP(), blocks=8, **_SMALL),
    "vp/ddpm/cifar10": _vp(ddpm, **_SMALL),
    "vp/ddpm/cifar10_continuous": _vp(ddpm, VP(), **_SMALL),
    "vp/ddpm/bedroom": _vp(ddpm, **_DDPM_256),
    "vp/ddpm/church": _vp(ddpm, **_DDPM_256),
    "vp/ddpm/celebahq": _vp(ddpm, **_DDPM_256),
    "subvp/cifar10_ddpm_continuous": _vp(ddpm, SubVP(), **_SMALL),
    "subvp/cifar10_ddpmpp_continuous": _vp(ddpmpp, SubVP(), **_SMALL),
    "subvp/cifar10_ddpmpp_deep_continuous": _vp(ddpmpp, SubVP(), blocks=8, **_SMALL),
    "subvp/cifar10_ncsnpp_continuous": _vp(NCSNpp, SubVP(), **_SMALL),
    "subvp/cifar10_ncsnpp_deep_continuous": _vp(NCSNpp, SubVP(), blocks=8, **_SMALL),
}
