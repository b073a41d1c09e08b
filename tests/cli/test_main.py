import errno
import fcntl
import os
import pty
import resource
import signal
import subprocess
import sys
import termios
import time
import types

import pytest

from undrift import __version__
from undrift.cli import main as module
from undrift.cli.main import COMMANDS, main

TORCHLESS = "import sys; from undrift.cli.main import main; main({argv}); print('torch' in sys.modules)"


@pytest.mark.parametrize(
    "argv", [["--help"], *([name, "--help"] for name in COMMANDS), ["restore", "-x"]], ids=" ".join
)
def test_help_and_usage_errors_need_no_torch(argv):
    done = subprocess.run([sys.executable, "-c", TORCHLESS.format(argv=argv)], capture_output=True, text=True)
    assert done.stdout.endswith("False\n"), done.stderr


def test_help_answers_at_once():
    """Within half a second of wall-clock time; of CPU time where others keep the machine busy."""
    times = []
    for _ in range(3):
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "undrift.cli.main", "restore", "--help"], check=True, capture_output=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(min(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    assert min(times) < 0.5


def test_overview_and_version(undrift_):
    code, lines, _ = undrift_()
    assert code == 0
    for name, about in COMMANDS.items():
        assert f" {name} {about} " in f" {' '.join(' '.join(lines).split())} "
    assert undrift_("--help") == (0, lines, [])
    assert undrift_("--version") == (0, [f"undrift {__version__}"], [])


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("restor a.png", "unknown command 'restor': did you mean restore? There are demo, restore, degrade,"),
        ("nonsense", "unknown command 'nonsense': There are demo,"),
        ("--verison", "unknown option '--verison': did you mean --version? (see undrift --help)"),
        ("restore a.png -o out --step 4", "unknown option '--step': did you mean --steps? (see undrift restore --"),
        ("restore a.png -o out --step=4", "unknown option '--step': did you mean --steps?"),
        ("restore a.png -o out -x", "unknown option '-x' (see"),
        ("restore a.png", "the following arguments are required: -o/--out"),
        ("restore -o out", "the following arguments are required: IN"),
        ("restore a.png -o out --steps -3", "argument --steps: '-3': need a whole number, at least 1"),
        ("restore a.png -o out --steps 0", "argument --steps: '0': need a whole number, at least 1"),
        ("restore a.png -o out --steps 2.5", "argument --steps: '2.5': need a whole number, at least 1"),
        ("restore a.png -o out --steps", "argument --steps: expected one argument"),
        ("restore a.png -o out --tile 8", "argument --tile: '8': need a whole number, at least 32"),
        ("restore a.png -o out --seed -1", "argument --seed: '-1': need a whole number, at least 0"),
        ("degrade a.png -o out", "the following arguments are required: --task"),
        ("info a b", "unknown argument 'b'"),
    ],
)
def test_what_is_mistyped_is_one_line_with_a_suggestion(undrift_, argv, line):
    code, out, errors = undrift_(*argv.split())
    assert (code, out, len(errors)) == (2, [], 1)
    assert errors[0].startswith(f"undrift: {line}")


@pytest.fixture
def failing(monkeypatch):
    """fail(error): from then on `undrift info` raises it."""

    def fail(error):
        def run(**options):
            raise error

        command = types.SimpleNamespace(add=lambda parser: None, run=run)
        monkeypatch.setattr(module, "import_module", lambda name, package: command)

    return fail


class OutOfMemoryError(RuntimeError):
    """As torch's, which is made on a GPU only."""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("two\n  lines"), 2, "two lines"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x/y"), 2, "x/y: No such file or directory"),
        (FileNotFoundError("no model 'x'"), 2, "no model 'x'"),
        (FloatingPointError("the training diverged"), 2, "the training diverged"),
        (MemoryError(), 2, "out of memory: give a smaller --tile or --batch, or smaller images"),
        (OutOfMemoryError("CUDA out of memory. Tried to ..."), 2, "out of memory: give a smaller --tile or --batch"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you"),
            2,
            "out of memory: give a smaller --tile or --batch",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("of shapes\nand sizes"), 1, "RuntimeError: of shapes and sizes (UNDRIFT_DEBUG=1 shows where)"),
        (KeyError("x"), 1, "KeyError: 'x' (UNDRIFT_DEBUG=1"),
    ],
)
def test_an_error_is_one_line_and_a_code(undrift_, failing, monkeypatch, error, code, line):
    monkeypatch.delenv("UNDRIFT_DEBUG", raising=False)
    failing(error)
    given, out, errors = undrift_("info")
    assert (given, out, len(errors)) == (code, [], 1)
    assert errors[0].startswith(f"undrift: {line}")


def test_the_traceback_is_there_for_who_wants_it(failing, monkeypatch):
    monkeypatch.setenv("UNDRIFT_DEBUG", "1")
    failing(RuntimeError("where?"))
    with pytest.raises(RuntimeError, match="where"):
        main(["info"])


def test_a_reader_that_goes_away_is_no_error():
    command = f"(sleep 0.1; {sys.executable} -m undrift.cli.main --help; echo $? >&2) | true"
    for buffering in ("", "1"):
        environment = os.environ | {"PYTHONUNBUFFERED": buffering}
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
        assert done.stderr in ("1\n", "0\n")  # argparse itself ignores what it cannot print


GONE = """
import sys, time
from undrift.signals import Ended, ended_by_signal
from pathlib import Path
Path("out").mkdir()
try:
    with ended_by_signal():
        Path("ready").touch()
        time.sleep(60)
except Ended as signal:
    print("more than a terminal that is gone takes", flush=True)
    Path("code").write_text(str(signal.number))
"""


def test_a_terminal_that_closes_ends_a_command_without_an_error(tmp_path):
    ours, theirs = pty.openpty()

    def settle():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    run = subprocess.Popen(
        [sys.executable, "-c", GONE], cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=settle
    )
    os.close(theirs)
    while not (tmp_path / "ready").exists() and run.poll() is None:
        time.sleep(0.01)
    os.close(ours)
    assert run.wait(timeout=60) == 0
    assert (tmp_path / "code").read_text() == str(int(signal.SIGHUP))
