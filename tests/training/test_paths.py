"""Kept paths: files made once and whole, of the right teacher, shared among processes; and a run that uses them."""

import os
import shutil
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import undrift
from undrift.data import Batch
from undrift.networks import UNet
from undrift.noise import PerSample
from undrift.training import paths, state
from undrift.training.build import build
from undrift.training.paths import Paths, read_paths, teacher_paths
from undrift.training.presets import distilling
from undrift.training.recipe import override
from undrift.training.run import train

SETTINGS = ["method.spacing=lambda", "method.nodes=3", "method.jump=3", "method.substeps=6", "method.paths=10",
            "method.weights=[3, 1, 1]", "data.batch=4", "training.log_every=1", "training.weights=float32",
            "training.save_every=2", "preview.every=0", "data.drop=0.0"]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("paths")
    torch.manual_seed(0)
    network = UNet((8, 8), (1, 1), in_channels=1, cond_channels=0, classes=3, embedding=8)
    for parameter in network.parameters():  # a new one predicts zero whatever it is told
        parameter.data += 0.1 * torch.randn(parameter.shape)
    denoiser = undrift.Denoiser(network, undrift.VP(), undrift.prediction.velocity(0.5), scale=0.5)
    undrift.save(home / "teacher", denoiser, undrift.Pixels(), {"shape": [1, 8, 8], "classes": ["a", "b", "c"]})
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 3
    np.savez(home / "data.npz", x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    return SimpleNamespace(home=home, teacher=str(home / "teacher"), data=str(home / "data.npz"))


def table(world, *settings):
    return override(distilling(world.teacher, "lcm", world.data), [*SETTINGS, *settings])


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(paths, "CHUNK", 4)


def made(place, folder, count=10, **told):
    method = build(table(place)).method
    teacher_paths(method, folder, count, (1, 8, 8), told.pop("classes", 3), **told)
    return method


def test_paths_are_the_teachers_and_do_not_depend_on_batches(world, tmp_path, small):
    method = made(world, tmp_path / "a", batch=3)
    found = read_paths(tmp_path / "a", 10)
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == [f"{k:08d}.safetensors" for k in (0, 4, 8)]
    assert (found.states.shape, found.states.dtype) == ((10, 4, 1, 8, 8), torch.float16)
    assert found.label.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    seed = undrift.data.generator("path", 7).initial_seed()
    like, t = torch.zeros(1, 1, 8, 8), method.grid[0]
    z = float(method.process.alpha_sigma(t)[1]) * PerSample([seed])(like, t, t)
    alone = method.path(z, PerSample([seed]), label=torch.tensor([1]))
    torch.testing.assert_close(found.states[7].float(), alone[0], rtol=2e-3, atol=2e-3)
    other = method.path(z, PerSample([seed]), label=torch.tensor([2]))
    assert (other[0, -1] - alone[0, -1]).abs().max() > 0.02  # the class counts
    made(world, tmp_path / "b", batch=10)
    torch.testing.assert_close(read_paths(tmp_path / "b", 10).states, found.states, rtol=2e-3, atol=2e-3)


def test_what_is_there_is_kept_and_what_is_not_is_made(world, tmp_path, small):
    made(world, tmp_path)
    whole = read_paths(tmp_path, 10).states
    first, second = tmp_path / "00000000.safetensors", tmp_path / "00000004.safetensors"
    before = os.stat(first).st_mtime_ns
    second.unlink()
    made(world, tmp_path)
    assert os.stat(first).st_mtime_ns == before
    assert torch.equal(read_paths(tmp_path, 10).states, whole)
    made(world, tmp_path, count=14)  # more of the same: a file that is too short is made anew
    torch.testing.assert_close(read_paths(tmp_path, 14).states[:10], whole, rtol=2e-3, atol=2e-3)
    assert read_paths(tmp_path, 14).label.tolist() == (torch.arange(14) % 3).tolist()


def test_each_process_makes_its_files(world, tmp_path, small):
    made(world, tmp_path / "whole")
    made(world, tmp_path / "two", rank=1, world=2)
    assert [file.name for file in (tmp_path / "two").iterdir()] == ["00000004.safetensors"]
    made(world, tmp_path / "two", rank=0, world=2)
    assert torch.equal(read_paths(tmp_path / "two", 10).states, read_paths(tmp_path / "whole", 10).states)


def test_other_paths_are_refused(world, tmp_path, small):
    made(world, tmp_path)
    with pytest.raises(ValueError, match=r"paths of another classes: choose another folder, method.paths_in") as error:
        made(world, tmp_path, classes=2)
    assert "\n" not in str(error.value)
    (tmp_path / "00000004.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"00000004.safetensors: not paths of a teacher \(.*\): remove it") as error:
        made(world, tmp_path)
    assert "\n" not in str(error.value)


def test_paths_at_other_nodes_are_refused_though_the_teachers_steps_are_the_same(world, tmp_path):
    """Two nodes of four steps each and four of two: what is kept of the same path differs."""

    def method(nodes):
        kept = [f"method.nodes={nodes}", f"method.jump={nodes}", f"method.weights={[1] * nodes}", "method.substeps=8"]
        return build(table(world, "method.spacing=time", *kept)).method

    four, two = method(4), method(2)
    assert torch.equal(four.jumps.whole(), two.jumps.whole())
    teacher_paths(four, tmp_path, 10, (1, 8, 8), 3)
    with pytest.raises(ValueError, match="paths of another nodes: choose another folder"):
        teacher_paths(two, tmp_path, 10, (1, 8, 8), 3)


def beside(found, size=6, seed=1, start=0, count=4, rank=0, world=1):
    share = size // world
    labels = [torch.arange(size)[rank * share : (rank + 1) * share] % 3 for _ in range(count)]
    stream = (Batch(torch.zeros(share, 1, 8, 8), cond={"label": label}) for label in labels)
    return [batch.path for batch in islice(found.beside(stream, size, seed, start, rank, world), count)]


def test_every_row_has_a_path_of_its_class():
    label = torch.arange(300) % 3
    found = Paths((label + torch.arange(300) / 1000)[:, None].half().expand(300, 4), label)
    whole = beside(found)
    assert all(torch.equal(batch[:, 0].floor(), torch.arange(6.0) % 3) for batch in whole)
    assert len({float(batch[0, 0]) for batch in beside(found, count=40)}) > 20
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], beside(found, start=2, count=2), strict=True))
    halves = [beside(found, rank=rank, world=2) for rank in (0, 1)]
    assert all(torch.equal(batch, torch.cat(pair)) for batch, *pair in zip(whole, *halves, strict=True))
    assert not torch.equal(whole[0], beside(found, seed=2)[0])
    with pytest.raises(ValueError, match=r"method.paths = 200: none of class 2, which the data have"):
        beside(Paths(found.states[label < 2], label[label < 2]))


