"""One recipe on one process and on two: the same weights, to rounding, whatever is sharded or computed twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import undrift
from undrift.networks import UNet
from undrift.training import state
from undrift.training.checkpoint import load
from undrift.training.log import lines
from undrift.training.presets import distilling
from undrift.training.run import train

OPTIMIZER = {"name": "sgd", "lr": 0.02, "momentum": 0.9}  # its steps are as exact as its gradients, unlike Adam's first
NCSNPP = (
    "network={name='ncsnpp', width=8, multipliers=[1, 1], blocks=1, attention=[1], in_channels=1, classes=2, "
    "embedding='positional'}"
)
FLAT = {"warmup": 2, "final": 1.0}  # the same whatever the length of the run
TRAINING = {"steps": 4, "save_every": 2, "log_every": 1, "weights": "float32"}


def generator_(home):
    return {
        "process": {"name": "vp"},
        "prediction": {"name": "velocity", "scale": 0.5},
        "denoiser": {"scale": 0.5},
        "network": {"name": "unet", "channels": [8, 8], "blocks": [1, 2], "in_channels": 1, "cond_channels": 0,
                    "classes": 2, "embedding": 8},
        "space": {"name": "pixels"},
        "density": {"name": "uniform_lambda"},
        "weighting": {"name": "balanced"},
        "data": {"name": "labelled", "path": str(home / "data.npz"), "batch": 6},
        "optimizer": OPTIMIZER,
        "schedule": FLAT,
        "preview": {"every": 0},
        "training": TRAINING,
    }  # fmt: skip


def restorer(home):
    return generator_(home) | {
        "network": {"name": "unet", "channels": [4, 8], "blocks": [1, 1], "embedding": 8},
        "data": {"roots": [str(home / "photographs")], "tasks": ["noisy"], "hold_out_every": 3, "batch": 6, "crop": 16,
                 "crops_per_image": 2, "workers": 0},
        "preview": {"every": 2, "steps": 1, "size": 16},
    }  # fmt: skip


def student(home):
    recipe = distilling(str(home / "teacher"), "scott", home / "data.npz")
    own = {
        "optimizer": OPTIMIZER,
        "critic_optimizer": OPTIMIZER,
        "schedule": FLAT,
        "preview": {"every": 0},
        "training": TRAINING,
    }
    return recipe | own | {"data": recipe["data"] | {"batch": 6}}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    network = UNet((8, 8), (1, 1), in_channels=1, cond_channels=0, classes=2, embedding=8)
    teacher = undrift.Denoiser(network, undrift.VP(), undrift.prediction.velocity(0.5), scale=0.5)
    undrift.save(folder / "teacher", teacher, undrift.Pixels(), {"shape": [1, 8, 8], "classes": ["cat", "dog"]})
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 2
    np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    (folder / "photographs").mkdir()
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((30, 24)).save(folder / "photographs" / f"{i}.png")
    return folder


# What is trained, and with what settings, on two processes; on one, without those that cut or compute twice.
CASES = {
    "generator": (generator_, ["training.accumulate=2", "data.batch=4"]),
    "generator-sharded": (generator_, ["training.shard=true", "training.checkpointing=true", NCSNPP]),
    "restorer-sharded": (restorer, ["training.shard=true"]),
    "student": (student, ["training.accumulate=2", "data.batch=4"]),
    "student-sharded": (student, ["training.shard=true"]),
}


@pytest.fixture(scope="module")
def pair(home):
    """All runs on two processes, in one launch; sharded ones stop half-way and go on."""
    jobs = []
    for name, (what, settings) in CASES.items():
        half = [[what(home), str(home / "two" / name), [*settings, "training.steps=2"]]]
        jobs += (half if "sharded" in name else []) + [[what(home), str(home / "two" / name), settings]]
    (home / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
               str(Path(__file__).with_name("jobs.py")), str(home / "jobs.json")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300,
                          env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "two"


@pytest.mark.parametrize("name", CASES)
def test_two_processes_reach_the_weights_of_one(name, home, pair):
    what, settings = CASES[name]
    alone = home / "one" / name
    train(what(home), alone, [s for s in settings if "shard" not in s and "checkpointing" not in s])
    ours, theirs = (state.latest(folder / "state") for folder in (pair / name, alone))
    assert ours["step"] == theirs["step"] == TRAINING["steps"]
    for part in ("trained", "average", "method", "optimizers"):
        same(ours[part], theirs[part], part)
    exported = load(pair / name / "model")[0].network.state_dict()
    assert all(torch.equal(value, ours["average"][f"network.{key}"]) for key, value in exported.items())
    losses = [lines(folder) for folder in (pair / name, alone)]
    for mine, other in zip(*losses, strict=True):
        assert mine.keys() == other.keys()
        for key in mine.keys() - {"wall", "waiting", "steps_per_second"}:
            assert mine[key] == pytest.approx(other[key], rel=1e-3, abs=1e-4), key


def same(ours, theirs, path):
    """Two state dicts, to rounding."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), path
        for key in theirs:
            same(ours[key], theirs[key], f"{path}/{key}")
    elif torch.is_tensor(theirs):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=lambda text: f"{path}: {text}")
    else:
        assert ours == theirs, path
