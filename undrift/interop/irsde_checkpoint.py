"""The released networks of IR-SDE, Refusion and DA-CLIP as a denoiser and a space.

Such a file is a flat dict of named tensors. Which network they make, and of which size, follows from their names and
shapes; its schedule is not in the file. Nothing is executed: pickles are opened with `weights_only=True`. Every tensor
must have a place and its shape, and every place a tensor.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..denoiser import Denoiser
from ..networks.irsde_unet import IRSDEUNet
from ..networks.latent_unet import LatentUNet
from ..networks.nafnet import NAFNet
from ..space import ObservedLatent, Space
from .irsde_presets import Official

__all__ = ["autoencoder_from", "irsde_checkpoint", "is_score_sde", "network_from", "read_state"]

State: TypeAlias = dict[str, Tensor]
WRAPPERS = ("params_ema", "params", "state_dict", "ema", "model", "net", "network")
PREFIXES = ("module.", "_orig_mod.")


def irsde_checkpoint(state: State, settings: Official, latent: State | None = None) -> tuple[Denoiser, Space]:
    """The model of official tensors, in evaluation mode.

    Arguments:
        state: the tensors of the network, of `read_state`.
        settings: its schedule.
        latent: the tensors of the network between images and codes, for a model of codes.

    Raises ValueError, in one line, for tensors of another network, or without their settings.
    """
    network = network_from(state, long_skip=latent is not None)
    process, prediction, space, label = settings.parts()
    seeing = network.arguments["cond_channels"] > 0
    if seeing == bool(settings.noise):
        wanted = "sees the degraded image: its settings have no noise" if seeing else "sees the noisy image alone"
        more = "" if seeing else ": give a preset such as denoising-sigma25, or --noise"
        raise ValueError(f"this network {wanted}{more}")
    if latent is not None:
        autoencoder = autoencoder_from(latent).requires_grad_(False).eval()
        _match(network, autoencoder)
        space = ObservedLatent(autoencoder, space)
    elif (channels := network.arguments["in_channels"]) != 3:
        raise ValueError(
            f"a network of {channels} channels, so of codes of images: give --latent, the network of codes"
        )
    denoiser = Denoiser(network, process, prediction, scale=None, label=label)
    return denoiser.requires_grad_(False).eval(), space


def _match(network: nn.Module, autoencoder: LatentUNet) -> None:
    channels, codes = network.arguments["in_channels"], autoencoder.arguments["latent"]  # type: ignore[index]
    if channels != codes:
        raise ValueError(f"the network restores codes of {channels} channels, but those of --latent have {codes}")


def read_state(path: str | Path, *, average: bool = True) -> State:
    """The named tensors in a file, without the names of wrappers around their network.

    Arguments:
        path: a pickle of PyTorch, or .safetensors.
        average: of a file with a network and its moving average, as `ema_pytorch` writes it, take the average.

    Raises OSError or ValueError, in one line, for a file that is missing, damaged, malicious or without such tensors.
    """
    found: Any = _opened(path)
    if isinstance(found, Mapping) and not _tensors(found):
        found = next((found[key] for key in WRAPPERS if _tensors(found.get(key))), found)
    if not _tensors(found):
        keys = ", ".join(map(str, list(found)[:4])) if isinstance(found, Mapping) else type(found).__name__
        if isinstance(found, Mapping) and "optimizers" in found:
            raise ValueError(f"{path}: the state of a training, without its network: give the file N_G.pth beside it")
        raise ValueError(f"{path}: no named tensors in it (it has {keys or 'nothing'})")
    state = {str(name): value for name, value in found.items() if torch.is_tensor(value)}
    wrapped = "ema_model." if average else "online_model."
    if any(name.startswith(wrapped) for name in state):
        state = {name.removeprefix(wrapped): v for name, v in state.items() if name.startswith(wrapped)}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _opened(path: str | Path) -> Any:
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # of a pickle that it then refuses
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of many kinds: pickle's, zip's, torch's
        if _begins(path).startswith(b"<"):
            raise ValueError(f"{path}: a web page, not weights: download the file that its link leads to") from None
        if isinstance(error, SafetensorError):
            raise ValueError(f"{path}: damaged or truncated ({error})") from None
        if "GLOBAL" in str(error) or "Unsupported class" in str(error):  # torch names what it will not make
            raise ValueError(
                f"{path}: not opened, for it holds more than tensors, numbers and lists, which could run code"
            ) from None
        raise ValueError(f"{path}: damaged, or not a checkpoint of PyTorch ({type(error).__name__})") from None


def _begins(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(64).lstrip()


def _tensors(found: Any) -> bool:
    """Whether these are the tensors of a network; a step or a flag beside them does no harm."""
    return isinstance(found, Mapping) and sum(map(torch.is_tensor, found.values())) > len(found) / 2


def is_score_sde(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are named as those of Score SDE."""
    return any(name.removeprefix("module.").startswith("all_modules.") for name in state)


