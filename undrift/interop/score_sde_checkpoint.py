r"""The official PyTorch checkpoints of Score SDE (Song et al. 2021, arXiv 2011.13456) as a denoiser and a space.

Such a file is a pickled dict {"model", "ema", "optimizer", "step"}. `model` names its tensors `all_modules.N.<part>`,
where N counts blocks in the order of construction; `ema["shadow_params"]` is a bare list, in the order of those
parameters that are trained: the frequencies of the Fourier embedding are not among them, and come from `model`.
`layout` says where each tensor goes, from our network, whose parts are built in that order too. Nothing is executed:
the file is opened with `weights_only=True`. Every tensor must have a place and its shape, and every place a tensor.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser
from ..networks.blocks import Attention, LearntResample, Resample, ResidualBlock
from ..networks.ncsnpp import InputSkip, NCSNpp
from ..space import Space
from .score_sde_presets import released

__all__ = ["Piece", "adopt", "layout", "read_official", "score_sde_checkpoint"]


@dataclass(frozen=True)
class Piece:
    """One official tensor and its place.

    Arguments:
        name: the official name, without `module.`
        shape: the official shape.
        target: name of our tensor; "" for one that an unconditional network has and does not use.
        rows: which rows of our tensor it is, first and end; None for all.
        turned: whether it is a matrix (in, out) where ours is (out, in).
        trained: whether the average has it.
    """

    name: str
    shape: tuple[int, ...]
    target: str
    rows: tuple[int, int] | None = None
    turned: bool = False
    trained: bool = True


def score_sde_checkpoint(path: str | Path, name: str, *, average: bool = True) -> tuple[Denoiser, Space]:
    """The model of an official file, in evaluation mode.

    Arguments:
        path: the file, `checkpoint_N.pth`.
        name: its configuration, a key of `RELEASED`, e.g. "ve/cifar10_ncsnpp_continuous".
        average: whether to take the averaged weights, as for all published numbers, or the last ones.

    Raises OSError or ValueError, in one line, for a file that is missing, damaged, malicious or of another network.
    """
    preset = released(name)
    found = read_official(path)
    network = preset.empty().to_empty(device="cpu")
    try:
        adopt(network, found["model"], found["ema"]["shadow_params"] if average else None)
    except ValueError as error:
        raise ValueError(f"{path} as {name}: {error}") from None
    denoiser, space = preset.parts(network)
    return denoiser.requires_grad_(False).eval(), space


def read_official(path: str | Path) -> dict[str, Any]:
    """The dict in the file, whose `model` is named tensors and whose `ema` holds a list of tensors."""
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of many kinds: pickle's, zip's, torch's
        if "GLOBAL" in str(error):  # torch names the function or class that it will not make
            raise ValueError(
                f"{path}: not opened, for it holds more than tensors, numbers and lists, which could run code"
            ) from None
        raise ValueError(f"{path}: damaged, or not a checkpoint of PyTorch ({type(error).__name__})") from None
    model = found.get("model") if isinstance(found, dict) else None
    if not isinstance(model, dict) or not model or not all(map(torch.is_tensor, model.values())):
        raise ValueError(f"{path}: no entry 'model' of named tensors: not a checkpoint of Score SDE")
    average = found.get("ema")
    shadow = average.get("shadow_params") if isinstance(average, dict) else None
    if not isinstance(shadow, list) or not all(map(torch.is_tensor, shadow)):
        raise ValueError(
            f"{path}: no list 'shadow_params' of tensors in its entry 'ema': not a checkpoint of Score SDE"
        )
    return found


def adopt(network: NCSNpp, model: Mapping[str, Tensor], shadow: Sequence[Tensor] | None = None) -> None:
    """Copy official tensors into the network.

    Arguments:
        model: by official name, with or without `module.` in front.
        shadow: averages of the trained ones, in their order.

    Raises ValueError, in one line, for a tensor that is missing, of another shape, or without a place.
    """
    pieces = layout(network)
    given = {name.removeprefix("module."): value for name, value in model.items()}
    levels = given.pop("sigmas", None)
    for piece in pieces:
        if piece.name not in given:
            raise ValueError(f"no tensor {piece.name} {piece.shape}, which the network has")
        _fits(piece, given[piece.name], "")
    if surplus := next((name for name in given if name not in {piece.name for piece in pieces}), None):
        raise ValueError(f"tensor {surplus} {tuple(given[surplus].shape)} has no place in the network")
    if network.scale_by_sigma:
        _same_levels(network, levels)
    if shadow is not None:
        trained = [piece for piece in pieces if piece.trained]
        if len(shadow) != len(trained):
            raise ValueError(f"the average is of {len(shadow)} tensors, but the network trains {len(trained)}")
        for piece, value in zip(trained, shadow, strict=True):
            _fits(piece, value, "average of ")
            given[piece.name] = value
    state = network.state_dict()
    for piece in pieces:
        if piece.target:
            place, value = state[piece.target][slice(*(piece.rows or (None,)))], given[piece.name]
            place.copy_((value.T if piece.turned else value).reshape(place.shape))


def _fits(piece: Piece, value: Tensor, what: str) -> None:
    if tuple(value.shape) != piece.shape:
        raise ValueError(f"{what}{piece.name} has shape {tuple(value.shape)}, but the network's is {piece.shape}")


def _same_levels(network: NCSNpp, levels: Tensor | None) -> None:
    """Networks of one shape are told apart by their noise levels, largest first."""
    low, high, number = network.sigmas
    if levels is None:
        raise ValueError(f"no tensor sigmas ({number},), the noise levels that the network divides by")
    expected = high * (low / high) ** torch.linspace(0, 1, int(number), dtype=torch.float64)
    if levels.shape != expected.shape or not torch.allclose(levels.double(), expected, rtol=1e-4, atol=0.0):
        ends = f"{levels.numel()} levels from {levels.flatten()[0]:g} to {levels.flatten()[-1]:g}"
        raise ValueError(f"sigmas are {ends}, but the network's are {number} from {high:g} to {low:g}")


def layout(network: NCSNpp) -> list[Piece]:
    """Every official tensor, in the official order; that of `parameters()` too."""
    if network.classes:
        raise ValueError(f"classes is {network.classes}: the official networks know of none")
    pieces, numbers = [], count()
    width, hidden = network.arguments["width"], 4 * network.arguments["width"]
    told = network.arguments["conditional"]
    if network.embedding == "fourier":
        name, target = f"all_modules.{next(numbers)}.W", "embed.frequencies" if told else ""
        pieces.append(Piece(name, (width,), target, trained=False))
    own = {name: tuple(value.shape) for name, value in network.named_parameters()}
    for path, atom in _atoms(network, ""):
        prefix = f"all_modules.{next(numbers)}"
        for official, ours in _parts(atom, network.arguments["block"]):
            place = _joined(path, ours)
            if f"{place}.weight" in own:
                pieces += _tensors(_joined(prefix, official), place, own)
            elif official == "Dense_0":  # made, and not used
                outputs = own[f"{path}.conv0.bias"]
                pieces.append(Piece(f"{prefix}.Dense_0.weight", (*outputs, hidden), ""))
                pieces.append(Piece(f"{prefix}.Dense_0.bias", outputs, ""))
    return pieces


def _joined(*names: str) -> str:
    return ".".join(filter(None, names))


def _atoms(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """What the official list of modules has one entry of, in order of construction, and where we have it."""
    listed = (ResidualBlock, Attention, LearntResample, Resample, InputSkip, nn.Linear, nn.Conv2d, nn.GroupNorm)
    for name, child in module.named_children():
        if isinstance(child, listed):
            yield _joined(path, name), child
        else:
            yield from _atoms(child, _joined(path, name))


def _parts(atom: nn.Module, block: str) -> list[tuple[str, str]]:
    """(official name, our name) of the layers of an atom, in order."""
    if isinstance(atom, ResidualBlock):
        names = {"GroupNorm_0": "norm0", "Conv_0": "conv0", "Dense_0": "dense", "GroupNorm_1": "norm1"}
        return [*names.items(), ("Conv_1", "conv1"), ("NIN_0" if block == "ddpm" else "Conv_2", "shortcut")]
    if isinstance(atom, Attention):
        return [("GroupNorm_0", "norm"), ("NIN", "query_key_value"), ("NIN_3", "out")]
    if isinstance(atom, LearntResample | InputSkip):
        return [("Conv2d_0" if isinstance(atom, LearntResample) and atom.taps else "Conv_0", "layer")]
    return [] if isinstance(atom, Resample) else [("", "")]


def _tensors(official: str, ours: str, own: Mapping[str, tuple[int, ...]]) -> list[Piece]:
    """Weight and bias of one layer; a NIN is a matrix (in, out) over channels."""
    weight, bias = f"{ours}.weight", f"{ours}.bias"
    if "NIN" not in official:
        return [Piece(f"{official}.weight", own[weight], weight), Piece(f"{official}.bias", own[bias], bias)]
    outputs, inputs = own[weight][:2]
    if not official.endswith("NIN"):
        whole = Piece(f"{official}.W", (inputs, outputs), weight, turned=True)
        return [whole, Piece(f"{official}.b", (outputs,), bias)]
    pieces = []
    for i in range(3):  # query, key and value are rows of one matrix here
        rows = (i * inputs, (i + 1) * inputs)
        pieces.append(Piece(f"{official}_{i}.W", (inputs, inputs), weight, rows, turned=True))
        pieces.append(Piece(f"{official}_{i}.b", (inputs,), bias, rows))
    return pieces
