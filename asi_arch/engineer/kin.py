"""Who belongs to a request: the process table, read to count what a child uses and to end all of it.

What it does not protect from: where processes can be started at all (level `weak`), one that changes its
session, its parent and its environment between two looks is not found again, unless it has a user id of
its own.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress

import psutil

MARK = "ASI_ARCH_SERVER"  # the variable by which a server's stray processes are known
ROUNDS = 20  # of killing and looking again
GONE = (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError, PermissionError)


class Kin:
    """A child and all that it started: descendants, its session, its user, and strays of its server.

    Args:
        leader: the child's process id; the caller collects it only after `kill`.
        user: a user id that only the child has, or 0.
        alone: the child can start no process, so none is looked for.
    """

    def __init__(self, leader: int, user: int = 0, alone: bool = False) -> None:
        self.leader, self.user, self.alone = leader, user, alone
        self.server = os.getppid()
        self.mark = os.environ.get(MARK, "")
        self.known: set[psutil.Process] = set()
        self.strangers: set[psutil.Process] = set()  # looked at once, and not ours
        self.above = {self.server}  # and what the server runs under, which may carry its mark
        with suppress(*GONE):
            self.known.add(psutil.Process(leader))
            self.above.update(process.pid for process in psutil.Process(self.server).parents())

    def use(self) -> tuple[int, int]:
        """Give resident bytes and number of the living processes."""
        memory, count = 0, 0
        for process in self._find():
            with suppress(*GONE):
                if process.status() != psutil.STATUS_ZOMBIE:
                    memory += process.memory_info().rss
                    count += 1
        return memory, count

    def ended(self) -> bool:
        """Tell whether the child itself has ended and waits to be collected."""
        try:
            return bool(psutil.Process(self.leader).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    def kill(self, collected: bool = False) -> None:
        """Kill all, and look again until nobody new is found: what is killed may have just forked.

        collected: the child itself has been waited for, so its number may be another's by now.
        """
        for _ in range(ROUNDS):
            for send in () if collected else (os.killpg, os.kill):
                with suppress(*GONE):
                    send(self.leader, signal.SIGKILL)
            living = [p for p in self._find() if p.pid != self.leader and _is_living(p)]
            if not living:
                return
            for process in living:
                with suppress(*GONE):
                    process.kill()

    def _find(self) -> set[psutil.Process]:
        """Add to the known what is new in the process table."""
        if self.alone:
            return self.known
        table = [process for process in psutil.process_iter() if process not in self.strangers]
        parents = {process.pid: _parent(process) for process in table}
        family = {self.leader, *(process.pid for process in self.known)}
        for process in table:
            line = set(_ancestors(process.pid, parents))
            if process in self.known or process.pid in self.above:
                continue
            if family & line:
                self.known.add(process)
            elif self.server not in line:  # of another request, if it is
                (self.known if self._is_stray(process) else self.strangers).add(process)
        return self.known

    def _is_stray(self, process: psutil.Process) -> bool:
        """Tell whether a process without a parent that we know came from a child of this server."""
        with suppress(*GONE):
            if self.user and process.uids().real == self.user:
                return True
            return os.getsid(process.pid) == self.leader or _has_mark(process, self.mark)
        return False


def is_stranger(pid: int, parent: int) -> bool:
    """Tell whether a process is no descendant of `parent`, or one of this process: no one to listen to."""
    try:
        line = {pid, *(process.pid for process in psutil.Process(pid).parents())}
    except GONE:
        return True
    return parent not in line or os.getpid() in line


def _ancestors(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    seen = set()
    while (pid := parents.get(pid, 0)) and pid not in seen:
        seen.add(pid)
        yield pid


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except GONE:
        return 0


def _is_living(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except GONE:
        return False


def _has_mark(process: psutil.Process, mark: str) -> bool:
    """Tell whether a process still carries the server's mark; see above for who does not."""
    return bool(mark) and process.environ().get(MARK) == mark
