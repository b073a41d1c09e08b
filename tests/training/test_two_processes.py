"""A distillation with a critic on two processes: killed, and gone on with, as if nothing had been."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch

import undrift
from undrift.networks import UNet
from undrift.training.checkpoint import load

STEPS = 60


@pytest.fixture
def world(tmp_path):
    torch.manual_seed(0)
    network = UNet((8, 8), (1, 1), in_channels=1, cond_channels=0, classes=2, embedding=8)
    denoiser = undrift.Denoiser(network, undrift.VP(), undrift.prediction.velocity(0.5), scale=0.5)
    facts = {"shape": [1, 8, 8], "classes": ["cat", "dog"]}
    undrift.save(tmp_path / "teacher", denoiser, undrift.Pixels(), facts)
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    return tmp_path


def start(folder, out):
    """`undrift distill` on two processes."""
    settings = [f"training.steps={STEPS}", "training.save_every=10", "training.log_every=1", "training.keep=2",
                "training.weights=float32", "preview.every=0", "data.batch=4"]  # fmt: skip
    command = ["undrift.cli.main", "distill", "teacher", "--preset", "scott", "--data", "data.npz", "-o", out]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    return subprocess.Popen(
        [*launcher, *command, *settings], cwd=folder, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def steps(folder):
    file = folder / "log.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.is_file() else []


def ended(process):
    text = process.communicate(timeout=200)[0].decode()
    assert process.returncode == 0, text


def test_killed_on_two_processes_it_goes_on_bit_for_bit(world):
    ended(start(world, "whole"))
    killed = start(world, "torn")
    end = time.monotonic() + 120
    while max(steps(world / "torn"), default=0) < STEPS // 3 and killed.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    launcher = psutil.Process(killed.pid)
    for process in [launcher, *launcher.children(recursive=True)]:  # torchrun's workers have sessions of their own
        process.kill()
    killed.communicate()
    reached = max(steps(world / "torn"))
    assert STEPS // 3 <= reached < STEPS, f"killed at step {reached}"
    ended(start(world, "torn"))
    assert sorted(set(steps(world / "torn"))) == list(range(1, STEPS + 1))
    whole, torn = (load(world / name / "model")[0].network.state_dict() for name in ("whole", "torn"))
    assert all(torch.equal(whole[key], torn[key]) for key in whole)
