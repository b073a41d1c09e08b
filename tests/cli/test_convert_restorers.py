"""`undrift convert` of restorers, and `undrift restore` with what it wrote."""

import pickle

import irsde_files as files
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from undrift import load
from undrift.data import read
from undrift.restoration import restore

LAYOUTS = {
    "ir-sde": ("deraining", ()),
    "refusion": ("refusion", ()),
    "denoising": ("denoising-sigma25", ()),
    "wild-ir": ("wild-ir", ("--contexts", "told")),
    "da-clip": ("daclip", ()),
    "latent": ("latent-dehazing", ()),
}
TILED = ("ir-sde", "da-clip")
EXTRA = {"da-clip": ("--clip", "clip.pth"), "latent": ("--latent", "codes.pth")}


@pytest.fixture
def stored(tmp_path):
    """Every layout as a file NAME.pth, as the official loops save it."""
    for name in files.NETWORKS:
        torch.save(files.state(name), tmp_path / f"{name}.pth")
    return tmp_path


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_official_file_restores_a_photograph(undrift_, photograph, stored, name):
    preset, told = LAYOUTS[name]
    photograph(stored / "in.png", 21, 34 if name in TILED else 18)
    (stored / "told").mkdir()
    known = torch.randn(1, 16)
    save_file({"image_context": known}, stored / "told" / "in.safetensors")
    code, lines, errors = undrift_("convert", f"{name}.pth", "--preset", preset, "-o", "model", *EXTRA.get(name, ()))
    assert (code, errors, len(lines)) == (0, [], 1)
    code, lines, errors = undrift_("restore", "in.png", "-o", "out.png", "--model", "model", "--steps", 2, *told)
    assert (code, errors, len(lines)) == (0, [], 1)
    assert "2 evaluations" in lines[0]
    denoiser, space = load("model")
    contexts = {"image_context": known} if told else None
    expected = restore(denoiser, space, read("in.png").pixels, steps=2, contexts=contexts).image
    found = torch.from_numpy(np.array(Image.open("out.png"))).permute(2, 0, 1) / 255
    torch.testing.assert_close(found, expected, rtol=0, atol=0.51 / 255)
    code, lines, _ = undrift_("info", "model")
    assert code == 0
    assert any("converted from" in line and f"{name}.pth" in line for line in lines)
    if name in TILED:  # seams are tested elsewhere
        code, _, errors = undrift_("restore", "in.png", "-o", "t.png", "--model", "model", "--steps", 1, "--tile", 32)
        assert (code, errors) == (0, [])


def test_flags_in_the_place_of_a_preset(undrift_, stored):
    flags = ("--max-sigma", 25, "--steps", 50, "--schedule", "linear", "--eps", 0.01)
    assert undrift_("convert", "ir-sde.pth", *flags, "-o", "model")[0] == 0
    process = load("model")[0].process
    assert (process.lam, process.steps, process.schedule, process.eps) == (25 / 255, 50, "linear", 0.01)
    assert undrift_("convert", "ir-sde.pth", "--preset", "deraining", "--matched", "-o", "model")[0] == 0
    assert type(load("model")[0].prediction).__name__ == "Noise"


def test_a_folder_of_other_files_is_left_alone(undrift_, stored):
    (stored / "README.md").write_text("mine")
    code, _, errors = undrift_("convert", "ir-sde.pth", "--preset", "deraining", "-o", ".")
    assert (code, len(errors)) == (2, 1)
    assert "there are other files in it: name a new folder" in errors[0]
    assert (stored / "README.md").read_text() == "mine"
    for _ in range(2):  # an earlier model is replaced
        flags = ("--max-sigma", 25, "--steps", 50, "--schedule", "linear", "--eps", 0.01)
        code, lines, _ = undrift_("convert", "ir-sde.pth", *flags, "-o", "model")
        assert code == 0
        assert lines[-1].endswith("of ir-sde.pth as max_sigma 25.0, steps 50, schedule linear, eps 0.01")


class Malice:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_what_goes_wrong_is_one_line(undrift_, photograph, stored):
    (stored / "notes.pth").write_text("not a checkpoint")
    torch.save({"init_conv.weight": Malice()}, stored / "malice.pth")
    torch.save({"model": {"module.all_modules.0.W": torch.zeros(1)}, "ema": {"decay": 1.0}}, stored / "score.pth")
    torch.save({"epoch": 1, "iter": 2, "schedulers": [], "optimizers": []}, stored / "7.state")
    torch.save([1, 2], stored / "list.pth")
    (stored / "page.pth").write_text("\n<!DOCTYPE html><title>Quota exceeded</title>")
    (stored / "page.safetensors").write_text("<html></html>")
    (stored / "raw.pth").write_bytes(pickle.dumps(Malice(), 4))
    known = ("--preset", "daclip")
    for arguments, words in (
        (("ir-sde.pth",), "which schedule was it trained with? The file does not say: give --preset NAME, one of der"),
        (("ir-sde.pth", "--preset", "dehaze"), "There are deraining"),
        (("ir-sde.pth", "--preset", "deraining", "--eps", "0"), "eps = 0.0"),
        (("ir-sde.pth", "--preset", "deraining", "--config", "vp/cifar10_ddpmpp"), "--config is for Score SDE"),
        (("none.pth", *known), "No such file"),
        (("notes.pth", *known), "damaged"),
        (("malice.pth", *known), "could run code"),
        (("score.pth", *known), "of Score SDE: give its --config"),
        (("7.state", *known), "give the file N_G.pth"),
        (("list.pth", *known), "no named tensors"),
        (("latent.pth", *known), "latent.pth: a network of 4 channels"),
        (("latent.pth", *known, "--latent", "ir-sde.pth"), "undrift: ir-sde.pth: not a network between images and"),
        (("page.pth", *known), "page.pth: a web page, not weights: download"),
        (("page.safetensors", *known), "page.safetensors: a web page, not weights: download"),
        (("raw.pth", *known), "raw.pth: "),
        (("ir-sde.pth", *known, "--max-sigma", -5), "max_sigma = -5: need a positive deviation"),
        (("da-clip.pth", *known, "--clip", "ir-sde.pth"), "ir-sde.pth: no image tower"),
        (("ir-sde.pth", *known, "--clip", "clip.pth"), "wants no context"),
    ):
        code, _, errors = undrift_("convert", *arguments, "-o", "model")
        assert (code, len(errors)) == (2, 1)
        assert words in errors[0]
        assert not (stored / "model").exists()
    photograph(stored / "in.png")
    assert undrift_("convert", "da-clip.pth", *known, "-o", "model")[0] == 0
    assert undrift_("convert", "ir-sde.pth", *known, "-o", "plain")[0] == 0
    save_file({"image_context": torch.zeros(1, 7)}, stored / "short.safetensors")
    (stored / "empty").mkdir()
    for arguments, words in (
        (("--model", "model"), "give --contexts, or convert it with its --clip"),
        (("--model", "model", "--contexts", "none"), "neither a .safetensors file nor a folder"),
        (("--model", "model", "--contexts", "empty"), "no contexts for in.png there"),
        (("--model", "model", "--contexts", "in.png"), "no .safetensors file"),
        (("--model", "model", "--contexts", "short.safetensors"), "degradation_context is missing"),
        (("--model", "plain", "--contexts", "short.safetensors"), "wants none"),
        (("--model", "plain", "--task", "hazy"), "it judges by itself"),
    ):
        code, _, errors = undrift_("restore", "in.png", "-o", "out.png", *arguments)
        assert (code, len(errors)) == (2, 1)
        assert words in errors[0]
