"""What ends a run from outside, in one line that says what is left and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .build import Run
from .state import newest

__all__ = ["explained"]


@contextmanager
def explained(run: Run, folder: Path) -> Iterator[None]:
    """Errors of the machine and of the numbers, with the last good state named; others as they are."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}; {_left(folder)}") from None
    except (OSError, MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            raise MemoryError(
                f"out of memory after step {run.step}: lower data.batch and raise training.accumulate by as much, or "
                f"set training.checkpointing=true; {_left(folder)}"
            ) from None
        if isinstance(error, OSError):
            raise OSError(f"{_said(error)}; {_left(folder)}") from None
        if "DataLoader worker" in str(error):
            raise OSError(
                f"a process that loads data was ended after step {run.step}, most often for lack of memory: lower "
                f"data.workers or data.batch; {_left(folder)}"
            ) from None
        raise


def out_of_memory(error: BaseException) -> bool:
    """On a GPU its own class, on the CPU a RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def _said(error: OSError) -> str:
    if error.errno is not None and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _left(folder: Path) -> str:
    path = newest(folder / "state")
    if path is None:
        return "no state was saved yet"
    return f"the last good state is {path}, and the same command goes on from there"
