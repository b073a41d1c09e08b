"""Names for solver and grid; and the times that students know."""

import json
import shutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import undrift
from undrift import VP, Flow
from undrift.evaluation.specs import Counted
from undrift.generation import PRESETS, generate, in_lambda
from undrift.guidance import ClassifierFree
from undrift.preset import chosen, leaps
from undrift.training.checkpoint import find


def student(taught, edges=()):
    return SimpleNamespace(student=True, taught=tuple(taught), edges=tuple(edges))


def test_a_student_leaps_from_the_times_that_it_was_taught():
    """The nearest in lambda, each once, from pure noise to data; where the grid is among them, the grid."""
    process = VP()
    nodes = in_lambda(process, 5)[:-1].tolist()
    plain, preset = PRESETS["consistency"], PRESETS["consistency"].of(student(nodes))
    taken = {n: [nodes.index(t) for t in preset.grid(process, n)[:-1].tolist()] for n in range(1, 6)}
    assert taken == {1: [0], 2: [0, 2], 3: [0, 1, 3], 4: [0, 1, 2, 3], 5: [0, 1, 2, 3, 4]}
    for n in (1, 2, 4):
        torch.testing.assert_close(preset.grid(process, n), plain.grid(process, n))
    assert preset.grid(process, 3)[-1] == 0
    with pytest.raises(ValueError, match="6 evaluations of a student that leaps from 5 times: ask for fewer"):
        preset.grid(process, 6)
    assert plain.of(student(())) is plain  # no student of few
    assert PRESETS["ode-2"].of(student(nodes)) is PRESETS["ode-2"]


def test_a_student_of_segments_leaps_to_all_their_ends():
    process = VP()
    nodes = in_lambda(process, 5)[:-1].tolist()
    preset = PRESETS["consistency"].of(student(nodes, nodes[2:3]))
    taken = {n: [nodes.index(t) for t in preset.grid(process, n)[:-1].tolist()] for n in range(2, 6)}
    assert taken == {2: [0, 2], 3: [0, 2, 3], 4: [0, 1, 2, 3], 5: [0, 1, 2, 3, 4]}
    assert preset.solver.edges == (nodes[2],)
    with pytest.raises(ValueError, match="evaluations = 1: a student of 2 segments needs one for each"):
        preset.grid(process, 1)
    many = PRESETS["consistency"].of(student(nodes, [nodes[1], nodes[3]]))
    assert [nodes.index(t) for t in many.grid(process, 3)[:-1].tolist()] == [0, 1, 3]
    assert leaps(nodes, [1, 2, 4], nodes[2:3]) == [2, 4]
    assert leaps(nodes, [1, 2], nodes[1:4]) == [4]
    assert chosen(student(nodes, nodes[1:4]), None, None, ("ode-2c", 10)) == ("consistency", 4)


def test_what_is_around_a_student_hides_nothing_of_it():
    """`undrift evaluate` counts, and its three evaluations leapt between the nodes for it."""
    process = VP()
    nodes = in_lambda(process, 3)[:-1].tolist()
    wrapped = ClassifierFree(Counted(student(nodes, nodes[1:2])), process, 2.0, {"label": 9})
    preset = PRESETS["consistency"].of(wrapped)
    assert preset.grid(process, 2)[:-1].tolist() == nodes[:2]
    assert preset.solver.edges == (nodes[1],)
    for other in (partial(wrapped), SimpleNamespace(module=wrapped)):
        assert PRESETS["consistency"].of(other).solver.edges == (nodes[1],)
    assert PRESETS["consistency"].of(lambda z, t: z) is PRESETS["consistency"]
    assert chosen(wrapped, None, None, ("ode-2c", 10)) == ("consistency", 2)


def test_pure_noise_without_a_lambda_is_a_node_too():
    process = Flow()
    nodes = in_lambda(process, 3)[:-1].tolist()
    for n in (1, 2, 3):
        assert PRESETS["consistency"].of(student(nodes)).grid(process, n)[:-1].tolist() == nodes[:n]


def test_a_student_of_one_time_makes_one_leap():
    assert chosen(student((1.0,)), None, None, ("ode-2c", 10)) == ("consistency", 1)
    assert leaps((1.0, 0.5, 0.1), [1, 2, 4]) == [1, 2]
    assert leaps((), [1, 2, 4]) == [1, 2, 4]  # of a text-to-image pipeline


def test_a_bundled_student_leaps_from_its_own_times():
    """Three evaluations of equal parts, between its nodes, gave noise (a Frechet distance of 6.9 on Fashion-MNIST)."""
    bundled, space = undrift.load("fashion-student")

    def roughness(**options):
        seeds, label = range(20), torch.arange(20) % 10
        x = next(generate(bundled, bundled.process, space, shape=(1, 28, 28), seeds=seeds, label=label, **options))
        return float(x.diff().abs().mean())

    usual = roughness(steps=2)
    assert roughness(steps=3) == pytest.approx(usual, rel=0.1)
    between = PRESETS["consistency"].grid(bundled.process, 3)
    assert roughness(steps=3, grid=between, solver="consistency") > 1.3 * usual
    assert undrift.load("fashion")[0].taught == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"spacing": "foo"}, "unknown method.spacing 'foo'"), ({"nodes": "x"}, "method.nodes = 'x'"),
     ({"nodes": 0}, "method.nodes = 0: need a whole number from 1"), ({"nodes": 10**9}, "method.nodes = 1000000000"),
     ({"end": "x"}, "method.end = 'x'"), ({"start": [5]}, "method.start"),
     ({"segments": 9}, "method.segments = 9: need a whole number from 1 to the 5 nodes")],
)  # fmt: skip
def test_a_card_whose_times_are_none_is_one_line(change, words, tmp_path):
    copy = tmp_path / "student"
    shutil.copytree(find("fashion-student"), copy)
    card = json.loads((copy / "model.json").read_text())
    card["training"]["recipe"]["method"] |= change
    (copy / "model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=words) as error:
        undrift.load(copy)
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)
