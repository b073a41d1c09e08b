"""Evaluating generators: numbers against known laws, resumed exactly, compared only if alike."""

import json

import numpy as np
import pytest
import torch

from undrift import VP, Denoiser, Pixels, prediction
from undrift.data import generator
from undrift.evaluation import (
    REAL,
    TASK,
    Reference,
    Results,
    Sampler,
    compare,
    evaluate_generator,
    generation_stamp,
    parts,
    sampler,
)
from undrift.generation import PRESETS, generate
from undrift.guidance import ClassifierFree
from undrift.metrics import Function, frechet_distance
from undrift.networks import UNet

EXTRACT = Function(lambda x: (x.mean((1, 2)), x[:, 0, 0].softmax(1)), "columns", "d1")  # (B, 8), (B, 8)


def drawn(numbers, mean=0.5, std=0.1, seed=0):
    """Columns of independent normal brightness: features N(mean, std^2), known up to the clipping and rounding."""
    draws = [torch.randn(1, 1, 8, generator=generator("toy", seed, i)) for i in numbers]
    return (mean + std * torch.stack(draws)).expand(-1, 1, 8, 8).clamp(0, 1)


def reference(count=300):
    return Reference((drawn(range(count), seed=9) * 255).round().byte(), "toy", "test")


def toy(name="same:3", calls=None, **law):
    def draw(numbers):
        if calls is not None:
            calls.append(numbers)
        return drawn(numbers, **law), 3.0

    return Sampler(name, draw, {"law": str(law)})


def evaluated(samplers, folder, data=None, extractor=EXTRACT, samples=300, batch=64, bits=None, **stamped):
    data = data or reference()
    stamp = generation_stamp({"weights": "w"}, data, extractor, samplers, samples=samples, subset=50, **stamped)
    results = Results.resume(folder, stamp, {})
    rows = list(evaluate_generator(samplers, data, extractor, results, folder, batch=batch, bits=bits, bits_images=20))
    return results, rows


def without_clock(results):
    return {name: {k: v for k, v in row.items() if k != "seconds"} for name, row in results.tasks[TASK].items()}


def test_perfect_samples_are_at_the_level_of_the_data_and_others_at_their_distance(tmp_path):
    samplers = [toy(), toy("bright:3", mean=0.6), toy("narrow:3", std=0.05)]
    results, rows = evaluated(samplers, tmp_path, samples=400)
    assert [name for name, _ in rows] == [REAL, "same:3", "bright:3", "narrow:3"]
    found = results.tasks[TASK]
    assert found[REAL]["samples"] == 150
    assert found["same:3"]["fd"] < found[REAL]["fd"]  # more images, less bias
    assert found["same:3"]["density"] == pytest.approx(1, abs=0.15)
    for name, true in (("bright:3", 8 * 0.1**2), ("narrow:3", 8 * 0.05**2)):
        assert found[name]["fd"] == pytest.approx(true, abs=4 * found[name]["fd_error"] + 0.003)
    assert found["narrow:3"]["recall"] < found["same:3"]["recall"] - 0.1
    assert (found["same:3"]["samples"], found["same:3"]["evaluations"]) == (400, 3)
    x, y = ((part * 255).round().div(255) for part in (drawn(range(300), seed=9), drawn(range(400))))
    by_hand = frechet_distance(x.mean((1, 2)), y.mean((1, 2)))
    assert (found["same:3"]["fd"], found["same:3"]["fd_error"]) == pytest.approx(by_hand, rel=1e-4)
    json.dumps(json.loads((tmp_path / "results.json").read_text()), allow_nan=False)
    assert [path.name for path in (tmp_path / "features").iterdir()] == [REAL]  # what is done with is gone


def test_an_interrupted_evaluation_loses_one_part_at_most_and_no_number_moves(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "CHUNK", 40)
    whole, _ = evaluated([toy(), toy("bright:3", mean=0.6)], tmp_path / "whole", samples=100, batch=100)
    calls = []

    def tiring(numbers):
        calls.append(numbers)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return drawn(numbers, mean=0.6), 3.0

    tired = Sampler("bright:3", tiring, {"law": "{'mean': 0.6}"})
    with pytest.raises(KeyboardInterrupt):
        evaluated([toy(), tired], tmp_path / "part", samples=100, batch=20)
    assert set(Results.read(tmp_path / "part").tasks[TASK]) == {REAL, "same:3"}
    same, bright = [], []
    again, rows = evaluated(
        [toy(calls=same), toy("bright:3", bright, mean=0.6)], tmp_path / "part", samples=100, batch=15
    )
    assert [name for name, _ in rows] == ["bright:3"]
    assert (same, bright[0].start, sum(map(len, bright))) == ([], 40, 60)
    assert again.stamp == whole.stamp
    for name, row in without_clock(whole).items():
        assert without_clock(again)[name] == pytest.approx(row, rel=1e-5), name


