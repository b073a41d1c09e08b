"""Names that somebody gave, against those that there are."""

from difflib import get_close_matches
from typing import Any

__all__ = ["check_keys"]


def check_keys(given: Any, known: Any, what: str) -> None:
    """ValueError naming the first of `given` that is not among `known`, what it may have meant, and what exists."""
    for key in given:
        if key not in list(known):
            close = get_close_matches(str(key), [str(k) for k in known], 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"unknown {what} {key!r}: {hint}There are {', '.join(known) or 'none'}")
