"""The model that a command works with, where it should run."""

import torch

from ..denoiser import Denoiser
from ..space import Space
from ..training.checkpoint import load

__all__ = ["open_model"]


def open_model(name: str, device: str = "auto", threads: int = 0) -> tuple[Denoiser, Space]:
    """Denoiser and space of a bundled model or a folder; ValueError for a device that is not there."""
    if threads:
        torch.set_num_threads(threads)
    denoiser, space = load(name)
    return denoiser.to(_device(device)), space


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device
