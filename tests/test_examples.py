"""Every example runs, reduced by UNDRIFT_QUICK, and leaves what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PHOTOGRAPHS = sorted((ROOT / "undrift" / "photographs").glob("*.[jp][pn]g"))


def run(script: str, *arguments: str, cwd: Path) -> str:
    environment = os.environ | {"UNDRIFT_QUICK": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_new_process(tmp_path):
    assert "a network trained on it" in run("examples/new_process.py", cwd=tmp_path)


def test_convergence(tmp_path):
    out = run("examples/convergence.py", "orders.png", cwd=tmp_path)
    orders = {line.split("  ")[0]: float(line.split()[-1]) for line in out.splitlines() if line.startswith("order")}
    assert orders["order 2"] == pytest.approx(2, abs=0.3)
    assert orders["order 2, corrector"] == pytest.approx(3, abs=0.5)
    assert (tmp_path / "orders.png").is_file()


def test_restore_photograph(tmp_path):
    out = run("examples/restore_photograph.py", str(PHOTOGRAPHS[0]), "noisy", cwd=tmp_path)
    assert "mean of 8 samples" in out
    assert len(list(tmp_path.glob("*.restored.png"))) == 1


def test_loop_costs_a_quarter_of_diffusers_at_most(tmp_path):
    pytest.importorskip("diffusers", reason="diffusers is not installed: nothing to compare with")
    out = run("benchmarks/loop.py", cwd=tmp_path)
    line = next(line for line in out.splitlines() if line.startswith("undrift, planned"))
    assert float(line.split()[-3]) <= 0.25, out


def test_identifiability(tmp_path):
    """Two networks that learnt the same data give nearly the same codes; the quick run is too short to say more."""
    out = run("examples/identifiability.py", cwd=tmp_path)
    line = next(line for line in out.splitlines() if "exact score" in line)
    assert float(line.split("mean")[1].split(",")[0]) > 0.9
