"""Tar shards and data sets of Hugging Face: one deterministic order, taken up anywhere, and nothing trusted."""

import io
import json
import tarfile
import warnings
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from undrift.data import restoration_batches
from undrift.data.collection import Pictures, collection, is_collection
from undrift.data.stream import order, streamed_batches

COUNTS = (5, 3, 6)


def png(value, side=12):
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """14 images of one shade each, their number, written by the library that such files are named after."""
    wds = pytest.importorskip("webdataset")
    folder, number = tmp_path_factory.mktemp("shards"), 0
    for shard, count in enumerate(COUNTS):
        with wds.TarWriter(str(folder / f"s-{shard:02d}.tar")) as writer:
            for _ in range(count):
                kinds = (
                    {"cls": str(number % 3).encode()}
                    if number % 2
                    else {"json": json.dumps({"label": number % 3}).encode()}
                )
                writer.write({"__key__": f"{number:04d}", "png": png(number), **kinds})
                number += 1
    return folder


def shades(batches):
    return [
        (round(float(x[0, 0, 0]) * 255), int(label))
        for b in batches
        for x, label in zip(b.x, b.cond["label"], strict=True)
    ]


def taken(source, count, start=0, **more):
    given = {"classes": 3, "flip": False, "drop": 0.0, "workers": 0, "mix": 2} | more
    return list(islice(streamed_batches(source, 8, 4, 7, start, **given), count))


def test_the_index_holds_what_the_library_reads(shards):
    wds = pytest.importorskip("webdataset")
    found = collection(f"{shards}/s-{{00..02}}.tar")
    assert found.groups == COUNTS
    assert collection(f"{shards}/*.tar").groups == COUNTS
    theirs = [
        sample["__key__"] for i in range(3) for sample in wds.WebDataset(f"{shards}/s-{i:02d}.tar", shardshuffle=False)
    ]
    assert [found.where(i).rpartition(": ")[2] for i in range(14)] == theirs
    for i in range(14):
        assert (found.image(i) == i).all()
        assert found.label(i) == i % 3


def test_an_epoch_has_each_image_once_and_few_files_at_a_time():
    first, second = order(COUNTS, 0, 1, mix=1).tolist(), order(COUNTS, 1, 1, mix=1).tolist()
    assert sorted(first) == sorted(second) == list(range(14))
    assert first != second
    homes = [0 if i < 5 else 1 if i < 8 else 2 for i in first]
    assert sum(a != b for a, b in pairwise(homes)) == 2  # one file after the other


def test_the_stream_goes_on_anywhere_on_any_number_of_processes(shards):
    source = collection(f"{shards}/*.tar")
    whole = taken(source, 9)  # over two epochs
    seen = shades(whole)
    assert sorted(seen[:14]) == [(i, i % 3) for i in range(14)]
    assert shades(taken(source, 4, start=5)) == seen[20:]
    assert shades(taken(source, 2, start=5, workers=2)) == seen[20:28]
    halves = [taken(source, 3, rank=rank, world=2, flip=True, drop=0.5) for rank in (0, 1)]
    for one, *parts in zip(taken(source, 3, flip=True, drop=0.5), *halves, strict=True):
        assert torch.equal(one.x, torch.cat([part.x for part in parts]))
        assert torch.equal(one.cond["label"], torch.cat([part.cond["label"] for part in parts]))


@pytest.fixture
def broken(tmp_path):
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for number in range(8):
            data = png(number)[:40] if number in (2, 5) else png(number)
            for kind, content in (("png", data), ("cls", b"1")):
                member = tarfile.TarInfo(f"../../{number}.{kind}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("9.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return tmp_path / "b.tar"


def test_damaged_images_are_passed_over_up_to_a_limit(broken):
    source = collection(str(broken))
    assert len(source) == 8  # the link is none, and nothing was written above the folder
    assert not list(broken.parent.parent.glob("*.png"))
    with pytest.warns(UserWarning, match=r"b.tar: ../../[25]: damaged image .*skipped, 1 of at most 2"):
        found = shades(taken(source, 4, corrupt=2))
    assert {shade for shade, _ in found} == {0, 1, 3, 4, 6, 7}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found == shades(taken(source, 2, corrupt=2)) + shades(taken(source, 2, start=2, corrupt=2))
        for workers in (0, 1):
            with pytest.raises(
                ValueError, match=r"^[^\n]*b.tar: ../../[25]: damaged [^\n]*more than data.corrupt = 1 are damaged$"
            ):
                taken(source, 3, corrupt=1, workers=workers)


def test_a_file_that_vanishes_is_one_line(broken):
    source = collection(str(broken))
    broken.unlink()
    with pytest.raises(OSError, match=r"No such file"):
        taken(source, 1)


def test_restorers_read_shards_too(shards):
    source = collection(f"{shards}/*.tar")
    images = Pictures(source, range(14), least=10)
    options = {"batch": 4, "crop": 8, "seed": 0, "workers": 0}
    whole = list(islice(restoration_batches(images, {"same": lambda x, g: x}, **options), 4))
    again = list(islice(restoration_batches(images, {"same": lambda x, g: x}, start=2, **options), 2))
    assert all(torch.equal(a.x, b.x) for a, b in zip(whole[2:], again, strict=True))
    with pytest.raises(ValueError, match="none of the 14 images has both sides >= 13"):
        Pictures(source, range(14), least=13)[0]


def test_a_data_set_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    cells = [{"bytes": png(i), "path": None} for i in range(6)] + [{"bytes": None, "path": "/etc/passwd"}]
    rows = datasets.Dataset.from_dict({"image": cells, "label": [i % 3 for i in range(7)]})
    rows.cast_column("image", datasets.Image()).save_to_disk(str(tmp_path / "set"))
    assert is_collection(tmp_path / "set")
    source = collection(tmp_path / "set")
    assert len(source) == 7
    with pytest.warns(UserWarning, match=r"row 6: .*skipped"):
        assert {shade for shade, _ in shades(taken(source, 4))} == set(range(6))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.tar", b"not a tar file at all" * 40, "not a readable tar file"), ("b.zip", b"", "need .tar files"),
     ("c.tar", None, "no files"), ("d.tar", b"\0" * 10240, "no images in 1 files")],
)  # fmt: skip
def test_what_is_no_collection_is_one_line(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as raised:
        collection(str(tmp_path / name))
    assert "\n" not in str(raised.value)
