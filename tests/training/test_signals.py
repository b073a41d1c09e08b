"""Signals that reach a whole group: the step is finished and saved, loaders end with the run and not before."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from undrift.data.loader import loaded
from undrift.training import state
from undrift.training.interrupt import asked_to_stop
from undrift.training.run import train

STEPS = 40


class Numbers(Dataset):
    def __getitem__(self, number):
        return torch.full((3,), float(number))


def sent(number, *processes):
    """By a process that is no parent of theirs."""
    subprocess.run(["kill", f"-{int(number)}", *map(str, processes)], check=True)


def loaders():
    return {child.pid for child in psutil.Process().children() if "kill" not in child.name()}


def test_loaders_hear_their_parent_alone():
    before = loaders()
    batches = loaded(Numbers(), 5, 2)
    started = loaders() - before
    assert len(started) == 2
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        sent(number, *started)
    assert [int(next(batches)[0]) for _ in range(30)] == list(range(5, 35))
    assert all(psutil.pid_exists(pid) for pid in started)
    some = psutil.Process(started.pop())
    os.kill(some.pid, signal.SIGTERM)  # as the DataLoader does with one that hangs
    some.wait(timeout=10)
    other = psutil.Process(started.pop())
    del batches
    other.wait(timeout=10)


ORPHANS = """
import sys, torch
from torch.utils.data import Dataset
from undrift.data.loader import loaded
class Numbers(Dataset):
    def __getitem__(self, number):
        return torch.full((3,), float(number))
batches = loaded(Numbers(), 0, 2)
next(batches)
print("ready", flush=True)
sys.stdin.read()
"""


def test_loaders_end_with_a_parent_that_was_killed():
    run = subprocess.Popen([sys.executable, "-c", ORPHANS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"ready\n"
    children = psutil.Process(run.pid).children()
    assert len(children) == 2
    run.kill()
    run.communicate()
    assert psutil.wait_procs(children, timeout=20)[1] == []


def test_a_second_request_is_one_if_it_comes_at_once(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with asked_to_stop() as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # none of which ends pytest
            signal.raise_signal(number)
        assert stop.is_set()
        now[0] += 3
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with asked_to_stop() as stop:
            signal.raise_signal(signal.SIGHUP)  # under nohup
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


RECIPE = """
process = {name = "mean_reverting"}
prediction = {name = "data", scale = 0.2}
network = {name = "unet", channels = [4, 6], blocks = [1, 1], embedding = 8}
space = {name = "residual"}
density = {name = "uniform_lambda"}
weighting = {name = "balanced"}
data = {roots = ["in"], tasks = ["noisy"], hold_out_every = 3, batch = 4, crop = 24, workers = 2}
optimizer = {name = "sgd", lr = 0.01}
schedule = {warmup = 0, final = 1.0}
preview = {every = 0}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    (folder / "in").mkdir()
    numbers = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(numbers.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(folder / "in" / f"{i}.png")
    training = f"training = {{steps = {STEPS}, save_every = 1000, log_every = 1, weights = 'float32'}}\n"
    (folder / "recipe.toml").write_text(RECIPE + training)
    return folder


def started(home, out, processes):
    """`undrift train` in a group of its own."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    words = ["-m", "undrift.cli.main", "train", "recipe.toml", "-o", out]
    return subprocess.Popen(
        [sys.executable, *(torchrun if processes > 1 else []), *words], cwd=home, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def steps(folder):
    file = folder / "log.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.is_file() else []


@pytest.fixture
def one_thread():
    """As in the processes that are started: sums depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.usefixtures("one_thread")
def test_a_signal_to_every_process_saves_the_step_at_hand(home, monkeypatch, processes):
    monkeypatch.chdir(home)
    torn, whole = home / f"torn{processes}", home / "whole"
    run = started(home, torn.name, processes)
    end = time.monotonic() + 120
    while not steps(torn) and run.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    everyone = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    assert len(everyone) == (3 if processes == 1 else 7)
    if processes == 1:
        os.killpg(run.pid, signal.SIGTERM)
        sent(signal.SIGTERM, run.pid)  # `timeout` sends two
    else:  # torchrun gives each of its processes a group: `pkill` and batch systems find them all the same
        sent(signal.SIGTERM, *(process.pid for process in everyone))
    said = run.communicate(timeout=100)[0]
    assert psutil.wait_procs(everyone, timeout=20)[1] == []
    assert run.returncode == (130 if processes == 1 else 1), said
    assert "stopped and saved; the same command goes on: undrift train recipe.toml" in said
    saved = state.latest(torn / "state")
    assert saved["step"] == max(steps(torn)) < STEPS
    if not whole.exists():
        train("recipe.toml", whole)
    train("recipe.toml", torn)  # two processes follow the one to rounding only
    ours, theirs = (state.latest(folder / "state")["trained"]["denoiser"] for folder in (torn, whole))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0 if processes == 1 else 1e-6)
