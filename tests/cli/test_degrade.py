import os

import numpy as np
import pytest
import torch
from PIL import Image

from undrift.data import Degraded, Paired, read
from undrift.degradations import TASKS


@pytest.fixture
def photographs(photograph, tmp_path):
    for i in range(3):
        photograph(tmp_path / "in" / ("deep" if i else ".") / f"{i}.png", 40, 36 + i, seed=i)
    return tmp_path / "in"


def test_pairs_are_those_of_the_data_set(undrift_, photographs):
    """(seed, index, task) names the random numbers: the files hold what evaluation makes on the fly."""
    code, lines, errors = undrift_("degrade", "in", "-o", "pairs", "--task", "all", "--paired", "--seed", 4)
    assert (code, errors) == (0, [])
    assert lines[-1] == "3 of 3 photographs degraded into pairs"
    written = Paired("pairs", tuple(TASKS))
    made = Degraded(photographs, TASKS, seed=4)
    assert len(written) == len(made) == 30
    theirs = {(pair.task, pair.name): pair for pair in (made[i] for i in range(30))}
    for pair in (written[i] for i in range(30)):
        expected = theirs[pair.task, pair.name]
        torch.testing.assert_close(pair.y, expected.y, rtol=0, atol=0.5001 / 255)
        torch.testing.assert_close(pair.x, expected.x, rtol=0, atol=0)


def test_one_task_keeps_folders_and_is_seeded(undrift_, photographs, tmp_path):
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert undrift_("degrade", "in", "-o", out, "--task", "noisy", "--seed", seed)[0] == 0
    assert sorted(os.listdir("a/deep")) == ["1.noisy.png", "2.noisy.png"]
    a, b, c = ((tmp_path / out / "0.noisy.png").read_bytes() for out in "abc")
    assert a == b != c


def test_a_picture_keeps_its_kind(undrift_, photograph, tmp_path):
    grey = photograph(tmp_path / "x.png")[..., 0]
    Image.fromarray(np.dstack([grey, grey])).save(tmp_path / "grey.png")
    assert undrift_("degrade", "grey.png", "-o", "out", "--task", "rainy") == (
        0,
        ["grey.png -> out/grey.rainy.png"],
        [],
    )
    out = read("out/grey.rainy.png")
    assert out.grey
    assert torch.equal(out.alpha, read("grey.png").alpha)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("in -o out --task nosy", "unknown task 'nosy': did you mean noisy? There are motion-blurry, hazy, jpeg-"),
        ("in -o out --task xyz", f"unknown task 'xyz': There are {', '.join(TASKS)}, all"),
        ("gone -o out --task noisy", "no such file or folder: gone"),
        ("in -o in/0.png --task noisy", "cannot write to the folder in/0.png"),
    ],
)
def test_what_is_wrong_is_one_line(undrift_, photographs, argv, line):
    code, out, errors = undrift_("degrade", *argv.split())
    assert (code, out, len(errors)) == (2, [], 1)
    assert errors[0].startswith(f"undrift: {line}")


def test_a_broken_photograph_does_not_stop_the_rest(undrift_, photographs):
    (photographs / "bad.png").write_bytes(b"\x89PNG")
    code, lines, errors = undrift_("degrade", "in", "-o", "out", "--task", "low-light")
    assert (code, lines[-1], len(errors)) == (2, "3 of 4 photographs degraded into out", 1)
    assert errors[0].startswith("undrift: in/bad.png: ")