def test_killed_and_resumed_on_kept_paths_is_bit_for_bit_the_whole_run(world, tmp_path):
    whole = train(table(world, "training.steps=6"), tmp_path / "whole")
    assert train(table(world, "training.steps=6"), tmp_path / "torn").finished
    for file in (tmp_path / "torn" / "state").iterdir():  # as if it had been killed after the fourth step
        if "6" in file.name:
            file.unlink()
    before = os.stat(tmp_path / "torn" / "paths" / "00000000.safetensors").st_mtime_ns
    assert state.latest(tmp_path / "torn" / "state")["step"] == 4
    again = train(table(world, "training.steps=6"), tmp_path / "torn")
    assert os.stat(tmp_path / "torn" / "paths" / "00000000.safetensors").st_mtime_ns == before
    ours, theirs = (load_file(made.model / "weights.safetensors") for made in (again, whole))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    lent = [f'method.paths_in="{tmp_path / "whole" / "paths"}"', "training.steps=2"]
    train(table(world, *lent), tmp_path / "other")
    assert not (tmp_path / "other" / "paths").exists()


def test_what_cannot_be_kept_is_one_line(world, tmp_path):
    for settings, words in (
        (["method.guidance=[1.0, 3.0]"], "method.paths with method.guidance: paths are of one scale"),
        (["method.paths=-1"], "method.paths = -1: need at least 0"),
        (["method.weights=[1, 1]"], "need a number >= 0 for each of the 3 nodes"),
        (["data.drop=0.5"], "data.drop = 0.5 with method.paths, which all have their class: set data.drop=0"),
        (["method.paths=2"], "method.paths = 2: need at least one of each of the 3 classes"),
        (["method.denoising=1"], "method.paths with method.denoising: a kept path knows no data"),
        (["method.paths=0", "method.paths_in=x"], "method.paths_in = 'x': say how many of them, method.paths=N"),
        (["method.paths=10000000000"], "method.paths = 10000000000: 5,120 GB: lower it, or method.nodes"),
        ([f'method.paths_in="{world.data}"'], r"method.paths_in = .*data.npz: need a folder, and this is a file"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            train(table(world, *settings), tmp_path / "none")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "none" / "paths").exists()  # before any of it was made
    train(table(world, "training.steps=1"), tmp_path / "one")
    other = [f'method.paths_in="{tmp_path / "one" / "paths"}"', "method.end=3.0"]
    with pytest.raises(ValueError, match="paths of another times, nodes: choose another folder") as error:
        train(table(world, *other), tmp_path / "none")
    assert "\n" not in str(error.value)


def test_a_name_that_has_come_to_mean_another_teacher_is_noticed(world, tmp_path):
    shutil.copytree(world.teacher, tmp_path / "teacher")
    told = override(distilling(str(tmp_path / "teacher"), "lcm", world.data), [*SETTINGS, "training.steps=1"])
    train(told, tmp_path / "run")
    weights = load_file(tmp_path / "teacher" / "weights.safetensors")
    save_file({name: 1.1 * value for name, value in weights.items()}, tmp_path / "teacher" / "weights.safetensors")
    told["method"]["paths_in"] = str(tmp_path / "run" / "paths")
    with pytest.raises(ValueError, match="paths of another teacher: choose another folder"):
        train(told, tmp_path / "again")


def test_a_run_goes_on_with_more_paths_and_a_finished_one_makes_none(world, tmp_path):
    train(table(world, "training.steps=2"), tmp_path)
    assert train(table(world, "training.steps=4", "method.paths=20"), tmp_path).step == 4
    shutil.rmtree(tmp_path / "paths")
    assert train(table(world, "training.steps=4"), tmp_path).finished
    assert not (tmp_path / "paths").exists()
    with pytest.raises(ValueError, match=r"holds a run with another \[method\]"):
        train(table(world, "training.steps=6", "method.jump=1"), tmp_path)
