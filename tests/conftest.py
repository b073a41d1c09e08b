"""Every test: one seed, at most two threads, and a device chosen by `--device`."""

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device of the states in tests that move tensors")
    parser.addoption("--seed", type=int, default=0, help="seed of `generator` and of the global generator")


def pytest_configure(config):
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def device(request) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def generator(request) -> torch.Generator:
    return torch.Generator().manual_seed(request.config.getoption("--seed"))


@pytest.fixture(autouse=True)
def _seed(request):
    torch.manual_seed(request.config.getoption("--seed"))
