"""The model that a command works with, where it should run."""

import os

import torch

from ..denoiser import Denoiser
from ..space import Space
from ..training.checkpoint import load, read_card, student_of
from ..training.presets import restores

__all__ = ["device_of", "open_model", "place", "stand_in"]


def open_model(name: str, device: str = "auto", threads: int = 0) -> tuple[Denoiser, Space]:
    """Denoiser and space of a bundled model or a folder; ValueError for a device that is not there."""
    denoiser, space = load(name)
    # Convolutions of a CPU without AVX-512 are an eighth faster so; results agree to rounding.
    denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return denoiser.to(place(device, threads)), space


def place(device: str = "auto", threads: int = 0) -> torch.device:
    """Where a model is to run, on so many threads; ValueError for a device that is not there."""
    if threads:
        torch.set_num_threads(threads)
    return device_of(device)


def stand_in(model: str, steps: int | None, solver: str | None) -> str:
    """The bundled student of a bundled model, for few evaluations; else the model.

    Few are up to 2 of a restorer and 4 of a generator. Who names a solver wants the model itself.
    """
    if steps is None or solver is not None or (student := student_of(model)) is None:
        return model
    return student if steps <= (2 if restores(read_card(student)) else 4) else model


def device_of(name: str) -> torch.device:
    """What --device means; ValueError for one that is not there."""
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        local = int(os.environ.get("LOCAL_RANK", "0"))  # each process of a machine has its own
        return torch.device("cuda", local % torch.cuda.device_count())
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device
