"""results.json: numbers with their stamp, everything that they depend on. Numbers of unlike stamps never meet.

{"stamp": {"undrift", "torch", "model", "seed", "protocols", "data": {task: facts}},
 "machine": {...}, "tasks": {task: {setting: {measure: value}}}}

A generator's has one task, "generation", and more in its stamp: see `generation`.
"""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from .. import __version__
from ..training.checkpoint import KINDS, WEIGHTS, find, read_card
from ..training.files import digest, write_json
from .sets import PairSet
from .settings import DEGRADED, Setting

__all__ = ["Results", "compare", "fingerprint", "machine", "stamp", "versions"]

FILE = "results.json"
TABLES = ("data", "samplers")  # of the stamp: they may grow, and are compared where both have an entry


def fingerprint(model: str | os.PathLike[str]) -> dict[str, Any]:
    """What a model is: the sha256 of its weights and the parts that give them a meaning."""
    card = read_card(os.fspath(model))
    parts = (*KINDS[card["kind"]], "scale", *(["base"] if "base" in card else []))
    return {"weights": digest(find(Path(model)) / WEIGHTS)} | {part: card[part] for part in parts}


def machine(device: str, batch: int) -> dict[str, Any]:
    """What the seconds depend on, and nothing else does."""
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "batch": batch,
    }


def stamp(model: dict[str, Any], pairs: PairSet, seed: int, protocols: dict[str, str]) -> dict[str, Any]:
    """What the numbers depend on; `model` is a `fingerprint`."""
    data = {task: pairs.facts(task) for task in pairs.tasks}
    return versions() | {"model": model, "seed": seed, "protocols": protocols, "data": data}


def versions() -> dict[str, str]:
    return {"undrift": __version__, "torch": torch.__version__.partition("+")[0]}


@final
@dataclass
class Results:
    """The numbers found so far, task -> setting -> measure -> value."""

    stamp: dict[str, Any]
    tasks: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Results":
        """From a results.json, or the folder it is in; ValueError for anything else."""
        file = Path(path) / FILE if Path(path).is_dir() else Path(path)
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            return cls(found["stamp"], found["tasks"], found["machine"])
        except FileNotFoundError:
            raise FileNotFoundError(f"no results in {path}: undrift evaluate writes {FILE}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: not results of undrift evaluate ({' '.join(str(error).split())})") from None

    @classmethod
    def resume(cls, folder: Path, stamp: dict[str, Any], machine: dict[str, Any]) -> "Results":
        """What `folder` already holds under this stamp, or nothing yet; ValueError under another."""
        if not (folder / FILE).is_file():
            return cls(stamp, machine=machine)
        known = cls.read(folder)
        if unlike := _unlike(known.stamp, stamp):
            raise ValueError(f"{folder / FILE} was made with another {unlike}: give another -o, or remove it")
        tables = {name: known.stamp[name] | stamp[name] for name in TABLES if name in stamp}
        return cls(stamp | tables, known.tasks, machine)

    def done(self) -> Iterable[tuple[str, str]]:
        return [(task, setting) for task, rows in self.tasks.items() for setting in rows]

    def add(self, task: str, setting: Setting | str, values: dict[str, float]) -> None:
        self.tasks.setdefault(task, {})[str(setting)] = values

    def save(self, folder: Path) -> None:
        """Whole or not at all."""
        write_json(folder / FILE, {"stamp": self.stamp, "machine": self.machine, "tasks": self.tasks})

    def mean(self, tasks: Sequence[str], setting: str) -> dict[str, float]:
        """Over the tasks, each counting the same."""
        rows = [self.tasks[task][setting] for task in tasks]
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def compare(a: Results, b: Results) -> list[tuple[str, str, dict[str, tuple[float, float]]]]:
    """(task or "mean", setting, {measure: (in a, in b)}) for all that both restored; the models may differ.

    Raises ValueError unless everything else that the numbers depend on is the same.
    """
    if unlike := _unlike(a.stamp | {"model": None}, b.stamp | {"model": None}):
        raise ValueError(f"cannot compare: made with another {unlike}")
    tasks = [task for task in a.tasks if task in b.tasks]
    named = [s for s in dict.fromkeys(s for t in tasks for s in a.tasks[t]) if s != str(DEGRADED)]
    settings = [s for s in named if all(_both(a, b, t, s) for t in tasks)]
    if not settings:
        raise ValueError("cannot compare: no setting was measured in both on the tasks that both have")
    found = []
    for setting in settings:
        rows = [(task, a.tasks[task][setting], b.tasks[task][setting]) for task in tasks]
        for name, ours, theirs in [*rows, ("mean", a.mean(tasks, setting), b.mean(tasks, setting))]:
            found.append((name, setting, {key: (ours[key], theirs[key]) for key in ours}))
    return found


def _both(a: Results, b: Results, task: str, setting: str) -> bool:
    return setting in a.tasks[task] and setting in b.tasks[task]


def _unlike(a: Any, b: Any, path: str = "") -> str:
    """The first entry, as `data.noisy.size: 192, not 256`, in which two stamps differ.

    What one lacks of TABLES is no difference.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [key for key in a if key in b] if path in TABLES else list(dict.fromkeys([*a, *b]))
        differences = (_unlike(a.get(key), b.get(key), f"{path}.{key}".lstrip(".")) for key in keys)
        return next((each for each in differences if each), "")
    return "" if a == b else f"{path} ({_short(a)}, not {_short(b)})"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
