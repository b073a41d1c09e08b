"""Tensors recorded from official code, in $UNDRIFT_SHARED/golden, or ../shared/golden beside the checkout."""

import json
import os
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SHARED = Path(os.environ.get("UNDRIFT_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def cases(folder: str, *prefixes: str, without: tuple[str, ...] = ()) -> list:
    """Parameters for the cases of `folder` whose names start with a prefix (all, if none is given).

    One skipped parameter where there are none, so that a run without the recordings says so.
    """
    names = sorted(path.stem for path in (SHARED / "golden" / folder).glob("*.json"))
    found = [n for n in names if n.startswith(prefixes or ("",)) and not any(part in n for part in without)]
    reason = f"no recorded case {folder}/{' '.join(prefixes)} below {SHARED / 'golden'}: set UNDRIFT_SHARED"
    return found or [pytest.param("", marks=pytest.mark.skip(reason=reason))]


@cache
def load(folder: str, case: str) -> tuple[dict, dict]:
    """(tensors, JSON) of a case."""
    base = SHARED / "golden" / folder / case
    return load_file(f"{base}.safetensors"), json.loads(Path(f"{base}.json").read_text())


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference relative to the largest entry; infinite where the shapes differ."""
    if found.shape != wanted.shape:
        return float("inf")
    found, wanted = found.double(), wanted.double()
    return float((found - wanted).abs().max() / wanted.abs().max())