def test_unlike_stamps_are_refused_by_name(tmp_path):
    a, _ = evaluated([toy()], tmp_path / "a", samples=50)
    other = Function(EXTRACT.call, "columns", "d2")
    for changed, what in (
        ({"samples": 60}, r"samples \(50, not 60\)"),
        ({"extractor": other}, r"extractor.digest \(d1, not d2\)"),
        ({"seed": 1}, "seed"),
        ({"k": 3}, "k "),
        ({"data": reference(299)}, "data.generation.images"),
    ):
        with pytest.raises(ValueError, match=f"made with another {what}"):
            evaluated([toy()], tmp_path / "a", **({"samples": 50} | changed))
    with pytest.raises(ValueError, match=r"another samplers\.same:3\.law"):
        evaluated([toy(mean=0.2)], tmp_path / "a", samples=50)
    b, _ = evaluated([toy(), toy("new:1")], tmp_path / "b", samples=50)
    b.stamp["model"] = {"weights": "of another"}
    assert [row[1] for row in compare(a, b) if row[0] == TASK] == [REAL, "same:3"]
    c, _ = evaluated([toy()], tmp_path / "c", samples=60)
    with pytest.raises(ValueError, match=r"cannot compare: made with another samples \(50, not 60\)"):
        compare(a, c)


def test_bits_are_measured_once_and_shown_in_every_row(tmp_path):
    seen = []

    def bits(images, numbers):
        seen.extend(numbers)
        return images.mean((1, 2, 3)).double()

    results, _ = evaluated([toy(), toy("b:1")], tmp_path, samples=50, bits=bits)
    expected = reference().images[:20].double().div(255).mean((1, 2, 3))
    for name in ("same:3", "b:1"):
        row = results.tasks[TASK][name]
        assert (row["bits"], row["bits_error"]) == pytest.approx(
            (float(expected.mean()), float(expected.std()) / 20**0.5), rel=1e-5
        )
    evaluated([toy(), toy("c:1")], tmp_path, samples=50, bits=bits)
    assert seen == list(range(20))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = UNet(in_channels=1, cond_channels=0, channels=(8, 16), blocks=(1, 1), embedding=8, classes=3)
    return Denoiser(network, VP(), prediction.Velocity(0.5), scale=0.5).eval().requires_grad_(False), Pixels()


def test_a_sampler_is_generate_with_seeds_of_its_own(model):
    denoiser, space = model
    images, evaluations = sampler(*model, "heun:5", (1, 8, 8), seed=4, classes=3).draw(range(2, 7))
    seeds = [generator("noise", 4, i).initial_seed() for i in range(2, 7)]
    labels = torch.tensor([2, 0, 1, 2, 0])
    batches = generate(
        denoiser, denoiser.process, space, shape=(1, 8, 8), seeds=seeds, steps=5, solver="heun", label=labels
    )
    torch.testing.assert_close(images, next(batches), atol=1e-6, rtol=0)
    assert evaluations == 5
    assert sampler(*model, "ode-2:4", (1, 8, 8)).facts["solver"] == repr(PRESETS["ode-2"].solver)
    facts = [sampler(*model, f"ode-2:{n}", (1, 8, 8)).facts["grid"] for n in (4, 4, 5)]
    assert facts[0] == facts[1] != facts[2]


def test_what_guidance_asks_of_the_network_is_counted(model):
    def guide(denoise):
        return ClassifierFree(denoise, model[0].process, 2.0, {"label": 3})

    guided = sampler(*model, "ode-1:4", (1, 8, 8), classes=3, guide=guide, facts={"guidance": 2.0})
    assert guided.draw(range(3))[1] == 8
    assert guided.facts["guidance"] == 2.0


@pytest.mark.parametrize(
    ("spec", "message"), [("ode-2", "need solver:evaluations"), ("ode-2:0", "need"), ("odd-2:4", "did you mean ode-2")]
)
def test_bad_specs_are_refused(model, spec, message):
    with pytest.raises(ValueError, match=message):
        sampler(*model, spec, (1, 8, 8))


def test_references_are_known_by_content(tmp_path):
    rng = np.random.default_rng(0)
    sets = {"x_train": (30, 6, 6), "x_test": (20, 6, 6)}
    arrays = {name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in sets.items()}
    arrays |= {"y_train": np.arange(30) % 3, "y_test": np.arange(20) % 3}
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, **arrays)
    test, both = Reference.read(tmp_path / "a.npz"), Reference.read(tmp_path / "a.npz", "all")
    assert (len(test.images), len(both.images), test.shape) == (20, 50, (1, 6, 6))
    assert Reference.read(tmp_path / "b.npz").facts() == test.facts() | {"name": "b"}
    some = Reference.read(tmp_path / "a.npz", limit=7)
    assert torch.equal(some.images, Reference.read(tmp_path / "b.npz", limit=7).images)
    assert len(some.images) == 7
    assert some.facts()["digest"] != test.facts()["digest"]


def test_too_few_of_anything_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch = 0"):
        evaluated([toy()], tmp_path, batch=0)
    with pytest.raises(ValueError, match="3 samples"):
        evaluated([toy()], tmp_path, samples=3)
