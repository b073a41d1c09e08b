"""Kill commands at random instants, start them again, and compare what they leave with an uninterrupted run.

    python benchmarks/kill_resume.py                      # every job, 24 kills in all
    python benchmarks/kill_resume.py --jobs train --kills 50 --seed 3

A job is a command of undrift. It is started in a process of its own, killed after a random part of its time, by SIGKILL
or, one time in three, by SIGTERM, and started again, until it was killed as often as asked and has ended by itself.
Processes are forked from this one, which has imported torch already: kills fall into the work, not into imports.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import undrift
from undrift.cli.main import main
from undrift.cli.manifest import FILE, Manifest
from undrift.data import write
from undrift.networks import UNet
from undrift.training import state
from undrift.training.checkpoint import load
from undrift.training.log import lines

STEPS = 80
SETTINGS = ["training.save_every=7", "training.log_every=1", "training.weights=float32",
            "preview.every=0", "data.batch=4", "training.threads=1"]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A command that goes on where it was killed.

    Arguments:
        prepare: makes in a folder what the command reads.
        command: of undrift, from the folder of the data and that of the output.
        compare: what differs between the outputs of an uninterrupted and of a killed run; "" for nothing.
    """

    prepare: Callable[[Path], None]
    command: Callable[[Path, Path], list[str]]
    compare: Callable[[Path, Path], str]


RECIPE = """
process = {name = "vp"}
prediction = {name = "velocity", scale = 0.5}
denoiser = {scale = 0.5}
space = {name = "pixels"}
density = {name = "uniform_lambda"}
weighting = {name = "balanced"}
data = {name = "labelled", path = "DATA"}
optimizer = {name = "adamw", lr = 1e-3}
training = {steps = 1}

[network]
name = "unet"
channels = [8, 8]
blocks = [1, 1]
in_channels = 1
cond_channels = 0
classes = 2
embedding = 8
"""


def prepare_training(folder: Path) -> None:
    """Small random images, a recipe, and a teacher that knows nothing."""
    torch.manual_seed(0)
    network = UNet((8, 8), (1, 1), in_channels=1, cond_channels=0, classes=2, embedding=8)
    denoiser = undrift.Denoiser(network, undrift.VP(), undrift.prediction.velocity(0.5), scale=0.5)
    facts = {"shape": [1, 8, 8], "classes": ["cat", "dog"]}
    undrift.save(folder / "teacher", denoiser, undrift.Pixels(), facts)
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    labels = np.arange(40) % 2
    np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    (folder / "recipe.toml").write_text(RECIPE.replace("DATA", str(folder / "data.npz")))


def train(folder: Path, out: Path) -> list[str]:
    return ["train", str(folder / "recipe.toml"), "-o", str(out), f"training.steps={STEPS}", *SETTINGS]


def distill(folder: Path, out: Path) -> list[str]:
    data = str(folder / "data.npz")
    taught = ["distill", str(folder / "teacher"), "--preset", "scott", "--data", data]
    return [*taught, "-o", str(out), f"training.steps={STEPS}", *SETTINGS]


def compare_training(whole: Path, torn: Path) -> str:
    """Every tensor of the last states, bit for bit, the exported weights, and one line of the log per step."""
    ours, theirs = (dict(tensors(state.latest(folder / "state"))) for folder in (torn, whole))
    if ours.keys() != theirs.keys():
        return f"tensors {sorted(ours.keys() ^ theirs.keys())}"
    if changed := [name for name, value in theirs.items() if not torch.equal(ours[name], value)]:
        return f"{len(changed)} tensors of the state, {changed[0]} first"
    ours, theirs = (load(folder / "model")[0].state_dict() for folder in (torn, whole))
    if not all(torch.equal(ours[name], value) for name, value in theirs.items()):
        return "the exported weights"
    steps = [line["step"] for line in lines(torn)]
    left = [file.name for file in torn.rglob(".*.part")]
    return "" if steps == list(range(1, STEPS + 1)) and not left else f"the log, {steps}, or files {left}"


