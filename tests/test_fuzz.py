"""A few hundred of the cases of benchmarks/fuzz.py, and descriptions and bytes of hypothesis's own."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PATH = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
few = settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench(fuzz, tmp_path_factory):
    return fuzz.Bench(tmp_path_factory.mktemp("fuzz"))


def test_three_hundred_damaged_files(bench):
    wrong = [f"case {number}: {trouble}" for number in range(300) if (trouble := bench.run(1, number)[1])]
    assert not wrong


def test_the_watch_sees(fuzz, tmp_path):
    """What it must not let pass."""
    assert fuzz.verdict(1, ["undrift: KeyError: 3"])
    assert fuzz.verdict(2, [])
    assert fuzz.verdict(0, ["undrift: what"])
    assert fuzz.verdict(2, ["Traceback (most recent call last):"])
    assert not fuzz.verdict(2, ["undrift: a.png: an empty file"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".a.png.3.part").write_bytes(b"")
    (tmp_path / "out" / "a.png").write_bytes(b"\x89PNG")
    assert len(list(fuzz.unwhole(tmp_path))) == 2


@few
@given(data=st.data())
def test_any_value_in_a_description(fuzz, bench, data):
    home = bench.root / "hypothesis"
    shutil.copytree(bench.root / "model", home, dirs_exist_ok=True)
    card = json.loads((home / "model.json").read_text())
    part = data.draw(st.sampled_from(sorted(card)))
    if isinstance(card[part], dict) and card[part] and data.draw(st.booleans()):
        card[part][data.draw(st.sampled_from(sorted(card[part])))] = data.draw(JSON)
    else:
        card[part] = data.draw(JSON)
    (home / "model.json").write_text(json.dumps(card))
    code, errors = fuzz.called(["info", str(home)])
    assert not fuzz.verdict(code, errors)


@few
@given(data=st.binary(max_size=200), suffix=st.sampled_from(["png", "jpg", "tif", "gif"]))
def test_any_bytes_as_an_image(fuzz, bench, data, suffix):
    heads = {"png": b"\x89PNG\r\n\x1a\n", "jpg": b"\xff\xd8\xff", "tif": b"II*\x00", "gif": b"GIF89a"}
    file = bench.root / f"any.{suffix}"
    file.write_bytes(heads[suffix] + data)
    code, errors = fuzz.called(["degrade", str(file), "--task", "noisy", "-o", str(bench.root / "anyout")])
    assert not fuzz.verdict(code, errors)
