"""Every test: one seed, at most two threads, and a device chosen by `--device`; the command line as a call."""

import signal

import pytest
import torch

from undrift.cli.main import main


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device of the states in tests that move tensors")
    parser.addoption("--seed", type=int, default=0, help="seed of `generator` and of the global generator")


def pytest_configure(config):
    torch.set_num_threads(min(2, torch.get_num_threads()))
    # What a script starts with `&` ignores Ctrl-C, and so would every process that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def device(request) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def generator(request) -> torch.Generator:
    return torch.Generator().manual_seed(request.config.getoption("--seed"))


@pytest.fixture(autouse=True)
def _seed(request):
    torch.manual_seed(request.config.getoption("--seed"))


@pytest.fixture
def undrift_(capsys, monkeypatch, tmp_path):
    """undrift_(*argv) -> (exit code, lines of stdout, lines of stderr), in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*argv):
        capsys.readouterr()
        code = main([str(word) for word in argv])
        streams = capsys.readouterr()
        return code, streams.out.splitlines(), streams.err.splitlines()

    return call
