"""Steps per second of one training on one process with two threads, and on two processes with one thread each.

    python benchmarks/processes.py --rounds 3 --steps 30

The runs alternate, for a shared machine changes its pace; the ratio of each round, and their median, counts. Also
the bytes that a step exchanges: with plain data parallelism every process sends and receives each gradient about twice.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import torch

from undrift import registry

ROOT = Path(__file__).parents[1]
COMMAND = ["undrift.cli.main", "train", str(ROOT / "recipes" / "fashion.toml")]


def pace(folder: Path, processes: int, steps: int, batch: int) -> float:
    """Median steps per second of a run, without its first line of the log."""
    out = folder / f"{processes}-{len(list(folder.iterdir()))}"
    settings = [f"training={{steps={steps}, log_every=5, save_every=100000, threads={2 // processes}}}",
                "preview.every=0", f"data.batch={batch}", f"data.path={folder / 'data.npz'}"]  # fmt: skip
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(2 // processes)}
    subprocess.run(
        [sys.executable, *launcher, "-m", *COMMAND, "-o", str(out), *settings],
        check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return statistics.median(line["steps_per_second"] for line in lines[1:])


def messages() -> None:
    """Parameters and bytes of the gradient of the networks of the recipes."""
    for file in sorted((ROOT / "recipes").glob("*.toml")):
        table = tomllib.loads(file.read_text())
        if "network" not in table:  # a student has its teacher's
            continue
        with torch.device("meta"):
            network = registry.build("network", table["network"])
        count = sum(p.numel() for p in network.parameters())
        print(f"{file.stem}: {count:,} parameters, {4 * count / 2**20:.1f} MiB of gradient")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    messages()
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        images, labels = random.integers(0, 256, (2000, 28, 28), dtype=np.uint8), np.arange(2000) % 10
        np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=images[:100], y_test=labels[:100])
        for _ in range(given.rounds):
            one, two = (pace(folder, processes, given.steps, given.batch) for processes in (1, 2))
            ratios.append(two / one)
            print(
                f"1 process x 2 threads {one:.2f}, 2 processes x 1 thread {two:.2f} steps/s: {ratios[-1]:.2f}",
                flush=True,
            )
    print(f"median of {given.rounds} ratios: {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
