"""Folder jobs: the same files whatever the processes and the batch, nothing done twice, nothing half done."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import undrift
from undrift.classify import NoisyClassifier
from undrift.cli import manifest, restorer
from undrift.cli.manifest import FILE
from undrift.networks import Classifier

FAST = ("--steps", "2", "--device", "cpu")


def contents(folder):
    """Every file but the manifest: its bytes."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != FILE]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def together(tmp_path, *commands, processes=2):
    """The commands in several processes; what came out, and the errors."""
    (tmp_path / "words.json").write_text(json.dumps([[str(word) for word in words] for words in commands]))
    here = Path(__file__).parents[2]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = os.environ | {"PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [*torchrun, str(Path(__file__).with_name("many.py")), "words.json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in found.stderr, found.stderr
    return (
        found.returncode,
        found.stdout.splitlines(),
        [s for s in found.stderr.splitlines() if s.startswith("undrift")],
    )


def test_processes_and_batches_change_no_file(undrift_, photograph, model, generator, tmp_path):
    for i in range(5):
        photograph(tmp_path / "in" / f"{i}.png", 20 + 20 * i, 30, seed=i)
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG")
    sample = ["sample", "--model", generator, "--count", 37, "--seed", 5, *FAST]
    restore = ["restore", "in", "--model", model, *FAST, "--tile", 32]
    degrade = ["degrade", "in", "--task", "noisy"]
    for batch in (1, 3, 16):
        assert undrift_(*sample, "--batch", batch, "-o", f"s{batch}")[0] == 0
    assert undrift_(*restore, "-o", "r1")[0] == undrift_(*degrade, "-o", "d1")[0] == 2
    commands = [[*sample, "--batch", 3, "-o", "s"], [*sample, "-o", "one.png"], [*restore, "-o", "r"]]
    wrong = ["degrade", "gone", "--task", "noisy", "-o", "out"]
    code, lines, errors = together(tmp_path, wrong, *commands, [*degrade, "-o", "d"])
    assert code == 0, errors
    assert contents("s") == contents("s1") == contents("s3") == contents("s16")
    assert len(contents("s")) == 38
    assert Path("one.png").read_bytes() == Path("s/grid.png").read_bytes()
    assert contents("r") == contents("r1")
    assert contents("d") == contents("d1")
    assert len(contents("r")) == 5
    assert errors[0] == "undrift: no such file or folder: gone"
    assert len(errors) == 3  # what is wrong with a command, or a photograph, is told once
    assert [line for line in lines if "of 6 photographs" in line] == [
        "5 of 6 photographs restored into r",
        "5 of 6 photographs degraded into d",
    ]


def test_a_second_start_does_what_is_left(undrift_, photograph, model, tmp_path, monkeypatch):
    for i in range(4):
        photograph(tmp_path / "in" / f"{i}.png", 20 + i, 30, seed=i)
    words = ("restore", "in", "-o", "out", "--model", model, *FAST)
    assert undrift_(*words)[0] == 0
    first = contents("out")
    worked = []
    real = restorer.Restorer.__call__
    monkeypatch.setattr(
        restorer.Restorer, "__call__", lambda self, path, files: worked.append(path.name) or real(self, path, files)
    )

    def again(*more, of=4, skipped):
        worked.clear()
        code, lines, _ = undrift_(*words, *more)
        assert code == 0
        assert lines[-1].endswith(f", {skipped} of them by an earlier run") == (skipped > 0)
        return sorted(worked)

    assert again(skipped=4) == []
    os.utime("in/0.png")  # touched, not changed
    assert again(skipped=4) == []
    photograph(tmp_path / "in" / "1.png", 21, 30, seed=9)
    assert again(skipped=3) == ["1.png"]
    Path("out/2.png").write_bytes(b"torn")
    assert again(skipped=3) == ["2.png"]
    Path("out/3.png").unlink()
    assert again(skipped=3) == ["3.png"]
    photograph(tmp_path / "in" / "1.png", 21, 30, seed=1)
    assert again(skipped=3) == ["1.png"]
    assert contents("out") == first
    assert again("--seed", "1", skipped=0) == ["0.png", "1.png", "2.png", "3.png"]
    text = Path("out", FILE).read_bytes()
    for broken in (text[:-40], b"\xff\x00{]\n" + text, text + b'{"of": 3}\n[]\n{"of": "0.png"', b""):
        Path("out", FILE).write_bytes(broken)
        assert undrift_(*words, "--seed", "1")[0] == 0
        assert undrift_(*words, "--seed", "1")[1][-1].endswith(", 4 of them by an earlier run")


def test_a_foreign_manifest_is_not_followed(undrift_, photograph, model, tmp_path):
    photograph(tmp_path / "in" / "a.png")
    Path("out").mkdir()
    Path("elsewhere").write_text("mine")
    os.symlink("../elsewhere", f"out/{FILE}")
    code, _, errors = undrift_("restore", "in", "-o", "out", "--model", model, *FAST)
    assert (code, len(errors)) == (2, 1)
    assert Path("elsewhere").read_text() == "mine"


def test_a_number_shifts_the_random_numbers_of_a_photograph(undrift_, photograph, tmp_path):
    for i in (1, 2):
        photograph(tmp_path / "in" / f"{i}.png", 40, 40, seed=i)
    words = ("degrade", "in", "--task", "noisy", "-o")
    assert undrift_(*words, "out")[0] == 0
    photograph(tmp_path / "in" / "0.png", 40, 40)
    assert undrift_(*words, "out")[1][-1] == "3 of 3 photographs degraded into out"
    assert undrift_(*words, "fresh")[0] == 0
    assert contents("out") == contents("fresh")


def test_the_killed_leave_nothing_behind(tmp_path):
    gone = subprocess.Popen(["sleep", "0"])
    gone.wait()
    for name in (f".a.png.{gone.pid}.part", f".b.png.{os.getppid()}.part", ".c.part", "d.png"):
        (tmp_path / name).write_bytes(b"x")
    manifest.sweep([tmp_path, tmp_path / "missing"])
    assert sorted(os.listdir(tmp_path)) == [f".b.png.{os.getppid()}.part", ".c.part", "d.png"]


KILLED = """
import os, signal, sys
from undrift.cli import restorer
from undrift.cli.main import main
count, name, number = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
real = getattr(os, name)
def last(*words, **more):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), number)
    return real(*words, **more)
setattr(os, name, last)
sys.exit(main(sys.argv[4:]))
"""


@pytest.mark.parametrize(
    ("call", "count", "number"), [("replace", 2, 9), ("fsync", 4, 9), ("replace", 3, signal.SIGTERM)]
)
def test_killed_at_any_call_it_goes_on(undrift_, photograph, tmp_path, call, count, number):
    for i in range(3):
        photograph(tmp_path / "in" / f"{i}.png", 40, 40, seed=i)
    words = ["degrade", "in", "--task", "hazy", "-o"]
    script = [sys.executable, "-c", KILLED, str(count), call, str(int(number)), *words, "out"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(script, env=environment, timeout=60, capture_output=True, text=True)
    if number == signal.SIGTERM:
        assert (found.returncode, found.stderr) == (143, "undrift: ended by SIGTERM\n")
        assert not [name for name in os.listdir("out") if name.endswith(".part")]
    else:
        assert found.returncode == -signal.SIGKILL
    assert undrift_(*words, "out")[0] == undrift_(*words, "fresh")[0] == 0
    assert contents("out") == contents("fresh")


def test_a_full_disk_is_one_line(undrift_, photograph, model, tmp_path, monkeypatch):
    """The photographs before it are done, and stay so."""
    for i in range(3):
        photograph(tmp_path / "in" / f"{i}.png", seed=i)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    words = ("restore", "in", "-o", "out", "--model", model, *FAST)
    assert undrift_("restore", "in/0.png", "-o", "out/", "--model", model, *FAST)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, _, errors = undrift_(*words)
    assert code == 2
    assert {error.rpartition(": ")[2] for error in errors} == {"No space left on device"}
    assert all(not name.endswith(".part") for name in os.listdir("out"))
    assert undrift_(*words)[0] == 0
    assert len(contents("out")) == 3


def rows(folder):
    """What was measured, without what depends on the clock."""
    found = json.loads(Path(folder, "results.json").read_text())["tasks"]
    return {
        (task, setting): {key: value for key, value in row.items() if not key.startswith("seconds")}
        for task, settings in found.items()
        for setting, row in settings.items()
    }


def test_processes_change_no_measure(undrift_, photograph, model, generator, tmp_path):
    for i in range(3):
        photograph(tmp_path / "in" / f"{i}.png", 32, 32, seed=i)
    numbers = np.random.default_rng(0)
    levels = numbers.integers(0, 256, (70, 8, 8), dtype=np.uint8)
    np.savez("data.npz", x_train=levels, y_train=np.arange(70) % 3, x_test=levels, y_test=np.arange(70) % 3)
    torch.manual_seed(0)
    network = Classifier(3, channels=(4, 6), embedding=8)
    undrift.save("eyes", NoisyClassifier(network, undrift.VP(), scale=0.5), undrift.Pixels())
    machine = ("--threads", 1, "--device", "cpu")
    restorer = ["evaluate", "--model", model, "--data", "in", "--tasks", "noisy", "hazy", "--steps", 2, "--size", 32]
    restorer += ["--baseline", "posterior:2", *machine]
    sampler = ["evaluate", "--model", generator, "--data", "data.npz", "--extractor", "eyes", "--steps", 2, 3]
    sampler += ["--samples", 600, *machine]  # two chunks
    assert undrift_(*restorer, "-o", "r1")[0] == undrift_(*sampler, "-o", "g1", "--batch", 7)[0] == 0
    code, lines, errors = together(tmp_path, [*restorer, "-o", "r"], [*sampler, "-o", "g"])
    assert (code, errors) == (0, [])
    assert rows("r") == rows("r1")
    assert rows("g").keys() == rows("g1").keys()
    for name, row in rows("g1").items():  # the extractor sees batches of another size
        assert rows("g")[name] == pytest.approx(row, rel=1e-4, abs=1e-6)
    assert len(rows("r")) == 8
    assert lines.count("mean of 2 tasks") == 1  # one process prints
    assert not Path("r/rows").exists()
    assert Path("r/examples/hazy/degraded.png").read_bytes() == Path("r1/examples/hazy/degraded.png").read_bytes()
