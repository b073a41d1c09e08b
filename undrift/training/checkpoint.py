"""A trained model on disk: a folder that describes itself and executes nothing.

    <folder>/weights.safetensors   the network's tensors, float16 or float32; `space.<name>`: a latent space's; or
                                   what tells them from those of the base in model.json, see `difference`
    <folder>/model.json            kind, process, prediction, network, space, label, scale; facts of the training
    <folder>/README.md             the model card
    <folder>/clip.safetensors      the image towers of a DA-CLIP model, where it was converted with them

`load` calls registered constructors only, and opens no pickle. Files are replaced one by one, each atomically,
so a model may be read while its training overwrites it.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..classify import NoisyClassifier
from ..denoiser import Denoiser
from ..interop.daclip import Eyes
from ..registry import build, check_keys, describe
from ..space import Space
from .difference import Stored, compared, factored, opened
from .files import digest, replacing, write_json, write_text
from .nodes import instructed

__all__ = ["bundled", "find", "load", "load_classifier", "method_of", "observes", "read_card", "save", "student_of"]

Model = TypeVar("Model", Denoiser, NoisyClassifier)

FORMAT = 1
# The parts of a model, by its kind: each a table of the registry.
KINDS = {
    "denoiser": ("process", "prediction", "network", "space", "label"),
    "classifier": ("process", "network", "space", "label"),
}
WEIGHTS, MODEL, README = "weights.safetensors", "model.json", "README.md"
CLIP = "clip.safetensors"
OF_SPACE = "space."
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".tar"}


def save(
    path: str | Path,
    denoiser: Denoiser | NoisyClassifier,
    space: Space,
    card: Mapping[str, Any] | str | None = None,
    dtype: torch.dtype = torch.float32,
    weights: Mapping[str, Tensor] | None = None,
    base: str | Path | None = None,
    rank: int = 16,
) -> None:
    """Write the model to the folder `path`.

    Arguments:
        card: facts of the training (JSON values), kept under "training" in model.json; or the text of README.md.
        dtype: of the weights on disk, float16 or float32.
        weights: state dict of the network, where it does not hold its own whole.
        base: a model of the same network or of a part of it, folder or bundled name, from which only the difference is
            stored.
        rank: of that difference, of each matrix; 1 or more.

    Raises ValueError for weights that are not finite, or too large for float16, and for a base that has weights which
    the model has not; OSError where it cannot write.
    """
    if dtype not in (torch.float16, torch.float32):
        raise ValueError(f"weights as {dtype}: choose torch.float16 or torch.float32")
    folder = Path(path)
    facts = dict(card) if isinstance(card, Mapping) else {}
    kind = "denoiser" if isinstance(denoiser, Denoiser) else "classifier"
    parts = {part: describe(space if part == "space" else getattr(denoiser, part)) for part in KINDS[kind]}
    model = {"format": FORMAT, "kind": kind, **parts, "scale": denoiser.scale, "training": facts}
    own = _state(weights or denoiser.network.state_dict(), space)
    if base is not None:
        own, model["base"] = _difference(own, base, rank, folder)
    tensors = {name: _stored(name, value, dtype) for name, value in own.items()}
    with replacing(folder / WEIGHTS) as part:
        try:
            save_file(tensors, part)
        except SafetensorError as error:  # how it tells of a full disk
            raise OSError(str(error)) from None
    write_json(folder / MODEL, model)
    write_text(folder / README, card if isinstance(card, str) else _readme(folder.name, model, tensors))


def _difference(
    state: Mapping[str, Tensor], base: str | Path, rank: int, folder: Path
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What to store of a state dict, in `folder`, on top of the model `base`, and its entry in model.json."""
    under = find(base)
    if folder.resolve() in _line(under):
        raise ValueError(f"{folder}: {base} is it, or stored as a difference from it: name another folder")
    name = str(base) if under != Path(base) else os.path.relpath(under.resolve(), folder.resolve())
    with _weights(under, read_card(under)) as tensors:
        return factored(state, tensors, rank), {"model": name, "sha256": digest(under / WEIGHTS)}


