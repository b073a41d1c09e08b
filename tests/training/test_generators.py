"""Runs on small labelled images: a generator with classes, and a classifier of noisy images."""

import numpy as np
import pytest
import torch

from undrift.training.checkpoint import load, load_classifier, read_card
from undrift.training.run import train


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """Bright left halves and bright upper halves: two classes that a few steps can tell apart."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    images = np.zeros((200, 8, 8), dtype=np.uint8)
    for image, kind in zip(images, label, strict=True):
        image[(slice(None), slice(4)) if kind else slice(4)] = rng.integers(180, 256)
    path = tmp_path_factory.mktemp("data") / "bars.npz"
    np.savez(path, x_train=images, y_train=label, x_test=images[:8], y_test=label[:8])
    return path


def recipe(path, **sections):
    return {
        "process": {"name": "vp"},
        "denoiser": {"scale": 0.7},
        "space": {"name": "pixels"},
        "density": {"name": "log_normal"},
        "data": {
            "name": "labelled",
            "path": str(path),
            "names": ["upper", "left"],
            "batch": 32,
            "flip": False,
            "drop": 0.2,
        },
        "optimizer": {"name": "adamw", "lr": 5e-3},
        "average": {"name": "power", "width": 0.2},
    } | sections


GENERATOR = {
    "prediction": {"name": "velocity", "scale": 0.7},
    "weighting": {"name": "raw"},
    "network": {
        "name": "unet", "in_channels": 1, "cond_channels": 0, "channels": [12, 16], "blocks": [1, 1], "classes": 2,
        "embedding": 16,
    },
    "preview": {"every": 100, "steps": 3},
    "training": {"steps": 100, "log_every": 50},
}  # fmt: skip
CLASSIFIER = {
    "method": {"name": "classification"},
    "network": {"name": "classifier", "classes": 2, "channels": [8, 12], "embedding": 16},
    "preview": {"every": 0},
    "training": {"steps": 60, "log_every": 30},
}


def test_a_generator_learns_its_classes(bars, tmp_path):
    result = train(recipe(bars, **GENERATOR), tmp_path)
    facts = read_card(result.model)["training"]
    assert facts["shape"] == [1, 8, 8]
    assert facts["classes"] == ["upper", "left"]
    assert (tmp_path / "preview" / "step-00000100.png").is_file()
    denoiser, _ = load(result.model)
    # From nearly pure noise the estimate is the mean of the class that the network was told.
    t = denoiser.process.time(torch.tensor(-3.0, dtype=torch.float64))
    z = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    upper, left = (denoiser(z, t, label=torch.full((64,), k)).mean((0, 1)) for k in (0, 1))
    assert upper[:4].mean() > upper[4:].mean() + 0.5
    assert left[:, :4].mean() > left[:, 4:].mean() + 0.5


def test_a_classifier_is_trained_saved_and_loaded(bars, tmp_path):
    result = train(recipe(bars, **CLASSIFIER), tmp_path)
    classifier, space = load_classifier(result.model)
    upper = torch.zeros(1, 1, 8, 8)
    upper[..., :4, :] = 0.9
    images = torch.cat([upper, upper.mT])
    logits = classifier(space.encode(images), torch.tensor(classifier.process.t_min, dtype=torch.float64))
    assert logits.argmax(1).tolist() == [0, 1]
    with pytest.raises(ValueError, match="a classifier, where a denoiser is needed"):
        load(result.model)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"method": {"name": "guessing"}}, "guessing"),
        ({"method": "classification"}, "need a table"),
        ({"data": {"name": "films", "path": "x"}}, "films"),
        ({"data": {"name": "labelled", "path": "x", "crop": 3}}, "crop"),
        ({"prediction": {"name": "nose"}}, "nose"),
    ],
)
def test_bad_recipes_are_named(bars, tmp_path, sections, words):
    with pytest.raises(ValueError, match=words):
        train(recipe(bars, **(GENERATOR | sections)), tmp_path)


def test_as_many_names_as_classes(bars, tmp_path):
    table = recipe(bars, **GENERATOR)
    table["data"] = table["data"] | {"names": ["one"]}
    with pytest.raises(ValueError, match="1 names"):
        train(table, tmp_path)
