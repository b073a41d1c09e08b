import numpy as np
import pytest
from PIL import Image

from undrift.cli.manifest import FILE


def read(path):
    return np.asarray(Image.open(path))


def test_a_folder_holds_each_image_and_the_picture(undrift_, generator, tmp_path):
    code, out, _ = undrift_("sample", "--model", generator, "--count", "4", "--steps", "2", "-o", "made")
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == [
        FILE,
        "000000-cat.png",
        "000001-dog.png",
        "000002-ant-bear.png",
        "000003-cat.png",
        "grid.png",
    ]
    assert read(tmp_path / "made" / "grid.png").shape == (18, 28)  # two rows of three 8 x 8, 2 px apart
    assert "4 images, 2 evaluations" in out[-1]


def test_an_image_depends_on_seed_and_class_alone(undrift_, generator, tmp_path):
    undrift_("sample", "--model", generator, "--count", "4", "--steps", "2", "-o", "many")
    undrift_(
        "sample", "--model", generator, "--count", "1", "--steps", "2", "--seed", "1", "--label", "DOG", "-o", "one"
    )
    assert np.array_equal(read(tmp_path / "many" / "000001-dog.png"), read(tmp_path / "one" / "000001-dog.png"))
    undrift_(
        "sample",
        "--model",
        generator,
        "--count",
        "1",
        "--steps",
        "2",
        "--guidance",
        "3",
        "--seed",
        "1",
        "--label",
        "1",
        "-o",
        "hot",
    )
    assert not np.array_equal(read(tmp_path / "hot" / "000001-dog.png"), read(tmp_path / "one" / "000001-dog.png"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--label", "cow"], "--label cow: choose one of cat, dog, ant bear"),
        (["--label", "3"], "--label 3"),
        (["--solver", "ode-7"], "ode-7"),
        (["--temperature", "-1"], "temperature = -1.0"),
        (["--count", "0"], "'0'"),
        (["--guidance", "nan"], "--guidance nan"),
        (["-o", "made.txt"], "cannot write .txt"),
        (["--size", "3"], "--size 3: need at least 4, one pixel"),
    ],
)
def test_bad_values_are_one_line(undrift_, generator, arguments, words):
    code, _, error = undrift_("sample", "--model", generator, "--steps", "1", "--count", "1", *arguments)
    assert code == 2
    assert words in error[-1]
    assert len(error) == 1


def test_a_size_that_the_network_sees_is_made(undrift_, generator, tmp_path):
    """Two levels, the first of pixels folded 2 x 2: the coarsest pixel is 4 x 4; and no multiple is needed."""
    for side in (4, 9):
        code, _, error = undrift_("sample", "--model", generator, "--count", "1", "--steps", "1", "--size", side)
        assert code == 0, error
        assert read(tmp_path / "samples.png").shape == (side, side)


def test_a_restorer_is_refused(undrift_, model):
    code, _, error = undrift_("sample", "--model", model)
    assert code == 2
    assert "undrift restore" in error[0]
