"""Settings of [training] that change where and how a step is computed, and not what it comes to."""

import tarfile
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from undrift.training import state
from undrift.training.run import train


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    for shard in range(2):
        with tarfile.open(folder / f"s-{shard}.tar", "w") as archive:
            for number in range(5):
                file = BytesIO()
                pixels = np.random.default_rng(number + 5 * shard).integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(file, "PNG")
                for kind, content in (("png", file.getvalue()), ("cls", str(number % 2).encode())):
                    member = tarfile.TarInfo(f"{number}.{kind}")
                    member.size = len(content)
                    archive.addfile(member, BytesIO(content))
    return folder


def recipe(shards, network="unet"):
    networks = {
        "unet": {"name": "unet", "channels": [4, 6], "blocks": [1, 1], "cond_channels": 0, "classes": 2,
                 "embedding": 4},
        "ncsnpp": {"name": "ncsnpp", "width": 4, "multipliers": [1, 1], "blocks": 1, "attention": [1], "classes": 2,
                   "embedding": "positional", "dropout": 0.2},
    }  # fmt: skip
    return {
        "process": {"name": "vp"},
        "prediction": {"name": "velocity", "scale": 0.5},
        "network": networks[network],
        "space": {"name": "pixels"},
        "density": {"name": "uniform_lambda"},
        "weighting": {"name": "balanced"},
        "data": {
            "name": "streamed",
            "path": f"{shards}/*.tar",
            "size": 8,
            "names": ["a", "b"],
            "batch": 4,
            "workers": 0,
        },
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "schedule": {"warmup": 0, "final": 1.0},
        "preview": {"every": 0},
        "training": {"steps": 4, "save_every": 2, "log_every": 1, "weights": "float32"},
    }


def weights(folder):
    return state.latest(folder / "state")["trained"]["denoiser"]


@pytest.mark.parametrize("network", ["unet", "ncsnpp"])
def test_computing_twice_and_compiling_change_nothing(shards, tmp_path, network):
    table = recipe(shards, network)
    train(table, tmp_path / "plain")
    train(table, tmp_path / "twice", ["training.checkpointing=true"])
    train(table, tmp_path / "compiled", ["training.compile=eager", "training.steps=2"])
    train(table, tmp_path / "compiled")  # goes on, uncompiled: the names of the weights are the same
    plain, twice, compiled = (weights(tmp_path / name) for name in ("plain", "twice", "compiled"))
    for name, value in plain.items():  # dropout included: its masks are named by the step
        assert torch.equal(twice[name], value), name
        assert torch.equal(compiled[name], value), name


def test_a_run_on_shards_goes_on_in_the_middle_of_an_epoch(shards, tmp_path):
    train(recipe(shards), tmp_path / "whole")
    train(recipe(shards), tmp_path / "torn", ["training.steps=2"])
    train(recipe(shards), tmp_path / "torn")
    ours, theirs = weights(tmp_path / "torn"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_restorer_is_trained_on_shards_and_previewed_on_held_out_ones(shards, tmp_path):
    table = recipe(shards) | {
        "network": {"name": "unet", "channels": [4], "blocks": [1], "embedding": 4, "context": 0},
        "space": {"name": "residual"},
        "data": {"roots": [f"{shards}/s-{{0..1}}.tar"], "tasks": ["noisy"], "hold_out_every": 5, "batch": 2, "crop": 16,
                 "workers": 0},
        "preview": {"every": 2, "steps": 1, "size": 16},
    }  # fmt: skip
    train(table, tmp_path)
    assert sorted(file.name for file in (tmp_path / "preview").iterdir()) == ["step-00000002.png", "step-00000004.png"]
    assert (tmp_path / "best" / "model.json").is_file()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["training.compile=nothing"], "training.compile = 'nothing': choose one of"),
        (["training.shard=true", "training.channels_last=true"], r"training.shard with training.channels_last"),
        (["training.max_skipped=0"], "training.max_skipped = 0: need at least 1"),
    ],
)
def test_what_does_not_go_together_is_one_line(shards, tmp_path, settings, words):
    with pytest.raises(ValueError, match=words):
        train(recipe(shards), tmp_path, settings)
    assert not list(tmp_path.iterdir())
