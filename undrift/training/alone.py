"""One run in a folder at a time: two would write over each other's states.

torchrun killed outright leaves its processes training; the same command started again must not join them. The lock is
of the system, so it goes with the process that holds it, however that ends.
"""

import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_NB, lockf

__all__ = ["alone"]

NAME = ".undrift-lock"
PATIENCE = 5.0  # seconds that a process which was killed takes to be gone
TAKEN = {errno.EACCES, errno.EAGAIN}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The folder for this process; made where missing, and then removed again if nothing was put into it.

    OSError in one line where it cannot be written to, or another process trains in it.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    handle = _open(folder)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / NAME).unlink()
        os.close(handle)
        with suppress(OSError):  # not empty, most often
            for each in missing:
                each.rmdir()


def _open(folder: Path) -> int:
    """The lock file, locked; it may be removed by who held it between the two."""
    path, end = folder / NAME, time.monotonic() + PATIENCE
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
            raise OSError(f"cannot write to the folder {folder}: {why}") from None
        if _locked(handle) and _still(path, handle):
            with suppress(OSError):  # of a full disk, which is told of where it matters
                os.truncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return handle
        owner = os.read(handle, 200).decode(errors="replace")
        os.close(handle)
        if time.monotonic() > end:
            raise OSError(f"{folder}: {owner or 'another process'} trains there: end it, or give another --out")
        time.sleep(0.1)


def _locked(handle: int) -> bool:
    if sys.platform == "win32":  # as if nobody else trained
        return True
    try:
        lockf(handle, LOCK_EX | LOCK_NB)
    except OSError as error:
        return error.errno not in TAKEN  # a file system without locks has to do without
    return True


def _still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except OSError:
        return False
