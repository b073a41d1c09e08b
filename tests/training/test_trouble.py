"""What ends a run from outside: one line that names the last good state, and nothing lost."""

import errno
import math
import re

import numpy as np
import pytest
import torch

from undrift.methods import ScoreMatching
from undrift.training import checkpoint, log, run, state
from undrift.training.run import train


@pytest.fixture
def recipe(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 2
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images[:4], y_test=labels[:4])
    return {
        "process": {"name": "vp"},
        "prediction": {"name": "velocity", "scale": 0.5},
        "network": {"name": "unet", "channels": [4], "blocks": [1], "in_channels": 1, "cond_channels": 0, "classes": 2,
                    "embedding": 4, "context": 0},
        "space": {"name": "pixels"},
        "density": {"name": "uniform_lambda"},
        "weighting": {"name": "balanced"},
        "data": {"name": "labelled", "path": str(tmp_path / "data.npz"), "batch": 4},
        "optimizer": {"name": "sgd", "lr": 0.01},
        "schedule": {"warmup": 0, "final": 1.0},
        "preview": {"every": 0},
        "training": {"steps": 6, "save_every": 2, "log_every": 1, "weights": "float32", "keep": 3},
    }  # fmt: skip


def after(step, error):
    """A replacement of `summary`, called once a step, that fails at one of them."""
    whole, count = run._summary, [0]

    def failing(window):
        count[0] += 1
        if count[0] == step:
            raise error
        return whole(window)

    return failing


FAILURES = {
    "memory": (torch.OutOfMemoryError("Tried to allocate 20 GiB"), MemoryError, "out of memory after step 5: "),
    "cpu": (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"), MemoryError, "out of memory after step"),
    "worker": (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), OSError, "a process that loads"),
    "vanished": (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), OSError, "a.png: No such"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_the_machine_fails_and_the_run_goes_on_later(recipe, tmp_path, monkeypatch, name):
    error, kind, words = FAILURES[name]
    with monkeypatch.context() as patch:
        patch.setattr(run, "_summary", after(5, error))
        last = re.escape(str(tmp_path / "out" / "state" / "step-00000004.pt"))
        with pytest.raises(
            kind, match=f"^{words}.*; the last good state is {last}, and the same command goes on"
        ) as raised:
            train(recipe, tmp_path / "out")
    assert "\n" not in str(raised.value)
    train(recipe, tmp_path / "out")
    train(recipe, tmp_path / "whole")
    ours, theirs = (checkpoint.load(tmp_path / name / "model")[0].state_dict() for name in ("out", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_full_disk_ends_a_run_that_keeps_its_states(recipe, tmp_path, monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log.Log, "_open", lambda self, folder: Full())
        with pytest.raises(
            OSError, match=r"^cannot write .*log.jsonl: No space left on device; no state was saved yet$"
        ):
            train(recipe, tmp_path / "out")
    train(recipe, tmp_path / "out", ["training.steps=2"])

    def full(path, *rest):
        raise checkpoint.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", lambda tensors, part: full(part))
        with pytest.raises(OSError, match=r"cannot write .*weights.safetensors: .*No space left .*step-00000004.pt"):
            train(recipe, tmp_path / "out")
    assert checkpoint.read_card(tmp_path / "out" / "model")["training"]["steps"] == 2  # the older model is whole
    checkpoint.load(tmp_path / "out" / "model")
    assert train(recipe, tmp_path / "out").finished


@pytest.mark.parametrize("infinite", ["loss", "gradient"])
def test_a_diverged_run_names_its_last_good_state(recipe, tmp_path, monkeypatch, infinite):
    train(recipe, tmp_path / "out", ["training.steps=2"])
    good = state.latest(tmp_path / "out" / "state")
    original = ScoreMatching.loss

    def spoilt(self, phase, batch, generator):
        loss, logs = original(self, phase, batch, generator)
        if infinite == "loss":  # with a gradient that is finite
            return loss + math.inf, logs
        return loss * math.nan, logs

    monkeypatch.setattr(ScoreMatching, "loss", spoilt)
    with pytest.raises(
        FloatingPointError, match=r"^step 5: no finite loss and gradient for 3 steps: .*-00000004.pt, and"
    ):
        train(recipe, tmp_path / "out", ["training.max_skipped=3"])
    monkeypatch.undo()
    bad = state.latest(tmp_path / "out" / "state")
    assert (bad["step"], bad["skipped"]) == (4, 2)
    for name, value in good["trained"]["denoiser"].items():
        assert torch.equal(bad["trained"]["denoiser"][name], value)
