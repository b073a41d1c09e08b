"""Captioned images: every layout holds the same, and the stream is a function of (seed, step)."""

import io
import json
import shutil
import tarfile
from itertools import islice

import pytest
import torch

from undrift.data.captioned import read_captioned, read_coco
from undrift.data.captioned_batches import captioned_batches


def beside(source, home):
    for i, caption in enumerate(read_captioned(source).captions):
        shutil.copy(source / f"{i:02d}.png", home)
        (home / f"{i:02d}.txt").write_text(caption + "\n")
    return home


def shards(source, home):
    """Two, as webdataset writes them."""
    data = read_captioned(source)
    for shard in range(2):
        with tarfile.open(home / f"{shard:05d}.tar", "w") as tar:
            for i in range(shard * 12, shard * 12 + 12):
                for suffix, content in (("png", (source / f"{i:02d}.png").read_bytes()),
                                        ("txt", data.captions[i].encode()), ("cls", b"7")):  # fmt: skip
                    member = tarfile.TarInfo(f"{i:02d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return home


def hugging_face(source, home):
    datasets = pytest.importorskip("datasets")
    paths = [str(source / f"{i:02d}.png") for i in range(24)]
    rows = datasets.Dataset.from_dict({"image": paths, "caption": list(read_captioned(source).captions)})
    rows.cast_column("image", datasets.Image()).save_to_disk(str(home / "rows"))
    return home / "rows"


def coco(source, home):
    captions = read_captioned(source).captions
    shutil.copytree(source, home / "images")
    notes = [{"id": 100 - k, "image_id": 7 * i, "caption": text} for i, caption in enumerate(captions)
             for k, text in enumerate(["another", caption])]  # fmt: skip
    images = [{"id": 7 * i, "file_name": f"{i:02d}.png"} for i in reversed(range(24))]
    (home / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return home / "captions.json"


@pytest.mark.parametrize("layout", [beside, shards, hugging_face, coco])
def test_every_layout_holds_the_same(captioned, tmp_path, layout):
    wanted, found = read_captioned(captioned), read_captioned(layout(captioned, tmp_path))
    assert found.captions == wanted.captions
    for i in (0, 13, 23):
        assert torch.equal(found.picture(i), wanted.picture(i))


def test_shards_are_what_webdataset_reads(captioned, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    home = shards(captioned, tmp_path)
    rows = list(webdataset.WebDataset([str(p) for p in sorted(home.glob("*.tar"))], shardshuffle=False).decode())
    assert [row["txt"] for row in rows] == list(read_captioned(home).captions)


def test_the_stream_goes_on_where_it_stopped_and_ranks_share_an_epoch(captioned):
    data = read_captioned(captioned)
    whole = list(islice(captioned_batches(data, 4, 8, 1), 4))
    rest = list(islice(captioned_batches(data, 4, 8, 1, start=2), 2))
    for (x, texts), (y, others) in zip(whole[2:], rest, strict=True):
        assert torch.equal(x, y)
        assert texts == others
    assert whole[0][0].shape == (4, 3, 8, 8)
    shares = [captioned_batches(data, 8, 0, 1, rank=rank, world=2) for rank in range(2)]
    seen = [x.mean((2, 3)) for share in shares for x, _ in islice(share, 3)]
    assert len(torch.cat(seen).unique(dim=0)) == 24  # every picture once


def test_captions_are_dropped_and_pictures_keep_theirs(captioned):
    data = read_captioned(captioned)
    colours = {tuple(data.picture(i).mean((1, 2)).tolist()): text for i, text in enumerate(data.captions)}
    kept = dropped = 0
    for x, texts in islice(captioned_batches(data, 24, 0, 0, drop=0.5), 4):
        for image, text in zip(x, texts, strict=True):
            own = colours[tuple(image.mean((1, 2)).tolist())]
            assert text in (own, "")
            kept, dropped = kept + (text == own != ""), dropped + (text != own)
    assert 20 < kept < 52
    assert 20 < dropped < 52


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({}, r"no images in .*; looked for"),
        ({"a.png": b"x"}, r"no captions: need metadata.jsonl, a .txt beside each image, or .tar shards$"),
        ({"metadata.jsonl": b'{"file_name": "a.png"}'}, r"metadata.jsonl, line 1: need an object with file_name and"),
        ({"metadata.jsonl": b"nonsense"}, r"metadata.jsonl, line 1: need an object"),
        ({"a.tar": b"nonsense"}, r"a.tar: not a readable shard"),
        ({"a.png": b"x", "a.txt": b"caf\xe9"}, r"a.txt: byte 3 is not UTF-8"),
        ({"metadata.jsonl": b"\xff"}, r"metadata.jsonl: byte 0 is not UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, files, line):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=line) as caught:
        read_captioned(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_sets_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no captioned images at .*nowhere: give a folder"):
        read_captioned(tmp_path / "nowhere")
    (tmp_path / "captions.json").write_text("{}")
    with pytest.raises(ValueError, match=r"captions.json: not COCO's captions \('images'\)"):
        read_coco(tmp_path / "captions.json", tmp_path)
