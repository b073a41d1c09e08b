"""Names for solver and grid; and the times that students know."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

import undrift
from undrift import VP, Flow
from undrift.generation import PRESETS, generate, in_lambda
from undrift.preset import chosen, leaps
from undrift.training.checkpoint import find


def test_a_student_leaps_from_the_times_that_it_was_taught():
    """The nearest in lambda, each once, from pure noise to data; where the grid is among them, the grid."""
    process = VP()
    nodes = in_lambda(process, 5)[:-1].tolist()
    preset = PRESETS["consistency"]
    taken = {n: [nodes.index(t) for t in preset.times(process, n, nodes)[:-1].tolist()] for n in range(1, 6)}
    assert taken == {1: [0], 2: [0, 2], 3: [0, 1, 3], 4: [0, 1, 2, 3], 5: [0, 1, 2, 3, 4]}
    for n in (1, 2, 4):
        torch.testing.assert_close(preset.times(process, n, nodes), preset.grid(process, n))
    assert preset.times(process, 3, nodes)[-1] == 0
    with pytest.raises(ValueError, match="6 evaluations of a student that leaps from 5 times: ask for fewer"):
        preset.times(process, 6, nodes)
    assert torch.equal(preset.times(process, 6), preset.grid(process, 6))  # no student of few
    assert torch.equal(PRESETS["ode-2"].times(process, 6, nodes), PRESETS["ode-2"].grid(process, 6))


def test_pure_noise_without_a_lambda_is_a_node_too():
    process = Flow()
    nodes = in_lambda(process, 3)[:-1].tolist()
    for n in (1, 2, 3):
        assert PRESETS["consistency"].times(process, n, nodes)[:-1].tolist() == nodes[:n]


def test_a_student_of_one_time_makes_one_leap():
    student = SimpleNamespace(student=True, taught=(1.0,))
    assert chosen(student, None, None, ("ode-2c", 10)) == ("consistency", 1)
    assert leaps((1.0, 0.5, 0.1), [1, 2, 4]) == [1, 2]
    assert leaps((), [1, 2, 4]) == [1, 2, 4]  # of a text-to-image pipeline


def test_a_bundled_student_leaps_from_its_own_times():
    """Three evaluations of equal parts, between its nodes, gave noise (a Frechet distance of 6.9 on Fashion-MNIST)."""
    student, space = undrift.load("fashion-student")

    def roughness(**options):
        seeds, label = range(20), torch.arange(20) % 10
        x = next(generate(student, student.process, space, shape=(1, 28, 28), seeds=seeds, label=label, **options))
        return float(x.diff().abs().mean())

    usual = roughness(steps=2)
    assert roughness(steps=3) == pytest.approx(usual, rel=0.1)
    between = PRESETS["consistency"].grid(student.process, 3)
    assert roughness(steps=3, grid=between, solver="consistency") > 1.3 * usual
    assert undrift.load("fashion")[0].taught == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"spacing": "foo"}, "unknown method.spacing 'foo'"), ({"nodes": "x"}, "method.nodes = 'x'"),
     ({"nodes": 0}, "method.nodes = 0: need a whole number from 1"), ({"nodes": 10**9}, "method.nodes = 1000000000"),
     ({"end": "x"}, "method.end = 'x'"), ({"start": [5]}, "method.start")],
)  # fmt: skip
def test_a_card_whose_times_are_none_is_one_line(change, words, tmp_path):
    student = tmp_path / "student"
    shutil.copytree(find("fashion-student"), student)
    card = json.loads((student / "model.json").read_text())
    card["training"]["recipe"]["method"] |= change
    (student / "model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=words) as error:
        undrift.load(student)
    assert str(student) in str(error.value)
    assert "\n" not in str(error.value)
