"""Every kind of file survives the way in and out; every kind of bad file gets one line."""

import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from undrift.data import Photo, find_images, read, write

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)


def make(mode):
    im = Image.fromarray(RGB)
    if mode == "RGBA":
        im.putalpha(Image.fromarray(RGB[..., 0]))
    elif mode == "LA":
        im = im.convert("L")
        im.putalpha(Image.fromarray(RGB[..., 1]))
    else:
        im = im.convert(mode)
    return im


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_png_mode_round_trips_exactly(tmp_path, mode):
    im = make(mode)
    im.save(tmp_path / "in.png")
    photo = read(tmp_path / "in.png")
    assert photo.grey == (mode in ("1", "L", "LA"))
    assert (photo.alpha is not None) == (mode in ("LA", "RGBA"))
    write(tmp_path / "out.png", photo.pixels, like=photo)
    out = Image.open(tmp_path / "out.png")
    assert out.mode == {"1": "L", "P": "RGB"}.get(mode, mode)
    np.testing.assert_array_equal(np.asarray(out.convert("RGBA")), np.asarray(im.convert("RGBA")))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_16_bit_is_kept(tmp_path, suffix):
    deep = RNG.integers(0, 65536, (6, 9), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    photo = read(tmp_path / "deep.png")
    assert photo.bits == 16
    assert photo.grey
    torch.testing.assert_close(photo.pixels[2], torch.from_numpy(deep / 65535.0).float())
    write(tmp_path / f"out{suffix}", photo.pixels, like=photo)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"out{suffix}")), deep)


def test_palette_with_transparent_colour(tmp_path):
    im = Image.new("P", (2, 1))
    im.putpalette([255, 0, 0, 0, 255, 0])
    im.putpixel((1, 0), 1)
    im.save(tmp_path / "p.png", transparency=1)
    photo = read(tmp_path / "p.png")
    assert photo.alpha is not None
    assert photo.alpha.flatten().tolist() == [1.0, 0.0]
    assert photo.pixels[:, 0, 1].tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    im = Image.fromarray(RGB)
    im.save(tmp_path / "a.png", exif=exif)
    want = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
    photo = read(tmp_path / "a.png")
    np.testing.assert_array_equal((photo.pixels * 255).round().permute(1, 2, 0).numpy(), np.asarray(want))
    assert photo.pixels.shape[1:] == ((7, 5) if orientation <= 4 else (5, 7))
    write(tmp_path / "b.png", photo.pixels, like=photo)
    assert Image.open(tmp_path / "b.png").getexif().get(0x0112) is None  # upright, and says nothing else


def test_unreadable_exif_is_no_obstacle(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=b"garbage")
    np.testing.assert_array_equal((read(tmp_path / "a.png").pixels * 255).round().permute(1, 2, 0).numpy(), RGB)


def test_cmyk_jpeg_without_profile(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    torch.testing.assert_close(read(tmp_path / "c.jpg").pixels[:, 3, 3], torch.tensor([1.0, 0, 0]), atol=0.02, rtol=0)


def test_broken_cmyk_profile_falls_back(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "c.tif", icc_profile=b"nonsense")
    photo = read(tmp_path / "c.tif")
    assert photo.icc is None
    assert photo.pixels.min() == 1


def test_lab_becomes_srgb(tmp_path):
    ramp = Image.fromarray(np.add.outer(np.arange(60, 130, 5), np.arange(0, 70, 5)).astype(np.uint8))
    rgb = Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180)))
    srgb, lab = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
    ImageCms.profileToProfile(rgb, srgb, lab, outputMode="LAB").save(tmp_path / "lab.tif")
    got = read(tmp_path / "lab.tif").pixels.permute(1, 2, 0).numpy() * 255
    assert np.abs(got - np.asarray(rgb)).mean() < 2  # 8-bit LAB is coarse


