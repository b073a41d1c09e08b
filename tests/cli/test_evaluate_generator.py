"""`undrift evaluate` of a model that needs no observation: what it writes is what the library measures."""

import json
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import undrift
from undrift.classify import NoisyClassifier
from undrift.cli import evaluate_generator
from undrift.cli.generator_assessment import within
from undrift.cli.model import open_model
from undrift.evaluation import REAL, Reference, sampler
from undrift.metrics import Classified, Features, set_distances
from undrift.networks import Classifier, UNet
from undrift.training.checkpoint import load_classifier


class Corner(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0, :2, :2].flatten(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny generator, a tiny classifier, a TorchScript file, and data."""
    root = tmp_path_factory.mktemp("generator")
    torch.manual_seed(0)
    network = UNet(in_channels=1, cond_channels=0, channels=(8, 16), blocks=(1, 1), embedding=8, classes=2)
    denoiser = undrift.Denoiser(network, undrift.VP(), undrift.prediction.Velocity(0.5), scale=0.5)
    undrift.save(root / "tiny", denoiser, undrift.Pixels(), {"shape": [1, 8, 8], "classes": ["a", "b"]})
    classifier = NoisyClassifier(Classifier(2, channels=(4, 6), embedding=8), undrift.VP(), scale=0.5)
    undrift.save(root / "eyes", classifier, undrift.Pixels())
    torch.jit.script(Corner()).save(str(root / "corner.pt"))
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.integers(0, 256, (n, 8, 8), dtype=np.uint8) for part, n in (("train", 60), ("test", 40))}
    np.savez(root / "data.npz", y_train=np.arange(60) % 2, y_test=np.arange(40) % 2, **arrays)
    return root


@pytest.fixture
def evaluate(undrift_, folder):
    fixed = ("--model", folder / "tiny", "--data", folder / "data.npz", "--threads", 1, "--device", "cpu")
    return lambda *argv: undrift_("evaluate", *fixed, *argv)


FAST = ("--steps", 2, 3, "--samples", 30)


def kept(name="undrift-evaluation"):
    with open(f"{name}/results.json", encoding="utf-8") as file:
        return json.load(file)


def test_all_forms_say_what_the_library_measures(evaluate, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_generator, "TOLERANCE", 0.3)  # it is about where the number goes, not about it
    code, lines, errors = evaluate(*FAST, "--extractor", folder / "eyes", "--solver", "ode-2", "heun:3", "--bits", 2)
    assert (code, errors) == (0, [])
    rows = kept()["tasks"]["generation"]
    assert list(rows) == [REAL, "ode-2:2", "ode-2:3", "heun:3"]

    data = Reference.read(folder / "data.npz")
    extract = Classified(*load_classifier(folder / "eyes"), "eyes")
    images, _ = sampler(*open_model(folder / "tiny"), "ode-2:3", data.shape, classes=2).draw(range(30))
    found = set_distances(Features.of(extract, [data.images / 255]), Features.of(extract, [images]))
    for name, (value, error) in found.items():
        assert rows["ode-2:3"][name] == pytest.approx(value, rel=1e-3, abs=1e-9), name
        assert rows["ode-2:3"][f"{name}_error"] == pytest.approx(error, rel=1e-2, abs=1e-9), name
    assert rows["ode-2:3"]["bits"] > 1
    assert (rows["heun:3"]["evaluations"], rows["ode-2:3"]["samples"]) == (3, 30)

    start = next(i for i, line in enumerate(lines) if line.startswith("sampler"))
    cells = next(line for line in lines[start:] if line.startswith("ode-2:3")).split("  ")
    shown = [cell.strip() for cell in cells if cell.strip()]
    assert shown[:2] == ["ode-2:3", within(*found["fd"])]
    out = tmp_path / "undrift-evaluation"
    assert within(*found["fd"]) in (out / "results.md").read_text()
    root = ET.fromstring((out / "report.html").read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>\n"))
    table = [[cell.text for cell in row] for row in root.find(".//tbody")]
    assert [row[0] for row in table] == list(rows)
    assert len(list(root.iter("img"))) == 4
    assert kept()["stamp"]["extractor"]["digest"] in ET.tostring(root, encoding="unicode")
    ET.parse(out / "curves.svg")
    assert Image.open(out / "curves.png").size[0] > 800
    assert Image.open(out / "examples/ode-2-3.png").size == (5 * 10 - 2, 6 * 10 - 2)
    assert lines[-6:] == [
        f"undrift-evaluation/{name}"
        for name in ("results.json", "results.md", "curves.svg", "report.html", "curves.png", "examples")
    ]


def test_what_is_known_is_not_measured_again_nor_mixed(evaluate, folder):
    look = ("--fid", folder / "corner.pt")
    assert evaluate(*look, "--samples", 30, "--steps", 2)[0] == 0
    first = kept()["tasks"]["generation"]
    assert list(first) == [REAL, "ode-2c:2"]
    assert "is" not in first[REAL]
    assert evaluate(*look, "--samples", 30, "--steps", 2, 4)[0] == 0
    second = kept()["tasks"]["generation"]
    assert list(second) == [REAL, "ode-2c:2", "ode-2c:4"]
    assert second["ode-2c:2"] == first["ode-2c:2"]
    for changed, what in (
        (("--samples", 31), "samples (30, not 31)"),
        (("--split", "all"), "data.generation.split (test, not all)"),
        (("--seed", 1), "seed"),
        (("--neighbours", 3), "k (5, not 3)"),
        (("--guidance", 2), "samplers.ode-2c:2.guidance (None, not 2.0)"),
    ):
        code, _, (error,) = evaluate(*look, "--steps", 2, *(() if "--samples" in changed else FAST[3:]), *changed)
        assert code == 2
        assert f"was made with another {what}" in error
    code, _, (error,) = evaluate("--extractor", folder / "eyes", "--samples", 30, "--steps", 2)
    assert (code, "another extractor.name" in error) == (2, True)


def test_two_results_are_compared_only_if_they_are_alike(evaluate, undrift_, folder):
    look = ("--fid", folder / "corner.pt", "--samples", 30, "--steps", 2)
    assert evaluate(*look, "-o", "a")[0] == 0
    shutil.copytree("a", "b")
    other = kept("b")
    other["stamp"]["model"]["weights"] = "others"
    other["tasks"]["generation"]["ode-2c:2"]["fd"] += 0.5
    with open("b/results.json", "w", encoding="utf-8") as file:
        json.dump(other, file)
    code, lines, errors = undrift_("evaluate", "--compare", "a", "b/results.json")
    assert (code, errors) == (0, [])
    row = next(line for line in lines if line.startswith("ode-2c:2")).split()
    assert float(row[-3]) == pytest.approx(0.5, abs=0.005)
    assert evaluate(*look, "-o", "c", "--neighbours", 4)[0] == 0
    code, lines, (error,) = undrift_("evaluate", "--compare", "a", "c")
    assert (code, lines) == (2, [])
    assert "cannot compare: made with another k (5, not 4)" in error


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--extractor", "nowhere"), "no model 'nowhere'"),
        (("--extractor", "corner.pt"), "such files can run code"),
        (("--fid", "nowhere.pt"), "FID needs a TorchScript Inception"),
        (("--extractor", "eyes", "--solver", "odd-2"), "did you mean ode-2"),
        (("--extractor", "eyes", "--paired"), "--paired: tiny is a generator"),
        (("--extractor", "eyes", "--baseline", "posterior:4"), "--baseline: tiny is a generator"),
        (("--extractor", "eyes", "--data", "nowhere"), "no labelled images at nowhere"),
        (("--extractor", "eyes", "--data", "wide.npz"), "images (1, 8, 9), but tiny makes (1, 8, 8)"),
        (("--extractor", "eyes", "--samples", "5"), "5 samples, 40 images of data: need at least 6"),
    ],
)
def test_what_is_wrong_is_one_line(evaluate, folder, tmp_path, argv, message):
    for name in ("tiny", "eyes"):
        shutil.copytree(folder / name, tmp_path / name)
    shutil.copy(folder / "corner.pt", tmp_path)
    np.savez(tmp_path / "wide.npz", x_test=np.zeros((9, 8, 9), np.uint8), y_test=np.zeros(9, int))
    code, lines, errors = evaluate("--model", "tiny", "--steps", 1, *argv)
    assert (code, lines, len(errors)) == (2, [], 1)
    assert message in errors[0]
    assert not (tmp_path / "undrift-evaluation").exists()


def test_a_restorer_knows_nothing_of_generators(undrift_, model):
    code, _, (error,) = undrift_("evaluate", "--model", model, "--data", ".", "--guidance", 2)
    assert code == 2
    assert "--guidance" in error
    assert "is a restorer" in error


@pytest.mark.parametrize(
    ("value", "error", "text"), [(0.35244, 0.0141, "0.352 ± 0.014"), (12.34, 3, "12.3 ± 3.0"), (1, 0, "1.000 ± 0.000")]
)
def test_numbers_have_the_digits_that_they_deserve(value, error, text):
    assert within(value, error) == text
