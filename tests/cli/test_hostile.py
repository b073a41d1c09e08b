"""Files that mean harm, or met with some: one line each, and all others are done."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from undrift.cli.manifest import FILE
from undrift.data import image, read


def png(width, height, data=b"\x00"):
    """A PNG that claims to be so large."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def outputs(folder):
    return sorted(name for name in os.listdir(folder) if name != FILE)


def test_hostile_files_are_one_line_each_and_the_rest_is_done(undrift_, photograph, tmp_path):
    home = tmp_path / "in"
    whole = [
        "a.png",
        "new\nline.png",
        "ünï☃.png",
        "-dash.png",
        "x..%2f.png",
        "wrong.gif",
        "pages.tif",
        "texts.png",
        "moving.gif",
    ]
    for name in whole:
        photograph(home / name, **({"format": "PNG"} if name == "wrong.gif" else {}))
    picture = Image.open(home / "a.png")
    picture.save(home / "pages.tif", save_all=True, append_images=[picture.rotate(90, expand=True)] * 3)
    picture.save(home / "moving.gif", save_all=True, append_images=[picture.rotate(180)] * 3)
    text = PngImagePlugin.PngInfo()
    text.add_text("long", "x" * 200_000)
    picture.save(home / "texts.png", pnginfo=text, exif=b"Exif\x00\x00" + b"\xff" * 60_000)
    bad = {
        "bomb.png": (
            png(50_000, 50_000),
            "more than 200 million pixels; if you trust it, set UNDRIFT_MEGAPIXELS higher",
        ),
        "claims.png": (png(9_000, 9_000), "damaged or truncated image"),
        "archive.png": (b"PK\x03\x04" + b"\x00" * 200, "not an image that Pillow can read"),
        "empty.png": (b"", "an empty file"),
        "half.png": ((home / "a.png").read_bytes()[:-400], "damaged or truncated image"),
        "text.jpg": (b"#!/bin/sh\necho", "not an image that Pillow can read"),
    }
    bomb = PngImagePlugin.PngInfo()
    bomb.add_text("zip", "x" * 80_000_000, zip=True)
    picture.save(home / "zipped.png", pnginfo=bomb)
    for name, (data, _) in bad.items():
        (home / name).write_bytes(data)
    (home / "folder.png").mkdir()
    os.symlink("loop.png", home / "loop.png")
    os.symlink("..", home / "up")
    os.symlink("gone", home / "dangling.png")
    os.mkfifo(home / "pipe.png")
    code, lines, errors = undrift_("degrade", "in", "-o", "out", "--task", "noisy")
    assert code == 2
    assert all(line.isprintable() for line in lines + errors)
    bad["zipped.png"] = (b"", "damaged or truncated image")
    assert sorted(Path(e.removeprefix("undrift: ").partition(": ")[0]).name for e in errors) == sorted(bad)
    for name, (_, words) in bad.items():
        assert any(f"in/{name}: {words}" in error for error in errors), name
    assert outputs("out") == sorted(f"{Path(name).stem}.noisy.png" for name in whole)
    assert lines[-1] == f"{len(whole)} of {len(whole) + len(bad)} photographs degraded into out"
    assert read("out/pages.noisy.png").pixels.shape == read(home / "a.png").pixels.shape
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


@pytest.mark.parametrize("name", ["pipe.png", "/dev/zero", "loop.png"])
def test_what_is_no_file_is_not_waited_for(undrift_, tmp_path, name):
    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("loop.png", tmp_path / "loop.png")
    code, _, errors = undrift_("degrade", name, "-o", "out", "--task", "noisy")
    assert (code, len(errors)) == (2, 1)


def test_the_limit_can_be_raised_and_lowered(tmp_path, monkeypatch):
    Image.new("L", (1200, 1000)).save(tmp_path / "a.png")
    monkeypatch.setenv("UNDRIFT_MEGAPIXELS", "1.1")
    with pytest.raises(
        ValueError, match=r"more than 1.1 million pixels; if you trust it, set UNDRIFT_MEGAPIXELS higher"
    ):
        read(tmp_path / "a.png")
    monkeypatch.setenv("UNDRIFT_MEGAPIXELS", "1.3")
    assert read(tmp_path / "a.png").pixels.shape == (3, 1000, 1200)
    for text in ("many", "-1", "nan", "inf", "0"):
        monkeypatch.setenv("UNDRIFT_MEGAPIXELS", text)
        with pytest.raises(ValueError, match=r"UNDRIFT_MEGAPIXELS=.*need a positive number"):
            read(tmp_path / "a.png")
    monkeypatch.delenv("UNDRIFT_MEGAPIXELS")
    assert image._limit() >= 100_800_000


def test_a_file_that_vanishes_or_memory_that_ends_stops_nothing(undrift_, photograph, tmp_path, monkeypatch):
    for i in range(4):
        photograph(tmp_path / "in" / f"{i}.png", seed=i)
    real, seen = Image.open, []

    def open_(path, *words, **more):
        seen.append(path)
        if Path(path).name == "1.png":
            (tmp_path / "in" / "2.png").unlink()
            raise MemoryError
        return real(path, *words, **more)

    monkeypatch.setattr(image.Image, "open", open_)
    code, lines, errors = undrift_("degrade", "in", "-o", "out", "--task", "noisy")
    assert (code, lines[-1]) == (2, "2 of 4 photographs degraded into out")
    assert outputs("out") == ["0.noisy.png", "3.noisy.png"]
    assert [error.rpartition(": ")[0] for error in errors][1] == "undrift: in/2.png"
    assert "memory" in errors[0]


def test_five_hundred_with_ten_broken(undrift_, tmp_path):
    """Here a tenth of it; docs/safety.md has the whole."""
    (tmp_path / "in").mkdir()
    numbers = np.random.default_rng(0)
    for i in range(50):
        Image.fromarray(numbers.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "in" / f"{i:03d}.png")
    for i in range(0, 50, 5):
        (tmp_path / "in" / f"{i:03d}.png").write_bytes(b"broken")
    code, lines, errors = undrift_("degrade", "in", "-o", "out", "--task", "noisy")
    assert (code, lines[-1], len(errors)) == (2, "40 of 50 photographs degraded into out", 10)
    assert len(outputs("out")) == 40
    assert undrift_("degrade", "in", "-o", "out", "--task", "noisy")[1] == [
        f"{lines[-1]}, 40 of them by an earlier run"
    ]
