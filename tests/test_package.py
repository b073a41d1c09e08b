"""The public names: all there, one way to spell each, and nothing imported before it is used."""

import subprocess
import sys

import pytest

import undrift


def fresh(code: str) -> str:
    """The output of a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"torch", "numpy", "PIL", "accelerate", "safetensors", "diffusers"}
    loaded = fresh("import sys, undrift; print(*sys.modules)").split()
    assert not heavy & set(loaded)
    assert [name for name in loaded if name.startswith("undrift")] == ["undrift"]


@pytest.mark.parametrize("name", undrift.__all__)
def test_every_public_name_is_there(name):
    assert getattr(undrift, name) is not None


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(AttributeError, match="has no attribute 'Exponentiel'; it has EDM, VE, VP"):
        _ = undrift.Exponentiel


def test_sample_is_the_function_whoever_came_first():
    """And sampling needs no room of the house but its own."""
    code = """
import sys, undrift
from undrift.sample import trajectory
assert callable(undrift.sample) and undrift.trajectory is trajectory
import undrift.sample
from undrift import sample, VP, Exponential
assert undrift.sample is sample and callable(sample)
print(*{name.split(".")[1] for name in sys.modules if name.startswith("undrift.")})
"""
    rooms = set(fresh(code).split())
    assert rooms == {"denoiser", "draws", "noise", "prediction", "process", "sample", "solvers", "space", "tensor"}
