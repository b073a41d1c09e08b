"""A model, a recipe or a process in words and numbers; `find` tells which of them a name means."""

import inspect
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from .. import __version__, generation, registry, restoration
from ..degradations import TASKS
from ..preset import Preset, leaps_usually
from ..process import Process
from ..training import checkpoint, recipe
from ..training.nodes import Lesson, lesson
from .explain_recipe import explain_recipe
from .recipes import find_recipe, known_recipes
from .text import described, rows, table, times_of

__all__ = ["Subject", "explain", "find", "installation", "presets_of", "process_of", "usual"]


@dataclass(frozen=True)
class Subject:
    """What somebody asks about: exactly one of these.

    Arguments:
        model: a folder or bundled name, that loads.
        recipe: a TOML file.
        process: a name of the registry.
    """

    model: str = ""
    recipe: Path | None = None
    process: str = ""


def find(what: str) -> Subject:
    """A model, the model of a run, a recipe or a process; else ValueError or FileNotFoundError, in one line."""
    path = Path(what)
    if path.is_dir():
        run = path / "model"
        return Subject(model=str(run if run.is_dir() and not (path / checkpoint.MODEL).is_file() else path))
    if what in checkpoint.bundled():
        return Subject(model=what)
    if path.suffix.lower() == ".toml" or what in known_recipes():
        return Subject(recipe=find_recipe(what))
    if what in registry.CLASSES["process"]:
        return Subject(process=what)
    if path.is_file():
        checkpoint.read_card(path)  # says why it is no model
    names = [*checkpoint.bundled(), *known_recipes(), *registry.CLASSES["process"]]
    registry.check_keys([what], dict.fromkeys(names), "model, recipe or process")
    raise AssertionError


def process_of(subject: Subject) -> Process:
    made: Process
    if subject.recipe is not None:
        tables = recipe.override(recipe.read(subject.recipe))
        made = registry.build("process", (_teacher(tables) or tables)["process"])
    elif subject.process:
        made = registry.build("process", {"name": subject.process})
    else:
        made = registry.build("process", checkpoint.read_card(subject.model)["process"])
    return made


def presets_of(subject: Subject) -> dict[str, Preset]:
    """Those for restoring where the state is a residual, else those for generating; as a student makes them."""
    learnt = _lesson(subject)
    return {name: preset.of(learnt) for name, preset in _presets(subject).items()}


def _presets(subject: Subject) -> dict[str, Preset]:
    if subject.process:
        return restoration.PRESETS if subject.process == "mean_reverting" else generation.PRESETS
    if subject.recipe is not None:
        tables = recipe.override(recipe.read(subject.recipe))
        card = _teacher(tables) or tables
    else:
        card = checkpoint.read_card(subject.model)
    if not checkpoint.observes(card["space"]):
        return generation.PRESETS
    return restoration.presets(
        registry.build("process", card["process"]), registry.build("prediction", card["prediction"])
    )


def _teacher(tables: Mapping[str, Any]) -> dict[str, Any] | None:
    """The card of the model that a recipe distils; None for one that distils nothing."""
    return checkpoint.read_card(tables["method"]["teacher"]) if recipe.method(tables) == "scott" else None


def usual(subject: Subject) -> tuple[str, int]:
    """Solver and evaluations of the run to show where none are asked for."""
    learnt = _lesson(subject)
    return leaps_usually(learnt.taught, learnt.edges) if learnt.taught else restoration.USUAL


def _lesson(subject: Subject) -> Lesson:
    """What a student was taught; nothing for what is none."""
    if subject.recipe is not None:
        tables = recipe.override(recipe.read(subject.recipe))
        method = tables["method"] if recipe.method(tables) == "scott" else None
    else:
        method = checkpoint.method_of(checkpoint.read_card(subject.model)) if subject.model else None
    return lesson(process_of(subject), method)


def explain(subject: Subject) -> str:
    if subject.recipe is not None:
        return explain_recipe(subject.recipe)
    return _process(subject.process) if subject.process else _model(subject.model)


