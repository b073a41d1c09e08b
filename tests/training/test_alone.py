"""One run in a folder at a time."""

import subprocess
import sys

import pytest

from undrift.training import alone as module
from undrift.training.alone import NAME, alone

HOLDER = """
import sys
from pathlib import Path
from undrift.training.alone import alone
with alone(Path("run")):
    print("ready", flush=True)
    sys.stdin.read()
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("killed", [True, False])
def test_another_process_is_named_and_the_lock_goes_with_it(tmp_path, monkeypatch, killed):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], cwd=tmp_path, **pipes)
    assert holder.stdout.readline() == b"ready\n"
    said = f"run: process {holder.pid} on .* trains there: end it, or give another --out$"
    with pytest.raises(OSError, match=said), alone(tmp_path / "run"):
        pytest.fail("two in one folder")
    if killed:
        holder.kill()
    holder.communicate(timeout=60)
    assert (tmp_path / "run" / NAME).exists() == (tmp_path / "run").exists() == killed
    with alone(tmp_path / "run"):
        assert (tmp_path / "run" / NAME).is_file()
    assert (tmp_path / "run").exists() == killed  # who made it removes it


def test_a_folder_that_holds_something_stays(tmp_path):
    with alone(tmp_path / "run"):
        (tmp_path / "run" / "log.jsonl").touch()
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["log.jsonl"]


def test_where_no_folder_can_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    said = r"^cannot write to the folder .*file/run: Not a directory$"
    with pytest.raises(OSError, match=said), alone(tmp_path / "file" / "run"):
        pytest.fail("a folder below a file")