def network_from(state: Mapping[str, Tensor], *, long_skip: bool = False) -> IRSDEUNet | NAFNet:
    """The network that these tensors make; ValueError for tensors of another, that are missing or have no place.

    Arguments:
        long_skip: of a NAFNet, see there; no tensor tells.
    """
    if "latent_conv.weight" in state:
        raise ValueError(
            "the network between images and codes: give it as --latent, beside the one that restores codes"
        )
    if "visual_control.conv1.weight" in state:
        raise ValueError("the CLIP of a DA-CLIP: give it as --clip, beside the network that restores")
    kind, arguments = _recognised(state)
    if kind is NAFNet:
        arguments["long_skip"] = long_skip
    made: IRSDEUNet | NAFNet = _filled(kind, arguments, state)
    return made


def autoencoder_from(state: Mapping[str, Tensor]) -> LatentUNet:
    """The network between images and codes that these tensors make; ValueError as of `network_from`."""
    if "latent_conv.weight" not in state:
        raise ValueError("not a network between images and codes: it has no tensor latent_conv.weight")
    arguments = _sizes(state, "encoder") | {
        "latent": len(state["latent_conv.weight"]),
        "in_channels": _shape(state, "init_conv.weight")[1],
    }
    made: LatentUNet = _filled(LatentUNet, arguments, state)
    return made


def _recognised(state: Mapping[str, Tensor]) -> tuple[type[nn.Module], dict[str, Any]]:
    """Class and arguments of the network whose tensors these are."""
    if "intro.weight" in state and "middle_blks.0.conv1.weight" in state:
        width, seen = _shape(state, "intro.weight")[:2]
        channels = len(_named(state, "ending.weight"))
        blocks = {
            part: tuple(_count(state, f"{part}.{level}.") for level in range(_count(state, f"{part}.")))
            for part in ("encoders", "decoders")
        }
        more = {"middle": _count(state, "middle_blks."), "in_channels": channels, "cond_channels": seen - channels}
        return NAFNet, {"width": width, **blocks, **more}
    if "init_conv.weight" in state and "mid_block1.block1.proj.weight" in state:
        return IRSDEUNet, _unet(state)
    raise ValueError(
        f"unknown layout, of {len(state)} tensors, the first {next(iter(state))}: this reads the U-Nets of IR-SDE, "
        "DA-CLIP and DenoisingSDE, Refusion's NAFNet, and checkpoints of Score SDE with --config"
    )


def _unet(state: Mapping[str, Tensor]) -> dict[str, Any]:
    channels, inputs = len(_named(state, "final_conv.weight")), _shape(state, "init_conv.weight")[1]
    levels = range(_count(state, "downs."))
    seeing = "attn2.to_k.weight"
    keys = [f"{place}.fn.fn.transformer_blocks.0.{seeing}" for place in ("mid_attn", *(f"downs.{i}.2" for i in levels))]
    context = next((_shape(state, key)[1] for key in keys if key in state), 0)
    if "text_mlp.0.weight" in state:
        context = _shape(state, "text_mlp.0.weight")[1]
    middle = "linear" if "mid_attn.fn.fn.to_out.0.weight" in state else "softmax"
    return _sizes(state, "downs") | {
        "in_channels": channels,
        "cond_channels": inputs - channels,
        "middle": "transformer" if keys[0] in state else middle,
        "transformers": tuple(level for level, key in zip(levels, keys[1:], strict=True) if key in state),
        "context": context,
        "degradation": "prompt" in state,
        "halved": "downsample.weight" in state,
    }


def _sizes(state: Mapping[str, Tensor], part: str) -> dict[str, Any]:
    """Width and multipliers of a U-Net's way down, from what its levels hand on."""
    width = _shape(state, "init_conv.weight")[0]
    outputs = [_shape(state, f"{part}.{level}.3.weight")[0] for level in range(_count(state, f"{part}."))]
    return {"width": width, "multipliers": tuple(max(1, out // width) for out in outputs)}


def _named(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise ValueError(f"no tensor {name}, which such a network has")
    return state[name]


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Of a weight; ValueError for one that is none."""
    shape = tuple(_named(state, name).shape)
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"tensor {name} has shape {shape}: need the weight of a layer")
    return shape


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many parts are listed under a prefix."""
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def _filled(kind: type[nn.Module], arguments: dict[str, Any], state: Mapping[str, Tensor]) -> Any:
    """The network with these tensors, in float32."""
    try:
        with torch.device("meta"):
            made = kind(**arguments)
    except (RuntimeError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"no network of such tensors can be: {' '.join(str(error).split())}") from None
    expected = made.state_dict()
    for name, value in expected.items():
        if _named(state, name).shape != value.shape:
            raise ValueError(f"{name} has shape {tuple(state[name].shape)}, but the network's is {tuple(value.shape)}")
    if surplus := next((name for name in state if name not in expected), None):
        raise ValueError(f"tensor {surplus} {tuple(state[surplus].shape)} has no place in the network")
    made.load_state_dict({name: state[name].float() for name in expected}, assign=True)
    return made