def installation() -> str:
    """Versions, devices, and the names that the other commands understand."""
    devices = ["cpu", *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count()))]
    facts = {
        "undrift": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "devices": ", ".join(devices),
        "threads": str(torch.get_num_threads()),
        "models": ", ".join(checkpoint.bundled()) or "none bundled",
        "recipes": ", ".join(known_recipes()) or "none here",
        "processes": ", ".join(registry.CLASSES["process"]),
        "tasks": ", ".join(TASKS),
    }
    parts = [rows(facts)]
    for task, presets in (("restore", restoration.PRESETS), ("generate", generation.PRESETS)):
        parts += [f"solvers to {task}", rows({f"  {name}": preset.about for name, preset in presets.items()})]
    return "\n".join(parts)


def _process(name: str) -> str:
    """Its equations, and the path at a few times, with default arguments."""
    about = inspect.getdoc(registry.CLASSES["process"][name]) or ""
    try:
        made: Process = registry.build("process", {"name": name})
    except ValueError:  # it has arguments without defaults
        return f"{name}\n\n{about}"
    times = torch.linspace(made.t_max, made.t_min, 9, dtype=torch.float64)
    alpha, sigma = made.alpha_sigma(times)
    columns = (times, alpha, sigma, alpha.log() - sigma.log())
    body = [[f"{x:.6g}" for x in row] for row in zip(*(column.tolist() for column in columns), strict=True)]
    path = table(["t", "alpha", "sigma", "lambda"], body)
    return f"{name}\n\n{about}\n\nWith {described(registry.describe(made))}:\n\n{path}"


def _model(name: str) -> str:
    card = checkpoint.read_card(name)
    made, _ = checkpoint.load_classifier(name) if card["kind"] == "classifier" else checkpoint.load(name)
    folder = checkpoint.find(name)
    weights = folder / checkpoint.WEIGHTS
    with safe_open(weights, "pt") as file:
        kinds = sorted({str(file.get_slice(key).get_dtype()) for key in file.keys()})  # noqa: SIM118
    facts: dict[str, str] = {
        "model": str(folder),
        "kind": card["kind"],
        "network": described(card["network"]),
        "parameters": f"{sum(p.numel() for p in made.parameters()):,}",
        "weights": f"{weights.stat().st_size / 2**20:.1f} MiB, {' '.join(kinds)}",
        **({"on top of": card["base"]["model"]} if "base" in card else {}),
        "process": described(card["process"]),
        "times": times_of(made.process),
        **{part: described(card[part]) for part in ("prediction", "space", "label") if part in card},
        "scale": json.dumps(card["scale"]),
    }
    if (student := checkpoint.method_of(card)) is not None:
        facts |= _student(student, card)
    training = card["training"] if isinstance(card["training"], dict) else {}
    if isinstance(names := training.get("classes"), list) and names:
        facts["classes"] = ", ".join(json.dumps(name)[1:-1] for name in names)
    shown = {key: value for key, value in training.items() if key != "recipe" and not isinstance(value, dict | list)}
    facts |= {f"trained: {json.dumps(key)[1:-1]}": json.dumps(value) for key, value in shown.items()}
    return rows(facts)


def _student(method: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, str]:
    """Whose student it is, how it was taught, and how it samples."""
    learnt = lesson(registry.build("process", card["process"]), method)
    solver, steps = leaps_usually(learnt.taught, learnt.edges)
    samples = f"{steps} evaluation{'s' * (steps > 1)} with {solver}"
    critic = card["training"]["recipe"].get("critic")
    made = {key: value for key, value in method.items() if key not in ("name", "teacher")}
    command = "restore" if checkpoint.observes(card["space"]) else "sample"
    return {
        "student of": json.dumps(method.get("teacher"))[1:-1],
        "distilled": described({"name": "scott", **made}),
        "critic": "none" if critic is None else described({"name": "heads on the teacher", **critic}),
        "samples in": f"{samples}; undrift {command} --steps says otherwise",
    }
