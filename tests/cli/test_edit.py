import numpy as np
import pytest
import torch
from PIL import Image

import undrift
from undrift.networks import UNet


@pytest.fixture(scope="module")
def generators(tmp_path_factory):
    """Models of grey and of coloured 8 x 8 images: of weights 0, which makes them the exact ones of N(0, 0.25)."""
    home, made = tmp_path_factory.mktemp("models"), {}
    for name, channels in (("grey", 1), ("colour", 3)):
        network = UNet((8, 8), (1, 1), in_channels=channels, cond_channels=0, classes=2, embedding=8)
        torch.nn.utils.vector_to_parameters(
            torch.zeros(sum(p.numel() for p in network.parameters())), network.parameters()
        )
        denoiser = undrift.Denoiser(network, undrift.VP(), undrift.prediction.velocity(0.5), scale=0.5)
        facts = {"shape": [channels, 8, 8], "classes": ["cat", "dog"]}
        undrift.save(home / name, denoiser, undrift.Pixels(), facts)
        made[name] = str(home / name)
    return made


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        picture.save(tmp_path / f"{name}.png")
        picture.convert("L").save(tmp_path / f"grey-{name}.png")
    Image.fromarray(np.zeros((9, 8), dtype=np.uint8)).save(tmp_path / "large.png")
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:5, 3:6] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(0 * mask).save(tmp_path / "black.png")
    return tmp_path


def tiles(path, count):
    """The images of the one row of a sheet."""
    row = np.asarray(Image.open(path).convert("RGB")).astype(float) / 255
    return [row[:, 10 * i : 10 * i + 8] for i in range(count)]


def test_inpainting_keeps_what_is_known(undrift_, generators, pictures):
    code, _, error = undrift_(
        "edit", "inpaint", "a.png", "--mask", "mask.png", "--model", generators["colour"],
        "--samples", "2", "--steps", "4",
    )  # fmt: skip
    assert code == 0, error
    original, hole, first, second = tiles(pictures / "edited.png", 4)
    known = np.ones((8, 8), dtype=bool)
    known[2:5, 3:6] = False
    assert np.array_equal(hole[known], original[known])
    assert np.array_equal(first[known], original[known])
    assert not np.allclose(first[~known], original[~known])
    assert not np.allclose(first[~known], second[~known])


def test_colours_have_the_grey_that_was_given(undrift_, generators, pictures):
    code, _, error = undrift_(
        "edit", "colourise", "a.png", "--model", generators["colour"], "--samples", "1", "--steps", "8", "-o", "c.png",
    )  # fmt: skip
    assert code == 0, error
    original, grey, coloured = tiles(pictures / "c.png", 3)
    luma = original @ np.array([0.299, 0.587, 0.114])
    assert np.allclose(grey[..., 0], luma, atol=1 / 255)
    inside = ((coloured > 0.01) & (coloured < 0.99)).all(-1)  # where nothing was clipped
    assert inside.any()
    assert np.allclose((coloured @ np.array([0.299, 0.587, 0.114]))[inside], luma[inside], atol=0.03)


def test_interpolation_starts_and_ends_at_the_images(undrift_, generators, pictures):
    code, _, error = undrift_(
        "edit", "interpolate", "grey-a.png", "grey-b.png", "--model", generators["grey"],
        "--samples", "3", "--label", "dog",
    )  # fmt: skip
    assert code == 0, error
    row = tiles(pictures / "edited.png", 5)
    for end, name in ((row[0], "a"), (row[-1], "b")):
        given = np.asarray(Image.open(pictures / f"grey-{name}.png")) / 255
        assert np.allclose(end[..., 0], given, atol=1 / 255)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["paint", "a.png"], "'paint'"),
        (["inpaint", "large.png"], "8 x 9 pixels"),
        (["inpaint", "a.png"], "in colour, but the model makes grey images"),
        (["inpaint", "grey-a.png", "--mask", "black.png"], "nothing is to be filled in"),
        (["inpaint", "a.png", "-o", "a.png"], "overwrite"),
        (["colourise", "a.png"], "makes grey images"),
        (["colourise", "a.png", "--mask", "mask.png"], "--mask"),
        (["interpolate", "a.png"], "give two"),
        (["inpaint", "none.png"], "none.png"),
    ],
)
def test_bad_values_are_one_line(undrift_, generators, pictures, arguments, words):
    code, _, error = undrift_("edit", *arguments, "--model", generators["grey"], "--steps", "1", "--samples", "1")
    assert code == 2
    assert len(error) == 1
    assert words in error[0]


def test_a_bad_image_of_several_is_told_and_the_others_are_edited(undrift_, generators, pictures):
    rest = ("--model", generators["grey"], "--steps", "1", "--samples", "1")
    code, lines, errors = undrift_("edit", "inpaint", "none.png", "grey-a.png", "large.png", "grey-b.png", *rest)
    assert code == 2
    assert ["none.png" in errors[0], "large.png" in errors[1], len(errors)] == [True, True, 2]
    assert lines[-2:] == ["2 of 4 photographs edited into edited.png", "inpaint: 2 x 3 images in edited.png"]
    both = np.asarray(Image.open(pictures / "edited.png"))
    for row, name in enumerate(("a", "b")):
        given = np.asarray(Image.open(pictures / f"grey-{name}.png"))
        assert np.array_equal(both[10 * row : 10 * row + 8, :8], given)
    code, lines, errors = undrift_("edit", "inpaint", "none.png", "large.png", "-o", "no.png", *rest)
    assert (code, len(errors), (pictures / "no.png").exists()) == (2, 2, False)
    code, lines, errors = undrift_("edit", "colourise", "grey-a.png", "grey-b.png", *rest)  # no image would do
    assert (code, lines, len(errors)) == (2, [], 1)


def test_likelihood_of_images_in_bits(undrift_, generators, pictures):
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    np.savez(pictures / "set.npz", x_train=images, y_train=[0, 1, 1], x_test=images, y_test=[0, 1, 1])
    for i, image in enumerate(images):
        (pictures / "folder").mkdir(exist_ok=True)
        Image.fromarray(image).save(pictures / "folder" / f"{i}.png")
    common = ("--model", generators["grey"], "--tolerance", "1e-3", "--probes", "2")
    code, packed, error = undrift_("likelihood", "set.npz", *common)
    assert code == 0, error
    _, loose, _ = undrift_("likelihood", "folder", *common, "--batch", "2")
    numbers = [[float(word) for word in line.split()[1:3]] for line in packed[1:4]]
    assert np.allclose(numbers, [[float(word) for word in line.split()[1:3]] for line in loose[1:4]], rtol=1e-4)
    nats, bits = np.array(numbers).T
    z = 2 * (images + 0.5) / 256 - 1  # log N(z; 0, 0.25) (2/256)^64, but for the place within a level
    exact = (-2 * z**2 - 0.5 * np.log(0.5 * np.pi) + np.log(2 / 256)).sum((1, 2))
    assert np.allclose(nats, exact, rtol=2e-3)
    assert np.allclose(bits, -nats / (64 * np.log(2)), atol=1e-3)
    assert packed[-1].startswith("mean of 3: ")


def test_likelihood_of_the_wrong_size_is_refused(undrift_, generators, pictures):
    code, _, error = undrift_("likelihood", "large.png", "--model", generators["grey"])
    assert code == 2
    assert "8 x 9 pixels" in error[0]
