"""An exception as one line for a person."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["expected", "one_line", "printable", "warned"]

LONG = 1000  # characters; torch may put a stack of C++ into its message
_EXPECTED = (ValueError, OSError, FloatingPointError, MemoryError)


def expected(error: BaseException) -> bool:
    """Whether the error tells of the input or the machine, and not of a defect in undrift."""
    return isinstance(error, _EXPECTED) or _out_of_memory(error)


def one_line(error: BaseException) -> str:
    if _out_of_memory(error) and not str(error).startswith("out of memory"):
        return "out of memory: give a smaller --tile or --batch, or smaller images"
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return printable(f"{os.fsdecode(error.filename)}: {error.strerror}")
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= LONG else f"{text[: LONG - 4]} ..."


@contextmanager
def warned() -> Iterator[None]:
    """Warnings of undrift are lines like its errors, without the place in the source; those of others stay."""
    usual, home = warnings.formatwarning, str(Path(__file__).parents[1])

    def line(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if filename.startswith(home) and category is UserWarning:
            return f"undrift: warning: {printable(' '.join(str(message).split()))}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = line
    try:
        yield
    finally:
        warnings.formatwarning = usual


def printable(text: str) -> str:
    """One line that any terminal takes: control characters, and bytes of names that are no text, as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogateescape").decode("ascii", "backslashreplace")
        if not "\udc80" <= c <= "\udcff" else f"\\x{ord(c) - 0xDC00:02x}"
        for c in text
    )  # fmt: skip


def _out_of_memory(error: BaseException) -> bool:
    """Also of torch, without importing it: on a GPU its own class, on the CPU a RuntimeError."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )
