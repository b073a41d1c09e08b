"""`undrift restore` writes what `restoration.restore` returns, for any file, and stops at nothing."""

import io
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from undrift.cli import restorer
from undrift.cli.manifest import FILE
from undrift.cli.model import open_model as load
from undrift.cli.restorer import Restorer
from undrift.data import read, write
from undrift.restoration import restore

FAST = ("--steps", 2)


def by_hand(model, path, like, **options):
    """What the file should hold, 8 or 16 bits, through the API."""
    photo = read(path)
    result = restore(*load(model), photo.pixels, **{"steps": 2} | options)
    write(like, result.image, like=photo)
    return np.asarray(Image.open(like)), result


def test_a_photograph_comes_back_as_the_api_says(undrift_, photograph, model, tmp_path):
    photograph(tmp_path / "in.png", 70, 90)
    options = ("--solver", "sde-2", "--seed", 3, "--tile", 48)
    code, lines, errors = undrift_("restore", "in.png", "-o", "new/out.png", "--model", model, *FAST, *options)
    assert (code, errors, len(lines)) == (0, [], 1)
    assert lines[0].startswith("in.png -> new/out.png  90 x 70, 2 evaluations, ")
    expected, _ = by_hand(model, "in.png", "hand.png", solver="sde-2", seed=3, tile=48, overlap=24)
    np.testing.assert_array_equal(np.asarray(Image.open("new/out.png")), expected)
    text = Image.open("new/out.png").text
    assert text.pop("Software").startswith("undrift ")
    assert text == {"model": model, "steps": "2", "solver": "sde-2", "seed": "3", "samples": "1"}


def test_neither_mates_nor_repetition_change_a_photograph(undrift_, photograph, model, tmp_path):
    for i in range(3):
        photograph(tmp_path / "in" / "deep" / f"{i}.png", 20 + i, 30, seed=i)
    assert undrift_("restore", "in", "-o", "all", "--model", model, *FAST)[0] == 0
    assert undrift_("restore", "in/deep/1.png", "-o", "alone", "--model", model, *FAST)[0] == 0
    assert undrift_("restore", "in", "-o", "all", "--model", model, *FAST)[0] == 0  # over what is there
    assert sorted(os.listdir("all/deep")) == ["0.png", "1.png", "2.png"]
    assert (tmp_path / "all/deep/1.png").read_bytes() == (tmp_path / "alone/1.png").read_bytes()


def kinds(tmp_path, photograph):
    """name -> (mode in, size in) and writes the files."""
    rgb = photograph(tmp_path / "in" / "rgb.jpg")
    grey = rgb[..., 0]
    pictures = {
        "alpha.png": Image.fromarray(np.dstack([rgb, grey])),
        "grey.png": Image.fromarray(grey),
        "deep.tif": Image.fromarray(grey.astype(np.uint16) * 257),
        "cmyk.jpg": Image.fromarray(rgb).convert("CMYK"),
        "palette.gif": Image.fromarray(rgb).quantize(8),
        "black.png": Image.fromarray(grey > 100),
        "pixel.png": Image.new("RGB", (1, 1), (10, 200, 30)),
        "thin.webp": Image.fromarray(rgb).resize((61, 2)),
        "UPPER.JPG": Image.fromarray(rgb),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / "in" / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgb).save(tmp_path / "in" / "turned.jpg", exif=exif)
    return ["rgb.jpg", "turned.jpg", *pictures]


def test_every_kind_of_file_keeps_its_kind(undrift_, photograph, model, tmp_path):
    names = kinds(tmp_path, photograph)
    code, lines, errors = undrift_("restore", "in", "-o", "out", "--model", model, *FAST)
    assert (code, errors) == (0, [])
    assert lines[-1] == f"{len(names)} of {len(names)} photographs restored into out"
    outputs = {name: Image.open(tmp_path / "out" / name.replace(".gif", ".png")) for name in names}
    modes = {name: picture.mode for name, picture in outputs.items()}
    others = {"alpha.png": "RGBA", "grey.png": "L", "deep.tif": "I;16", "black.png": "L"}
    assert modes == dict.fromkeys(names, "RGB") | others
    assert outputs["turned.jpg"].size == (20, 28)
    assert outputs["pixel.png"].size == (1, 1)
    alpha = np.asarray(Image.open(tmp_path / "in/alpha.png"))[..., 3]
    np.testing.assert_array_equal(np.asarray(outputs["alpha.png"])[..., 3], alpha)
    for name in ("alpha.png", "deep.tif", "thin.webp", "turned.jpg"):
        hand, _ = by_hand(model, tmp_path / "in" / name, tmp_path / f"hand{os.path.splitext(name)[1]}")
        np.testing.assert_array_equal(np.asarray(outputs[name]), hand)


def test_samples_give_their_mean_and_spread(undrift_, photograph, model, tmp_path):
    photograph(tmp_path / "in.jpg")
    code, lines, _ = undrift_("restore", "in.jpg", "-o", "out", "--model", model, *FAST, "--samples", 3, "--seed", 5)
    assert (code, sorted(os.listdir("out"))) == (0, ["in.jpg", "in.spread.png"])
    assert "2 evaluations x 3 samples" in lines[0]
    mean, result = by_hand(model, "in.jpg", "hand.jpg", samples=3, seed=5)
    np.testing.assert_array_equal(np.asarray(Image.open("out/in.jpg")), mean)
    with Image.open("out/in.spread.png") as spread:
        shown = np.asarray(spread) / 65535 * float(spread.text["white"])
    np.testing.assert_allclose(shown, result.spread[0], atol=1e-5 * result.spread.max().item())
    assert result.spread.max() > 1e-5  # the samples differ


def spoil(tmp_path):
    """Files that are no photographs; name -> what is said of it."""
    (tmp_path / "in" / "notes.png").write_text("not an image")
    (tmp_path / "in" / "empty.jpg").write_bytes(b"")
    whole = (tmp_path / "in" / "a.jpg").read_bytes()
    (tmp_path / "in" / "half.jpg").write_bytes(whole[:-30])
    return {
        "empty.jpg": "an empty file",
        "half.jpg": "damaged or truncated image (",
        "notes.png": "not an image that Pillow can read",
    }


def test_broken_files_are_named_and_the_rest_is_done(undrift_, photograph, model, tmp_path):
    photograph(tmp_path / "in" / "a.jpg")
    photograph(tmp_path / "in" / "z.png")
    broken = spoil(tmp_path)
    code, lines, errors = undrift_("restore", "in", "-o", "out", "--model", model, *FAST)
    assert code == 2
    assert sorted(os.listdir("out")) == [FILE, "a.jpg", "z.png"]
    assert lines[-1] == "2 of 5 photographs restored into out"
    assert len(errors) == 3
    for error, (name, line) in zip(errors, broken.items(), strict=True):
        assert error.startswith(f"undrift: in/{name}: {line}")
    code, lines, errors = undrift_("restore", "in/half.jpg", "-o", "out", "--model", model, *FAST)
    assert (code, lines, len(errors)) == (2, [], 1)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("odd"), FloatingPointError("nan")])
def test_whatever_one_photograph_raises_the_others_are_done(undrift_, photograph, model, tmp_path, monkeypatch, error):
    def sometimes(denoiser, space, y, **options):
        if y.shape[-1] == 29:
            raise error
        return restore(denoiser, space, y, **options)

    monkeypatch.delenv("UNDRIFT_DEBUG", raising=False)
    monkeypatch.setattr(restorer, "restore", sometimes)
    for i in range(3):
        photograph(tmp_path / "in" / f"{i}.png", width=28 + i)
    code, _, errors = undrift_("restore", "in", "-o", "out", "--model", model, *FAST)
    assert (code, len(errors), sorted(os.listdir("out"))) == (2, 1, [FILE, "0.png", "2.png"])
    assert errors[0].startswith("undrift: in/1.png: ")


def pickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Trap()))
    torch.save({"a": torch.zeros(1)}, tmp_path / "plain.pth")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("in.png -o out --model nowhere", "no model 'nowhere': neither a folder nor bundled"),
        ("in.png -o out --model evil.pt", "evil.pt: not opened, for such files can run code"),
        ("in.png -o out --model plain.pth", "plain.pth: not opened"),
        ("in.png -o out --model in.png", "in.png: a checkpoint is a folder with"),
        ("in.png -o out --model hollow", "hollow: no model.json there"),
        ("in.png -o out --model bent", "bent: weights.safetensors has"),
        ("in.png -o out --model {model} --solver ode2", "unknown solver 'ode2': did you mean ode-2? There are ode-1,"),
        ("in.png -o out --model {model} --task hazy", "task 'hazy': this model cannot be told, it judges by itself"),
        ("in.png -o out --task fog", "task 'fog': choose one of motion-blurry, hazy, "),
        ("in.png -o out --model {model} --device warp", "device 'warp' cannot be used:"),
        ("gone.png -o out --model {model}", "no such file or folder: gone.png"),
        ("hollow -o out --model {model}", "no images in hollow; looked for"),
        ("in.png -o in.png --model {model}", "in.png would overwrite the input in.png: give another -o"),
        ("in.png -o . --model {model}", "in.png would overwrite the input in.png: give another -o"),
        ("in.png -o in.png/x --model {model}", "cannot write to the folder in.png/x: "),
        ("in.png -o x.gif --model {model}", "x.gif: cannot write .gif: use one of .png .jpg"),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(undrift_, photograph, model, tmp_path, monkeypatch, argv, line):
    photograph(tmp_path / "in.png")
    pickled(tmp_path)
    (tmp_path / "hollow").mkdir()
    shutil.copytree(model, tmp_path / "bent")
    card = tmp_path / "bent" / "model.json"
    card.write_text(card.read_text().replace('"embedding": 128', '"embedding": 96'))
    monkeypatch.setattr(restorer, "restore", lambda *a, **k: pytest.fail("work was done"))
    code, out, errors = undrift_("restore", *argv.format(model=model).split())
    assert (code, out, len(errors)) == (2, [], 1)
    assert errors[0].startswith(f"undrift: {line}")
    assert not (tmp_path / "trapped").exists()
    assert not (tmp_path / "out").exists()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("samples", "sizes"), [(1, [(100, 70), (20, 20)]), (2, [(65, 100)])])
def test_the_bar_ends_where_it_should(photograph, model, tmp_path, monkeypatch, samples, sizes):
    jobs = {}
    for i, size in enumerate(sizes):
        photograph(tmp_path / f"{i}.png", *size)
        jobs[tmp_path / f"{i}.png"] = (tmp_path / f"{i}.out.png", tmp_path / f"{i}.spread.png")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    work = Restorer(model, *load(model), 3, "ode-2", 0, samples, 64)
    bar = work.progress(jobs)
    with bar:
        for path, files in jobs.items():
            work(path, files)
    assert bar.n == bar.total > 0
    assert "px/s" in terminal.getvalue()


def test_a_log_file_sees_no_bar(photograph, model, tmp_path, capsys):
    work = Restorer(model, *load(model), 1, "ode-2", 0, 1, 64)
    assert work.progress([]).disable
    assert capsys.readouterr().err == ""