def test_icc_profile_is_given_back(tmp_path):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=icc)
    photo = read(tmp_path / "a.png")
    for suffix in ("png", "jpg", "webp", "tif"):
        write(tmp_path / f"b.{suffix}", photo.pixels, like=photo)
        assert Image.open(tmp_path / f"b.{suffix}").info["icc_profile"] == icc


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read(tmp_path / "a.gif").pixels[:, 0, 0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "bmp"])
def test_lossless_formats_and_one_pixel(tmp_path, suffix):
    for shape in ((1, 1), (1, 33), (17, 3)):
        x = torch.rand(3, *shape).mul(255).round() / 255
        write(tmp_path / f"a.{suffix}", x)
        torch.testing.assert_close(read(tmp_path / f"a.{suffix}").pixels, x)


def test_alpha_on_white_where_the_format_has_none(tmp_path):
    photo = Photo(torch.zeros(3, 8, 8), torch.zeros(1, 8, 8))
    write(tmp_path / "a.jpg", photo.pixels, like=photo)
    assert read(tmp_path / "a.jpg").pixels.min() > 0.99


def test_text_chunks_and_clamping(tmp_path):
    write(tmp_path / "a.png", torch.full((3, 2, 2), 1.5), text={"undrift": "steps 8, θ"})
    im = Image.open(tmp_path / "a.png")
    assert im.text == {"undrift": "steps 8, θ"}
    assert im.getpixel((0, 0)) == (255, 255, 255)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_bad_files_get_one_line(tmp_path):
    rgb = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for suffix in ("png", "jpg", "webp", "tif", "gif"):
        rgb.save(tmp_path / f"whole.{suffix}")
        data = (tmp_path / f"whole.{suffix}").read_bytes()
        bad = tmp_path / f"cut.{suffix}"
        bad.write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match="cut") as error:
            read(bad)
        one_line(error)
    for name, data, what in (("t.png", b"hello", "not an image"), ("e.jpg", b"", "empty")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=what) as error:
            read(tmp_path / name)
        assert name in one_line(error)
    with pytest.raises(OSError, match=r"cannot read .*none\.png") as missing:
        read(tmp_path / "none.png")
    one_line(missing)


def test_bomb_is_refused_before_decoding(tmp_path):
    rgb = Image.fromarray(RGB)
    rgb.save(tmp_path / "a.png")
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match=r"a\.png: more than .* set UNDRIFT_MEGAPIXELS") as error:
        read(tmp_path / "a.png", limit=34)
    one_line(error)
    assert read(tmp_path / "a.png", limit=35).pixels.shape == (3, 7, 5)
    assert before == Image.MAX_IMAGE_PIXELS


def test_bad_writes_get_one_line_and_leave_nothing(tmp_path):
    x = torch.rand(3, 4, 4)
    with pytest.raises(ValueError, match=r"unknown suffix '\.xyz'") as error:
        write(tmp_path / "a.xyz", x)
    one_line(error)
    with pytest.raises(ValueError, match="finite"):
        write(tmp_path / "a.png", x / 0 * 0)
    (tmp_path / "file").write_text("")
    for folder in ("missing", "file"):
        with pytest.raises(OSError, match=r"cannot write .*a\.png") as failed:
            write(tmp_path / folder / "a.png", x)
        one_line(failed)
    (tmp_path / "d.png").mkdir()
    with pytest.raises(OSError, match="cannot write"):  # the rename fails: the target is a folder
        write(tmp_path / "d.png", x)
    assert sorted(os.listdir(tmp_path)) == ["d.png", "file"]


def test_find_images(tmp_path):
    for name in ("b.JPG", "a.png", "sub/c.webp", ".hidden.png", ".git/d.png", "notes.txt", "sub/x.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    names = [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path)]
    assert names == ["a.png", "b.JPG", "sub/c.webp"]
    assert find_images([tmp_path / "notes.txt", str(tmp_path / "sub")]) == [
        tmp_path / "notes.txt",
        tmp_path / "sub/c.webp",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no images in .*empty"):
        find_images(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_images([tmp_path / "nowhere"])
