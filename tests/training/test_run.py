import json
import os
import signal
import threading
import time
import warnings

import pytest
import torch
from PIL import Image

from undrift.training import state
from undrift.training.build import build
from undrift.training.checkpoint import load, read_card
from undrift.training.log import Log
from undrift.training.run import train


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    generator = torch.Generator().manual_seed(0)
    for i in range(6):
        coarse = torch.rand(1, 3, 5, 5, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (40, 48), mode="bicubic").clamp(0, 1)[0]
        Image.fromarray((smooth * 255).byte().permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    return folder


def recipe(photographs, **training):
    return {
        "process": {"name": "mean_reverting"},
        "prediction": {"name": "data", "scale": 0.2},
        "denoiser": {"scale": 0.2},
        "network": {"name": "unet", "channels": [4, 6], "blocks": [1, 1], "embedding": 8},
        "space": {"name": "residual"},
        "density": {"name": "uniform_lambda"},
        "weighting": {"name": "balanced"},
        "data": {
            "roots": [str(photographs)],
            "tasks": ["noisy", "low-light"],
            "hold_out_every": 3,
            "batch": 4,
            "crop": 24,
            "workers": 0,
        },
        "optimizer": {"name": "adamw", "lr": 2e-3, "fused": True},
        "schedule": {"warmup": 3},
        "preview": {"every": 5, "steps": 2, "size": 24},
        "training": {"steps": 10, "save_every": 3, "log_every": 2, "weights": "float32", **training},
    }


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def flat(tree):
    return (
        [flat(v) for v in tree.values()] if isinstance(tree, dict) else tree.tolist() if torch.is_tensor(tree) else tree
    )


def weights(folder):
    return load(folder / "model")[0].network.state_dict()


@pytest.fixture(scope="module")
def whole(photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    result = train(recipe(photographs), folder)
    assert (result.step, result.finished, result.model) == (10, True, folder / "model")
    return folder


def test_a_run_leaves_everything_that_it_promises(whole):
    assert sorted(f.name for f in (whole / "state").iterdir()) == ["step-00000009.pt", "step-00000010.pt"]
    assert Image.open(whole / "preview" / "step-00000005.png").size == (3 * 24, 2 * 24)
    assert (whole / "preview" / "step-00000010.png").is_file()
    facts = read_card(whole / "model")["training"]
    assert (facts["steps"], facts["samples"], facts["skipped"]) == (10, 40, 0)
    assert facts["recipe"] == json.loads((whole / "recipe.json").read_text())
    logged = [line for line in lines(whole) if "denoiser/loss" in line]
    assert [line["step"] for line in logged] == [2, 4, 6, 8, 10]
    assert {"denoiser/mse", "denoiser/norm", "lr", "steps_per_second", "waiting", "wall"} <= logged[0].keys()
    previews = [line for line in lines(whole) if "preview/restored" in line]
    assert [line["step"] for line in previews] == [5, 10]
    assert {"preview/noisy", "preview/low-light", "preview/degraded"} <= previews[0].keys()


def interrupt_after(step, folder):
    """Send SIGTERM to this process as soon as the log has reached `step`."""

    def watch():
        while not ((folder / "log.jsonl").is_file() and any(line["step"] >= step for line in lines(folder))):
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_interrupted_and_resumed_is_bit_for_bit_the_whole_run(whole, photographs, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    thread = interrupt_after(4, tmp_path)
    stopped = train(recipe(photographs), tmp_path)
    thread.join()
    assert not stopped.finished
    assert 4 <= stopped.step < 10
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = train(recipe(photographs), tmp_path)
    assert (resumed.step, resumed.finished) == (10, True)
    assert resumed.seconds > stopped.seconds
    ours, theirs = weights(tmp_path), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    mine, other = (state.latest(f / "state") for f in (tmp_path, whole))
    for part in ("trained", "average", "optimizers", "method"):
        assert flat(mine[part]) == flat(other[part])
    logged = {line["step"]: line["denoiser/loss"] for line in lines(tmp_path) if "denoiser/loss" in line}
    assert logged[10] == next(line["denoiser/loss"] for line in reversed(lines(whole)) if "denoiser/loss" in line)


def test_a_finished_run_is_left_alone_and_can_be_extended(whole, photographs, tmp_path):
    train(recipe(photographs, steps=2), tmp_path)
    first = weights(tmp_path)
    assert train(recipe(photographs, steps=2), tmp_path).step == 2
    assert all(torch.equal(value, first[name]) for name, value in weights(tmp_path).items())
    extended = train(
        recipe(photographs, steps=2), tmp_path, ["training.steps=4", "optimizer.lr=1.0", "schedule.warmup=0"]
    )
    assert extended.step == 4
    assert lines(tmp_path)[-1]["step"] == 4
    assert any(line.get("lr", 0) > 0.1 for line in lines(tmp_path))  # the new rate holds, not the saved one
    with pytest.raises(ValueError, match=r"holds a run with another \[network\]: train into a new folder"):
        train(recipe(photographs), tmp_path, ["network.embedding=16"])
    with pytest.raises(ValueError, match=r"holds a run with another \[optimizer\]"):
        train(recipe(photographs), tmp_path, ['optimizer={name="sgd", lr=0.1}'])


def test_minutes_end_a_run(photographs, tmp_path):
    began = time.monotonic()
    result = train(recipe(photographs, steps=0, minutes=0.02), tmp_path, ["preview.every=0"])
    assert result.finished
    assert 1.2 <= time.monotonic() - began < 6
    rates = [line["lr"] for line in lines(tmp_path)]
    assert rates[-1] < max(rates) / 2  # the schedule followed the clock


def test_a_damaged_state_is_passed_over(photographs, tmp_path):
    train(recipe(photographs, steps=6), tmp_path)
    newest, older = sorted((tmp_path / "state").iterdir(), reverse=True)
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="step-00000006.pt: damaged, passed over"):
        assert state.latest(tmp_path / "state")["step"] == 3
    older.write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="none of the 2 states can be read"):
            state.latest(tmp_path / "state")
    assert state.latest(tmp_path / "nowhere") is None


def test_bfloat16_channels_last_and_loaders_run(photographs, tmp_path):
    options = {"precision": "bfloat16", "channels_last": True, "accumulate": 2, "tensorboard": True}
    train(recipe(photographs, **options), tmp_path, ["data.workers=1", "training.steps=2"])
    assert all(torch.isfinite(value).all() for value in weights(tmp_path).values())
    assert list((tmp_path / "tensorboard").iterdir())
    assert read_card(tmp_path / "model")["training"]["samples"] == 16


def test_the_log_drops_what_was_cut_off(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "a": 1}\n{"step": 5, "a": 2}\n{"step": 2, "a"')
    with Log(tmp_path, start=3) as log:
        log.write(4, {"a": 3.0})
    assert [(line["step"], line["a"]) for line in lines(tmp_path)] == [(1, 1), (4, 3.0)]
    with Log(None) as silent:
        silent.write(1, {})


def test_a_run_starts_from_the_weights_of_another(whole, photographs, tmp_path):
    table = recipe(photographs, start_from=str(whole / "model"), steps=1)
    table["optimizer"]["lr"] = 0.0
    train(table, tmp_path / "next")
    before, after = weights(whole), weights(tmp_path / "next")
    assert all(torch.equal(before[name], after[name]) for name in before)
    table["network"]["channels"] = [4, 8]
    with pytest.raises(ValueError, match="start_from"):
        train(table, tmp_path / "other")


def test_a_restorer_is_told_its_tasks_and_remembers_their_names(photographs, tmp_path):
    train(recipe(photographs, steps=3, channels_last=True), tmp_path, ["data.told=0.5", "network.classes=2"])
    denoiser, _ = load(tmp_path / "model")
    assert denoiser.tasks == ("noisy", "low-light")
    assert denoiser.network.classes.weight.shape == (3, 8)


@pytest.mark.parametrize("classes", [0, 3])
def test_tasks_that_the_network_cannot_count_are_refused(photographs, tmp_path, classes):
    with pytest.raises(ValueError, match=f"data.told: 2 tasks to tell of, so need network.classes = 2, not {classes}"):
        train(recipe(photographs), tmp_path, ["data.told=0.5", f"network.classes={classes}"])
    assert not any(tmp_path.iterdir())


def test_the_perceptual_term_of_named_tasks_needs_tasks_that_are_told(photographs):
    table = recipe(photographs, steps=2)
    table["method"] = {"name": "score_matching", "perceptual": 1.0, "perceptual_tasks": ["low-light"]}
    with pytest.raises(ValueError, match=r"method.perceptual_tasks = \['low-light'\]: need data.told > 0"):
        build(table)
    table["data"]["told"], table["network"]["classes"] = 1.0, 2
    assert build(table).method.perceptual_labels == (1,)
    table["method"]["perceptual_tasks"] = ["dark"]
    with pytest.raises(ValueError, match=r"dark.*low-light"):
        build(table)
