"""The machine fails for real: disks that are full or cannot be written, memory that ends, files that vanish or lie."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from undrift.cli.manifest import FILE
from undrift.training import fit as training
from undrift.training import state

RECIPE = """
process = {name = "vp"}
prediction = {name = "velocity", scale = 0.5}
space = {name = "pixels"}
density = {name = "uniform_lambda"}
weighting = {name = "balanced"}
data = {name = "labelled", path = "data.npz", batch = 4}
optimizer = {name = "sgd", lr = 0.01}
schedule = {warmup = 0, final = 1.0}
preview = {every = 0}
training = {steps = 6, save_every = 2, log_every = 1, weights = "float32"}
[network]
name = "unet"
channels = [8, 8]
blocks = [1, 1]
in_channels = 1
cond_channels = 0
classes = 2
embedding = 8
"""


@pytest.fixture
def disk(tmp_path):
    """disk(name, options) mounts a small one, or changes it; skips where that is not allowed."""
    mounted = []

    def mount(name, options):
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        kind = ["-o", f"remount,{options}"] if path in mounted else ["-t", "tmpfs", "-o", options, "tmpfs"]
        try:
            subprocess.run(["mount", *kind, str(path)], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no disk can be mounted here")
        mounted.append(path)
        return path

    yield mount
    for path in dict.fromkeys(mounted):
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def data(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 2
    np.savez(tmp_path / "data.npz", x_train=levels, y_train=labels, x_test=levels[:4], y_test=labels[:4])
    (tmp_path / "recipe.toml").write_text(RECIPE)


def noise(path, side, seed=0):
    """A photograph that no format makes smaller."""
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file() and path.name != FILE}


COMMANDS = {
    "restore": "restore in --model {model} -o {out}",
    "degrade": "degrade in --task noisy -o {out}",
    "sample": "sample --model {generator} --count 2 --steps 1 -o {out}/",
    "edit": "edit inpaint in/0.png --model {generator} -o {out}/a.png",
    "evaluate": "evaluate --model {model} --data in -o {out}",
    "demo": "demo --model {model} -o {out}",
    "train": "train recipe.toml -o {out}",
    "distill": "distill {model} --data in -o {out}",
}


@pytest.mark.parametrize("kind", ["file", "disk"])
def test_nothing_starts_where_it_cannot_write(undrift_, model, generator, data, tmp_path, request, kind):
    noise(tmp_path / "in" / "0.png", 24)
    if kind == "disk":
        request.getfixturevalue("disk")("sealed", "size=1m,ro")
    else:
        (tmp_path / "sealed").touch()
    before = sorted(tmp_path.rglob("*"))
    for words in COMMANDS.values():
        code, _, errors = undrift_(*words.format(model=model, generator=generator, out="sealed/out").split())
        assert (code, len(errors)) == (2, 1), (words, errors)
        why = "Not a directory" if kind == "file" else "Read-only file system"
        assert errors[0] == f"undrift: cannot write to the folder sealed/out: {why}", words
    assert sorted(tmp_path.rglob("*")) == before


def test_photographs_that_fit_a_disk_stay_and_the_rest_follows(undrift_, disk, tmp_path):
    for i in range(6):
        noise(tmp_path / "in" / f"{i}.png", 90, i)  # 24 KiB each
    small = disk("out", "size=100k")
    words = ("degrade", "in", "--task", "hazy", "-o")
    code, lines, errors = undrift_(*words, "out")
    done = contents(small)
    assert (code, lines[-1]) == (2, f"{len(done)} of 6 photographs degraded into out")
    assert 0 < len(done) < 6
    assert len(errors) == 6 - len(done)
    assert all(line.endswith("No space left on device") for line in errors)
    disk("out", "size=1m")
    code, lines, _ = undrift_(*words, "out")
    assert (code, lines[-1]) == (0, f"6 of 6 photographs degraded into out, {len(done)} of them by an earlier run")
    assert undrift_(*words, "fresh")[0] == 0
    assert contents(small) == contents("fresh")


def test_images_that_fit_a_disk_stay_and_the_rest_follows(undrift_, generator, disk):
    small = disk("out", "size=100k")  # a page for each file
    words = ("sample", "--model", generator, "--count", 40, "--steps", 1, "-o")
    code, _, errors = undrift_(*words, "out/")
    assert (code, len(errors)) == (2, 1)
    assert errors[0].endswith("No space left on device")
    done = contents(small)
    assert 0 < len(done) < 40
    disk("out", "size=1m")
    code, lines, _ = undrift_(*words, "out/")
    assert code == 0
    assert lines[-1].startswith(f"40 images ({len(done)} of them by an earlier run)")
    assert undrift_(*words, "fresh/")[0] == 0
    assert contents(small) == contents("fresh")


def test_a_training_on_a_full_disk_goes_on_when_there_is_room(undrift_, data, disk, tmp_path):
    assert undrift_("train", "recipe.toml", "-o", "whole", "training.keep=3")[0] == 0
    needed = sum(file.stat().st_blocks * 512 for file in (tmp_path / "whole" / "state").iterdir()) // 3
    small = disk("run", f"size={(needed * 5 // 2 + 80_000) // 1024}k")  # two states and a model, not three
    code, _, errors = undrift_("train", "recipe.toml", "-o", "run", "training.keep=3")
    assert (code, len(errors)) == (2, 1)
    assert "No space left on device; the last good state is run/state/step-0000000" in errors[0]
    assert state.latest(small / "state")["step"] < 6
    assert not list(small.rglob("*.part"))
    disk("run", "size=4m")
    assert undrift_("train", "recipe.toml", "-o", "run", "training.keep=3")[0] == 0
    ours, theirs = (state.latest(tmp_path / name / "state")["trained"]["denoiser"] for name in ("run", "whole"))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


@pytest.mark.parametrize(
    "words",
    ["train recipe.toml data.path=evil.npz -o out", "distill {} --data evil.npz -o out",
     "evaluate --model {} --data evil.npz -o out"],
)  # fmt: skip
def test_arrays_that_are_programs_are_refused(undrift_, generator, data, tmp_path, words):
    trap = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "evil.npz", x_train=trap, y_train=trap, x_test=trap, y_test=trap)
    code, _, errors = undrift_(*words.format(generator).split())
    assert (code, len(errors)) == (2, 1)
    assert errors[0].startswith("undrift: evil.npz: not a readable .npz file (Object arrays")
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "out").exists()


def test_shards_that_vanish_in_the_middle_of_a_training(undrift_, data, tmp_path, monkeypatch):
    pytest.importorskip("webdataset")
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for i in range(8):
            picture = io.BytesIO()
            Image.new("RGB", (8, 8), (i, i, i)).save(picture, "PNG")
            entry = tarfile.TarInfo(f"{i}.png")
            entry.size = picture.tell()
            shard.addfile(entry, io.BytesIO(picture.getvalue()))
    (tmp_path / "copy.tar").write_bytes((tmp_path / "a.tar").read_bytes())
    network = "network={name='unet', channels=[8, 8], blocks=[1, 1], in_channels=3, cond_channels=0}"
    words = ("train", "recipe.toml", "training.steps=4", network,
             "data={name='streamed', path='a.tar', size=8, batch=4, workers=0}", "-o")  # fmt: skip
    real, steps = training._descend, []

    def descend(*some):
        steps.append(1)
        if len(steps) == 3:
            (tmp_path / "a.tar").unlink()
        return real(*some)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_descend", descend)
        code, _, errors = undrift_(*words, "out")
    assert (code, len(errors)) == (2, 1)
    assert "a.tar" in errors[0]
    assert errors[0].endswith(
        "the last good state is out/state/step-00000002.pt, and the same command goes on from there"
    )
    (tmp_path / "copy.tar").rename(tmp_path / "a.tar")
    assert undrift_(*words, "out")[0] == undrift_(*words, "whole")[0] == 0
    ours, theirs = (state.latest(tmp_path / name / "state")["trained"]["denoiser"] for name in ("out", "whole"))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


SHORT = """
import resource, sys
from undrift.cli.main import main
assert main(["degrade", "in/0.png", "--task", "noisy", "-o", "warm.png"]) == 0
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
sys.exit(main(["degrade", "in", "--task", "noisy", "-o", "out"]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs to know what a process has")
def test_memory_that_one_photograph_exceeds(tmp_path):
    for i in range(3):
        noise(tmp_path / "in" / f"{i}.png", 24, i)
    Image.new("RGB", (6000, 6000)).save(tmp_path / "in" / "1.png")  # 432 MB as float32
    found = subprocess.run(
        [sys.executable, "-c", SHORT], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert found.returncode == 2, found.stderr
    assert found.stderr.startswith("undrift: in/1.png: out of memory")
    assert len(found.stderr.splitlines()) == 1
    assert contents(tmp_path / "out").keys() == {"0.noisy.png", "2.noisy.png"}
    assert found.stdout.splitlines()[-1] == "2 of 3 photographs degraded into out"
