"""A recipe: a TOML file whose tables are constructor calls. There is no configuration class.

    [process]
    name = "mean_reverting"
    lam = 0.2

Settings of the form `process.lam=0.1` replace one value, `process={name="vp"}` a whole table; the value is TOML,
or, where it is not, a plain string.
"""

import inspect
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from ..registry import check_keys, fitted

__all__ = ["METHODS", "REQUIRED", "SECTIONS", "call", "method", "override", "read", "settings"]

REQUIRED = ("data", "optimizer", "training")
_SCRATCH = ("process", "network", "space", "density")
# What is trained, and the sections that it needs besides; a student has the rest of its teacher.
METHODS = {
    "score_matching": (*_SCRATCH, "prediction", "weighting"),
    "classification": _SCRATCH,
    "scott": ("method",),
}
SECTIONS = (
    *METHODS["score_matching"], *REQUIRED, "method", "critic", "critic_optimizer", "denoiser", "label", "schedule",
    "average", "preview",
)  # fmt: skip

T = TypeVar("T")


def read(path: str | Path) -> dict[str, Any]:
    """The tables of a recipe file; ValueError, in one line, for what is not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no recipe {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a recipe in TOML ({error})") from None


def override(recipe: Mapping[str, Any], settings: Sequence[str] = ()) -> dict[str, Any]:
    """A copy of the recipe with `section.key=value` settings applied; ValueError unless all sections are known."""
    changed = deepcopy(dict(recipe))
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"setting {setting!r}: need key=value, e.g. training.steps=1000")
        *parents, last = path.strip().split(".")
        check_keys([*parents, last][:1], SECTIONS, "section")
        table = changed
        for name in parents:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ValueError(f"setting {setting!r}: {name} is a value, not a table")
        table[last] = _value(text)
    check_keys(changed, SECTIONS, "section")
    needed = (*METHODS[method(changed)], *REQUIRED)
    if missing := [name for name in needed if name not in changed]:
        raise ValueError(f"the recipe has no [{missing[0]}]; it needs {', '.join(needed)}")
    return changed


def method(recipe: Mapping[str, Any]) -> str:
    """The name in [method], one of `METHODS`; score matching where there is none."""
    table = recipe.get("method", {"name": "score_matching"})
    if not isinstance(table, Mapping) or "name" not in table:
        raise ValueError(f"[method] {table!r}: need a table with a name, one of {', '.join(METHODS)}")
    check_keys([table["name"]], METHODS, "method name")
    if table["name"] == "classification":
        check_keys(table, ["name"], "key of [method]")
    return str(table["name"])


def settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The table of [method] without its name; empty where there is none."""
    return {key: value for key, value in recipe.get("method", {}).items() if key != "name"}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def call(constructor: type[T], section: str, recipe: Mapping[str, Any]) -> T:
    """The object of a section with only one possible class: `constructor(**recipe[section])`."""
    table = recipe.get(section, {})
    if not isinstance(table, Mapping):
        raise ValueError(f"[{section}] {table!r}: need a table")
    check_keys(table, inspect.signature(constructor).parameters, f"key of [{section}]")
    arguments = fitted(constructor, table, f"{section}.")
    try:
        return constructor(**arguments)
    except TypeError as error:
        raise ValueError(f"[{section}]: {' '.join(str(error).split())}") from None
