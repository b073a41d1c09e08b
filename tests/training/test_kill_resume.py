"""A few of the instants of benchmarks/kill_resume.py."""

import importlib.util
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).parents[2] / "benchmarks" / "kill_resume.py"


def test_jobs_killed_at_random_instants_end_as_if_they_had_not_been():
    command = [
        sys.executable,
        str(FILE),
        "--jobs",
        "train",
        "distill",
        "sample",
        "restore",
        "--kills",
        "8",
        "--steps",
        "30",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": equal") == 4, done.stdout


def test_a_difference_is_found(tmp_path):
    spec = importlib.util.spec_from_file_location("kill_resume", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_resume"] = module
    spec.loader.exec_module(module)
    for name in ("whole", "torn"):
        (tmp_path / name / "state").mkdir(parents=True)
        weights = {"weights": module.torch.full((3,), 1.0 if name == "whole" else 1 + 2**-23)}
        module.state.store(tmp_path / name / "state", 1, weights)
    assert module.compare_training(tmp_path / "whole", tmp_path / "torn") == "1 tensors of the state, /weights first"
