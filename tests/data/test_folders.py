"""Benchmark folders pair up by name; degraded sets do not depend on what else is in them."""

import pytest
import torch

from undrift.data import Degraded, ImageFolder, Paired, write


def noisy(x, rng):
    return x + torch.randn(x.shape, generator=rng)


def fill(folder, names, size=(8, 6)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write(folder / name, torch.rand(3, *size))


def test_image_folder(tmp_path):
    fill(tmp_path / "a", ["2.png"])
    fill(tmp_path, ["1.png"], (3, 3))
    folder = ImageFolder(tmp_path)
    assert [p.pixels.shape[1] for p in (folder[0], folder[1])] == [3, 8]
    assert len(folder) == 2


def test_paired_by_stem(tmp_path):
    for task in ("rainy", "hazy"):
        fill(tmp_path / task / "LQ", ["x.jpg", "y.png"])
        fill(tmp_path / task / "GT", ["x.png", "y.png"])
    pairs = Paired(tmp_path)
    assert [(p.task, p.name) for p in (pairs[i] for i in range(len(pairs)))] == [
        ("hazy", "x"), ("hazy", "y"), ("rainy", "x"), ("rainy", "y")]  # fmt: skip
    assert len(Paired(tmp_path, ["rainy"])) == 2
    with pytest.raises(ValueError, match="no task snowy; it has hazy, rainy"):
        Paired(tmp_path, ["snowy"])


def test_paired_names_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="expected <task>/LQ"):
        Paired(tmp_path)
    fill(tmp_path / "hazy" / "LQ", ["x.png", "y.png"])
    with pytest.raises(FileNotFoundError, match="GT"):
        Paired(tmp_path)
    fill(tmp_path / "hazy" / "GT", ["x.png"])
    with pytest.raises(ValueError, match=r"y\.png: no partner"):
        Paired(tmp_path)
    fill(tmp_path / "hazy" / "GT", ["y.png"], (8, 7))
    with pytest.raises(ValueError, match=r"LQ/y\.png is 6 x 8 but .*GT/y\.png is 7 x 8"):
        Paired(tmp_path)[1]
    fill(tmp_path / "hazy" / "GT", ["y.bmp"])
    with pytest.raises(ValueError, match="ambiguous"):
        Paired(tmp_path)


def test_degraded_depends_on_seed_index_and_task_only(tmp_path):
    fill(tmp_path, ["0.png", "1.png"])
    both = Degraded(tmp_path, {"a": noisy, "b": noisy}, seed=5)
    alone = Degraded([both[1].x, both[1].x], {"b": noisy}, seed=5)
    assert (both[3].task, both[3].name) == ("b", "1")
    assert torch.equal(both[3].y, both[3].y)
    assert torch.equal(both[3].y, alone[1].y)
    assert not torch.equal(both[1].y, both[3].y)  # another task, other noise
    assert not torch.equal(both[3].y, Degraded(tmp_path, {"b": noisy}, seed=6)[1].y)
    assert len(list(both)) == len(both) == 4
