"""undrift sample on folders of diffusers: with a prompt, by class, unconditional, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from interop import tiny


@pytest.fixture(scope="module")
def textual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd")
    tiny.stable_diffusion(folder).save_pretrained(folder / "pipeline")
    return str(folder / "pipeline")


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("classes"))
    tiny.unconditional(num_class_embeds=3).save_pretrained(folder)
    return folder


def read(path):
    return np.asarray(Image.open(path))


def test_a_prompt_is_heard_and_an_image_is_its_seeds(undrift_, textual, tmp_path):
    given = ("sample", "--model", textual, "--steps", "2", "--guidance", "3", "-o")
    code, out, err = undrift_(*given, "many/", "--prompt", "a rose", "--count", "2")
    assert (code, err) == (0, [])
    assert "2 images, 2 evaluations each with ode-2c" in out[-1]
    undrift_(*given, "one/", "--prompt", "a rose", "--count", "1", "--seed", "1")
    undrift_(*given, "other/", "--prompt", "blue", "--count", "1", "--seed", "1")
    undrift_(*given, "turned/", "--prompt", "a rose", "--negative", "blue", "--count", "1", "--seed", "1")
    many, one, other, turned = (read(tmp_path / d / "000001.png") for d in ("many", "one", "other", "turned"))
    assert many.shape == (16, 16, 3)
    assert np.array_equal(many, one)
    assert (one != other).mean() > 0.1
    assert (one != turned).mean() > 0.1
    _, out, _ = undrift_(*given, "many/", "--prompt", "a rose", "--count", "2")
    assert "(2 of them by an earlier run)" in out[-1]  # and of another prompt, it is refused or made anew
    undrift_(*given, "many/", "--prompt", "blue", "--count", "2")
    assert np.array_equal(read(tmp_path / "many" / "000001.png"), other)


def test_commands_that_take_no_pipeline_say_so(undrift_, textual, photograph, tmp_path):
    photograph(tmp_path / "in.png", 16, 16)
    for words, line in (
        (("info", textual), "a pipeline of diffusers, which undrift sample"),
        (("restore", "in.png", "-o", "out.png", "--model", textual), "a pipeline of diffusers, which undrift sample"),
        (("likelihood", "in.png", "--model", textual), "a model of codes"),
    ):
        code, _, err = undrift_(*words)
        assert (code, len(err)) == (2, 1)
        assert line in err[0]


def test_guidance_needs_a_class_for_none(undrift_, classes):
    code, _, err = undrift_("sample", "--model", classes, "--guidance", "4", "-o", "made.png")
    assert (code, len(err)) == (2, 1)
    assert "--guidance 4: this pipeline names no class for none" in err[0]


def test_classes_and_sizes(undrift_, classes, tmp_path):
    code, out, _ = undrift_("sample", "--model", classes, "--steps", "2", "--size", "16", "-o", "made/")
    assert code == 0
    assert "4 images" in out[-1]
    assert sorted(p.name for p in (tmp_path / "made").glob("0*.png")) == [
        "000000-0.png",
        "000001-1.png",
        "000002-2.png",
        "000003-0.png",
    ]
    assert read(tmp_path / "made" / "000000-0.png").shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("textual", [], "say what to make with --prompt"),
        ("textual", ["--prompt", "a", "--guidance", "nan"], "need a finite number"),
        ("textual", ["--prompt", "a", "--size", "10"], "need a multiple of 4"),
        ("classes", ["--prompt", "a"], "reads no text"),
        ("classes", ["--negative", "a"], "reads no text"),
        ("fashion", ["--prompt", "a"], "reads no text"),
    ],
)
def test_what_does_not_fit_is_one_line(undrift_, request, model, given, message):
    name = model if model == "fashion" else request.getfixturevalue(model)
    code, _, err = undrift_("sample", "--model", name, "--steps", "1", *given)
    assert code == 2
    assert len(err) == 1
    assert message in err[0]


def test_a_damaged_folder_is_one_line(undrift_, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model_index.json").write_text("{")
    code, _, err = undrift_("sample", "--model", "bad")
    assert (code, len(err)) == (2, 1)
    (tmp_path / "bad" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "unet": ["a", "b"]}')
    code, _, err = undrift_("sample", "--model", "bad")
    assert (code, len(err)) == (2, 1), err
