"""Every example runs, reduced by UNDRIFT_QUICK, and leaves what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from undrift import VP, Denoiser, Pixels, prediction, save
from undrift.networks import UNet

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


def test_sampling_does_the_work_of_diffusers(tmp_path):
    """Equal results, and time outside the network of the same size; a busy machine hides what whole calls differ by."""
    pytest.importorskip("diffusers", reason="diffusers is not installed: nothing to compare with")
    out = run("benchmarks/sampling.py", "--batch", "1", "--steps", "5", "--repeats", "5", cwd=tmp_path)
    ratios = [line.split()[-3:] for line in out.splitlines() if line.startswith("undrift / diffusers")]
    assert len(ratios) == 2
    assert all(float(loop) < 2 for _, _, loop in ratios), out
    assert float(out.split("differ by")[1].split()[0]) < 1e-4  # that of DDIM is ours


def test_divergence_estimators_agree(tmp_path):
    """4 x 4 pixels, random weights: both kinds of probes are within their claimed errors of the exact divergence."""
    torch.manual_seed(0)
    network = UNet((16,), (1,), in_channels=1, cond_channels=0, fold=1, context=0)
    with torch.no_grad():
        network.leave.weight.mul_(10)  # from nearly linear to a Jacobian that is far from diagonal
    save(tmp_path / "tiny", Denoiser(network, VP(), prediction.velocity(1.0)), Pixels())
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4), np.uint8)
    labels = np.zeros(8, np.int64)
    np.savez(tmp_path / "tiny.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    out = run("examples/divergence.py", "tiny.npz", "--model", "tiny", "--images", "8", "--probes", "16", cwd=tmp_path)
    lines = {line.split()[0]: line.split()[4:] for line in out.splitlines()[2:]}
    errors = {name: float(line[0]) for name, line in lines.items()}
    assert errors["exact"] == 0 < errors["rademacher"] < errors["gaussian"]
    for name in ("rademacher", "gaussian"):
        _, _, mean, by_image, *_ = lines[name]
        assert abs(float(mean)) < 3, out
        assert 0.4 < float(by_image) < 2, out


def test_scott_ablation(tmp_path):
    out = run("examples/scott_ablation.py", "out", "--quick", cwd=tmp_path)
    assert "ER-SDE-5, 0.4" in out
    assert all((tmp_path / "out" / f"ablation.{end}").is_file() for end in ("md", "svg"))