def _line(folder: Path) -> list[Path]:
    """A model's folder and those of its base, of that one's base, and so on."""
    found = [folder.resolve()]
    while (card := read_card(found[-1])).get("base"):
        under = _under(found[-1], card)
        if under in found:
            raise ValueError(f"{folder}: stored as its difference from itself, by way of its base")
        found.append(under)
    return found


def _under(folder: Path, card: Mapping[str, Any]) -> Path:
    """The folder of the base that the card of a model in `folder` names: a bundled one, or by its path from there."""
    name = card["base"]["model"]
    under = (_bundled(name) if name in bundled() else folder / name).resolve()
    if not (under / WEIGHTS).is_file():
        raise FileNotFoundError(f"{folder}: stored as its difference from {name}, and there is no {under / WEIGHTS}")
    return under


def _state(network: Mapping[str, Tensor], space: Space) -> dict[str, Tensor]:
    """The tensors of a network and those of the one that a latent space has."""
    inner: Any = getattr(space, "autoencoder", None)
    more = {} if inner is None else inner.state_dict()
    return {**network, **{OF_SPACE + name: value for name, value in more.items()}}


def observes(space: Mapping[str, Any]) -> bool:
    """Whether the states of a space, as a table of the registry, need an observation."""
    inner = space.get("space")
    return space.get("name") in ("residual", "noisy") or (isinstance(inner, Mapping) and observes(inner))


