"""A sign of life that a killed process cannot leave behind: a locked file."""

import fcntl
import os
import socket
import uuid
from pathlib import Path


class Lease:
    """A name for as long as this process lives.

    The name's file in `folder` is locked until `close`, or until the kernel ends the process for
    whatever reason, and so needs no clock, no heartbeat and no time to wait: a SIGKILL frees it at
    once, a stopped or sleeping process keeps it, and a process id that is used again does not matter.
    A process that is forked without an exec keeps its parent's leases alive.

    Limits: the processes must see one folder under one kernel, as SQLite's WAL demands anyway.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._path = folder / self.name
        unnamed = folder / f".{self.name}"
        self._file = os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        unnamed.rename(self._path)  # nobody ever sees the name unlocked

    def close(self) -> None:
        """End the lease."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def is_alive(folder: Path, name: str) -> bool:
    """Tell whether the process that holds a lease lives; the file of a dead one is removed."""
    path = folder / name
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    path.unlink(missing_ok=True)
    return False
