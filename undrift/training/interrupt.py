"""A signal to stop as a question asked between two steps instead of the end in the middle of one."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..signals import catchable, hung_up

__all__ = ["asked_to_stop"]

ONCE = 2.0  # seconds; what comes so soon is the same request, passed on by a launcher, a shell or `timeout`


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM or SIGHUP sets; another signal, more than `ONCE` later, acts as usual."""
    stop, first = threading.Event(), [0.0]
    before = {number: signal.getsignal(number) for number in catchable()}

    def handle(number: int, frame: object) -> None:
        hung_up()
        if not stop.is_set():
            first[0] = time.monotonic()
            stop.set()
        elif time.monotonic() - first[0] > ONCE:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