def tensors(tree: object, path: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(tree, torch.Tensor):
        return [(path, tree)]
    items = tree.items() if isinstance(tree, dict) else ()
    return [each for key, value in items for each in tensors(value, f"{path}/{key}")]


def prepare_pictures(folder: Path) -> None:
    """Photographs, a restorer and a generator that know nothing."""
    prepare_training(folder)
    torch.manual_seed(0)
    network = UNet(channels=(8, 16), blocks=(1, 1))
    process, prediction = undrift.MeanReverting(lam=10 / 255), undrift.prediction.Data(0.05)
    undrift.save(folder / "restorer", undrift.Denoiser(network, process, prediction, scale=0.25), undrift.Residual())
    numbers = np.random.default_rng(0)
    for i in range(30):
        (folder / "in" / str(i % 3)).mkdir(parents=True, exist_ok=True)
        write(folder / "in" / str(i % 3) / f"{i}.png", torch.from_numpy(numbers.random((3, 60, 50 + i))))


def sample(folder: Path, out: Path) -> list[str]:
    return ["sample", "--model", str(folder / "teacher"), "--count", "300", "--steps", "4", "-o", f"{out}/"]


def restore(folder: Path, out: Path) -> list[str]:
    model = str(folder / "restorer")
    return ["restore", str(folder / "in"), "-o", str(out), "--model", model, "--steps", "4", "--tile", "48"]


def compare_pictures(whole: Path, torn: Path) -> str:
    """The same files with the same bytes, no temporary one, and one entry of the manifest for each photograph."""
    ours, theirs = (
        {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != FILE}
        for folder in (torn, whole)
    )
    if ours.keys() != theirs.keys():
        return f"files {sorted(ours.keys() ^ theirs.keys())}"
    changed = [name for name in theirs if ours[name] != theirs[name]]
    known = [Manifest(folder, {}).known.keys() for folder in (torn, whole)]
    return f"the bytes of {changed}" if changed else "" if known[0] == known[1] else "the manifest"


JOBS = {
    "train": Job(prepare_training, train, compare_training),
    "distill": Job(prepare_training, distill, compare_training),
    "sample": Job(prepare_pictures, sample, compare_pictures),
    "restore": Job(prepare_pictures, restore, compare_pictures),
}


def started(command: list[str], log: Path) -> int:
    """The process of a command, forked; what it says is added to `log`."""
    pid = os.fork()
    if pid:
        return pid
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os._exit(main(command))
    finally:
        os._exit(70)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def tortured(job: Job, folder: Path, out: Path, kills: int, seconds: float, choose: random.Random) -> str:
    """Kill a job so often that it ends; what it says of itself, or raises RuntimeError."""
    log, told, starts = out.with_suffix(".log"), {"SIGKILL": 0, "SIGTERM": 0}, 0
    while True:
        pid = started(job.command(folder, out), log)
        starts += 1
        if sum(told.values()) < kills:
            time.sleep(choose.uniform(0, 2 * seconds / kills))
            number = choose.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            os.kill(pid, number)
            told[number.name] += 1
            code = ended(pid)
            if code not in (-number, 0) and not (number is signal.SIGTERM and code in (130, 143)):
                raise RuntimeError(f"{number.name}: exit code {code}: {log.read_text()[-2000:]}")
        elif (code := ended(pid)) == 0:
            return f"{told['SIGKILL']} SIGKILL, {told['SIGTERM']} SIGTERM, {starts} starts"
        else:
            raise RuntimeError(f"exit code {code}: {log.read_text()[-2000:]}")


def run(names: list[str], kills: int, seed: int, folder: Path) -> list[tuple[str, str, str]]:
    """(job, what was done to it, what differs) for each."""
    choose, found = random.Random(seed), []
    for name in names:
        job, home = JOBS[name], folder / name
        home.mkdir(parents=True)
        job.prepare(home)
        began = time.monotonic()
        if code := ended(started(job.command(home, home / "whole"), home / "whole.log")):
            raise RuntimeError(f"exit code {code}: {(home / 'whole.log').read_text()[-2000:]}")
        seconds = time.monotonic() - began
        share = kills // len(names) + (kills % len(names) > len(found))
        did = tortured(job, home, home / "torn", share, seconds, choose)
        found.append((name, did, job.compare(home / "whole", home / "torn")))
    return found


def command() -> int:
    global STEPS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help="of a training")
    given = parser.parse_args()
    STEPS = given.steps
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = run(given.jobs, given.kills, given.seed, Path(folder))
    for name, did, differs in found:
        print(f"{name}: {did}: {'equal' if not differs else 'DIFFERS in ' + differs}")
    return int(any(differs for _, _, differs in found))


if __name__ == "__main__":
    sys.exit(command())
