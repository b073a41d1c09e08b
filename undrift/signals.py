"""Signals that ask to stop: Ctrl-C, SIGTERM, and SIGHUP of a terminal that closes.

Most senders mean a whole group of processes: terminals, `timeout`, batch systems, `pkill`, torchrun. So a request may
reach helpers, which must not heed it, and may reach a process twice, by itself and through its launcher.
"""

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread, current_thread, main_thread

__all__ = ["Ended", "catchable", "deaf", "ended_by_signal", "hung_up", "only_parent"]

ASKING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
MASKS = hasattr(signal, "pthread_sigmask") and hasattr(signal, "sigwaitinfo")  # Linux, mostly


class Ended(BaseException):
    """A signal ended the command; no error, so that nothing passes it over."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


def catchable() -> list[signal.Signals]:
    """Which of them this thread may handle: nohup has SIGHUP ignored, and Python lets one thread alone do it."""
    if current_thread() is not main_thread():
        return []
    ignored = {s for s in ASKING if s != signal.SIGINT and signal.getsignal(s) is signal.SIG_IGN}
    return [s for s in ASKING if s not in ignored]


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """`Ended` is raised where SIGTERM or SIGHUP comes, so that what is half written is removed on the way out."""

    def handle(number: int, frame: object) -> None:
        for each in before:  # it may come twice
            signal.signal(each, signal.SIG_IGN)
        hung_up()
        raise Ended(number)

    before = {s: signal.getsignal(s) for s in catchable() if s != signal.SIGINT}
    for each in before:
        signal.signal(each, handle)
    try:
        yield
    finally:
        for each, old in before.items():
            signal.signal(each, old)


def hung_up() -> None:
    """Send further output nowhere where its terminal is gone: to write there would be an error, and end a long job."""
    for standard in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(standard).st_mode) and not os.isatty(standard):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, standard)
                os.close(nowhere)


@contextmanager
def deaf() -> Iterator[None]:
    """Processes started inside hear none of these signals; this one hears what came meanwhile at the end."""
    if not MASKS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def only_parent(number: int = 0) -> None:
    """Called in a helper process, of whatever number: SIGTERM ends it if its parent sends it, and no one else."""
    from multiprocessing import parent_process  # every command imports this file, and few have helpers

    parent = parent_process()
    if not MASKS or parent is None or parent.pid is None:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    Thread(target=_wait_for, args=(parent.pid,), daemon=True).start()


def _wait_for(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
