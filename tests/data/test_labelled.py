from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from undrift.data.labelled import LabelledImages, labelled_batches, read_labelled


@pytest.fixture
def numbered():
    """Twelve 2 x 3 images, each of its own number, in three classes."""
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).repeat(1, 1, 2, 3)
    return LabelledImages(images, torch.arange(12) % 3, ("a", "b", "c"))


def taken(data, count, **options):
    return list(islice(labelled_batches(data, 4, 7, **options), count))


def test_every_epoch_shows_each_image_once_with_its_label(numbered):
    batches = taken(numbered, 6, drop=0.0)
    shown = torch.cat([batch.x[:, 0, 0, 0] * 255 for batch in batches]).round().long()
    labels = torch.cat([batch.cond["label"] for batch in batches])
    assert shown[:12].sort().values.tolist() == shown[12:].sort().values.tolist() == list(range(12))
    assert shown[:12].tolist() != shown[12:].tolist()
    assert torch.equal(labels, shown % 3)


def test_a_stream_can_be_taken_up_anywhere_and_shared(numbered):
    whole, later = taken(numbered, 6), taken(numbered, 3, start=3)
    assert all(
        torch.equal(a.x, b.x) and torch.equal(a.cond["label"], b.cond["label"])
        for a, b in zip(whole[3:], later, strict=True)
    )
    halves = [taken(numbered, 3, rank=rank, world=2) for rank in (0, 1)]
    for one, *parts in zip(whole, *halves, strict=False):
        assert torch.equal(one.x, torch.cat([part.x for part in parts]))
        assert torch.equal(one.cond["label"], torch.cat([part.cond["label"] for part in parts]))
    with pytest.raises(ValueError, match=r"data.batch = 4 on 3 processes: need a multiple of 3"):
        taken(numbered, 1, world=3)


def test_labels_are_hidden_at_the_given_rate(numbered):
    labels = torch.cat([batch.cond["label"] for batch in taken(numbered, 500, drop=0.3)])
    assert (labels == 3).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not taken(numbered, 1, classes=False)[0].cond


def test_half_of_the_images_are_mirrored():
    data = LabelledImages(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), ("a",))
    x = torch.cat([batch.x for batch in taken(data, 200)])
    assert x[:, 0, 0, 0].mean().item() == pytest.approx(0.5, abs=0.05)
    assert (x.sum(3) == 1).all()


def test_npz_and_folders_give_the_same(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 5, 5, 3), dtype=np.uint8), np.repeat([0, 1], 10)
    train = np.arange(20) % 10 > 0
    np.savez(tmp_path / "set.npz", x_train=x[train], y_train=y[train], x_test=x[~train], y_test=y[~train])
    for i, (image, label) in enumerate(zip(x, y, strict=True)):
        home = tmp_path / "set" / "ab"[label]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / f"{i:02d}.png")
    for split in ("train", "test"):
        packed, loose = read_labelled(tmp_path / "set.npz", split), read_labelled(tmp_path / "set", split)
        assert torch.equal(packed.images, loose.images)
        assert torch.equal(packed.labels, loose.labels)
    assert loose.names == ("a", "b")
    assert read_labelled(tmp_path / "set", size=3).images.shape == (18, 3, 3, 3)


def test_bad_sets_are_named_in_one_line(tmp_path):
    (tmp_path / "not.npz").write_bytes(b"PK\x03\x04 nothing")
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    np.savez(tmp_path / "float.npz", x_train=np.zeros((3, 4, 4)), y_train=np.arange(3))
    Image.new("L", (4, 4)).save(tmp_path / "one.png")
    (tmp_path / "empty").mkdir()
    for path, words in (
        ("no", "no labelled images"),
        ("not.npz", "readable"),
        ("one.png", "not a set of images: need a folder"),
        ("other.npz", "x_train"),
        ("float.npz", "uint8"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words) as raised:
            read_labelled(tmp_path / path)
        assert path in str(raised.value)
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="empty"):
        read_labelled(tmp_path / "empty")
    with pytest.raises(ValueError, match="'val'"):
        read_labelled(tmp_path / "other.npz", "val")
    with pytest.raises(ValueError, match="batch = 0"):
        next(labelled_batches(None, 0, 0))