def _stored(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    kind = dtype if value.is_floating_point() else value.dtype
    stored = value.detach().to("cpu", kind, copy=True, memory_format=torch.contiguous_format)
    if not torch.isfinite(stored).all():
        raise ValueError(f"weight {name} is not finite as {kind}: save as float32, or look at the training")
    return stored


def _readme(name: str, model: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    count = sum(t.numel() for t in tensors.values())
    rows = {"weights": f"{count:,} numbers, {size / 2**20:.1f} MiB"}
    rows |= {part: json.dumps(model[part]) for part in (*KINDS[model["kind"]], "scale")}
    rows |= {key: json.dumps(value) for key, value in model["training"].items()}
    table = "\n".join(f"| {key} | `{value}` |" for key, value in rows.items())
    what = {"denoiser": "diffusion model", "classifier": "classifier of noisy images"}[model["kind"]]
    return f"# {name}\n\nA {what} of undrift.\n\n| | |\n|---|---|\n{table}\n"


def bundled() -> list[str]:
    """The names of the models that come with the package."""
    folder = resources.files("undrift") / "models"
    return sorted(f.name for f in folder.iterdir() if (f / MODEL).is_file()) if folder.is_dir() else []


def load(path: str | Path) -> tuple[Denoiser, Space]:
    """The denoiser (float32, on the CPU, in evaluation mode) and its space, from a folder or a bundled name.

    Raises FileNotFoundError or ValueError, in one line, for what is missing, damaged or does not fit.
    """
    return _opened(path, "denoiser", Denoiser)


def load_classifier(path: str | Path) -> tuple[NoisyClassifier, Space]:
    """The classifier of a folder or bundled name, as `load` gives a denoiser."""
    return _opened(path, "classifier", NoisyClassifier)


def _opened(path: str | Path, kind: str, make: Callable[..., Model]) -> tuple[Model, Space]:
    card = read_card(folder := find(path))
    if card["kind"] != kind:
        raise ValueError(f"{folder}: a {card['kind']}, where a {kind} is needed")
    with _weights(folder, card) as weights:
        try:
            # On the meta device first: a file that lies about sizes is found out before any memory is taken.
            with torch.device("meta"):
                bare = _state(build("network", card["network"]).state_dict(), build("space", card["space"]))
            compared(bare, weights.shapes, WEIGHTS, MODEL)
            # Initial values are about to be overwritten: the caller's random numbers should not move for them.
            with torch.random.fork_rng(devices=[]):
                parts = {part: build(part, card[part]) for part in KINDS[kind]}
            space: Space = parts.pop("space")
            model = make(**parts, scale=card["scale"])
            if isinstance(model, Denoiser):
                instructed(model, method_of(card))
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from None
        for name, place in _state(model.network.state_dict(), space).items():
            place.copy_(weights[name])
    if (autoencoder := getattr(space, "autoencoder", None)) is not None:
        autoencoder.requires_grad_(False).eval()
    if isinstance(model, Denoiser):
        model.see = Eyes(folder / CLIP) if (folder / CLIP).is_file() else None
        model.tasks = tuple(card["training"].get("tasks") or ())
    return model.requires_grad_(False).eval(), space


def method_of(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """The [method] that a student was distilled by, of what `read_card` gave; None for a model that is none."""
    table = card["training"]
    for key in ("recipe", "method"):
        table = table.get(key) if isinstance(table, dict) else None
    return table if isinstance(table, dict) and table.get("name") == "scott" else None


def student_of(model: str | Path) -> str | None:
    """The bundled student that was distilled from a bundled model; None where there is none."""
    if Path(model).is_dir():  # somebody's own, whatever its name
        return None
    taught = {name: method_of(read_card(name)) for name in bundled()}
    return next((name for name, method in taught.items() if method and method.get("teacher") == str(model)), None)


def read_card(path: str | Path) -> dict[str, Any]:
    """model.json of a folder or bundled name, checked to be complete; no weights are read."""
    file = find(path) / MODEL
    try:
        model = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        other = "a pipeline of diffusers, which undrift sample, distill and evaluate read, not this"
        known = (file.parent / "model_index.json").is_file()
        raise FileNotFoundError(f"{file.parent}: {other if known else f'no {MODEL} there: not a checkpoint of undrift'}"
                                ) from None  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: damaged ({error})") from None
    if not isinstance(model, dict) or model.get("format") != FORMAT:
        found = model.get("format") if isinstance(model, dict) else model
        raise ValueError(f"{file}: format {found!r}, but this undrift reads format {FORMAT}")
    model = {"kind": "denoiser"} | model  # format 1 began without classifiers
    check_keys([model["kind"]], KINDS, f"kind in {file}")
    entries = (*KINDS[model["kind"]], "scale", "training")
    for entry in entries:
        if entry not in model:
            raise ValueError(f"{file}: no entry {entry!r}")
    if not isinstance(model["scale"], int | float | None):
        raise ValueError(f"{file}: scale = {model['scale']!r}: need a number or null")
    if not isinstance(model["training"], dict):
        raise ValueError(f"{file}: training is {type(model['training']).__name__}: need a table of facts")
    check_keys(model, ("format", "kind", *entries, "base"), f"entry in {file}")
    base = model.get("base", {"model": "", "sha256": ""})
    if (
        not isinstance(base, dict)
        or base.keys() != {"model", "sha256"}
        or not all(isinstance(v, str) and v.isprintable() for v in base.values())
    ):
        raise ValueError(f"{file}: base is {base!r}: need a table of model and sha256")
    return model


def _bundled(name: str) -> Path:
    return Path(str(resources.files("undrift") / "models" / name))


def find(path: str | Path) -> Path:
    """The folder of a checkpoint: itself, or that of a bundled name; FileNotFoundError or ValueError in one line."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.suffix.lower() in PICKLES:
        raise ValueError(
            f"{path}: not opened, for such files can run code when they are loaded: "
            f"give a folder with {WEIGHTS} and {MODEL}"
        )
    if folder.is_file():
        raise ValueError(f"{path}: a checkpoint is a folder with {WEIGHTS} and {MODEL}, this is a file")
    if str(path) in bundled():
        return _bundled(str(path))
    names = ", ".join(bundled()) or "none"
    raise FileNotFoundError(f"no model {str(path)!r}: neither a folder nor bundled (bundled: {names})")


@contextmanager
def _weights(folder: Path, card: Mapping[str, Any]) -> Iterator[Stored]:
    """The tensors of a model, on top of those of its base where it has one, which may have another."""
    file = folder / WEIGHTS
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: no {WEIGHTS} there")
    with ExitStack() as stack:
        base = None
        if "base" in card:
            under = _line(folder)[1]
            if digest(under / WEIGHTS) != card["base"]["sha256"]:
                raise ValueError(
                    f"{folder}: stored as its difference from another {card['base']['model']} than the one that is "
                    f"here: it needs the {WEIGHTS} of SHA-256 {card['base']['sha256'][:12]}..."
                )
            base = stack.enter_context(_weights(under, read_card(under)))
        try:
            yield stack.enter_context(opened(file, base))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: damaged or truncated ({error})") from None
