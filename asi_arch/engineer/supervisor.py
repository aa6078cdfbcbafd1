"""One request, one child: its limits, its frames, its end.

The supervisor is a fork of the server, and nothing that the child does makes it wait: it reads what has
come, looks at the clock and at the process table, and passes whole frames on. Of the kinds of frames a
child may send only progress and results.
"""

import json
import os
import resource
import selectors
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe

import psutil

from asi_arch.engineer.isolation import FIRST_USER, Isolation, filter_calls, give_up
from asi_arch.engineer.kin import Kin

MAX_REQUEST = 32 * 2**20
TICK = 0.25  # seconds between two looks at what a child uses
OVERHEAD = 256  # bytes that each frame counts beyond its own
PROGRESS, RESULT, FAILURE = b"P", b"R", b"F"
Handler = Callable[[bytes, Callable[[bytes], None]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one child may use.

    memory_bytes: resident, of all its processes. cpu_seconds: of processor time, which a busy machine
    does not use up as it does a request's seconds; 0: no limit. reply_bytes: in all. silent: its words
    on stderr are dropped, as a candidate's must be; a child of our own keeps them.
    """

    memory_bytes: int
    processes: int
    reply_bytes: int
    file_bytes: int
    open_files: int = 256
    cpu_seconds: int = 0
    silent: bool = True


class Frames:
    """Cuts a child's bytes into frames as `multiprocessing.connection` writes them."""

    def __init__(self, limit: int) -> None:
        self._limit, self._left = limit, limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the frames that `data` completes. Raises ValueError: more than the limit, or no frame."""
        self._buffer += data
        while len(self._buffer) >= 4:
            (size,) = struct.unpack_from("!i", self._buffer)
            if not 0 < size <= self._limit:  # -1 opens a frame of more than 2 GiB
                raise ValueError(f"a reply of more than {self._limit} bytes" if size else "an empty reply")
            if len(self._buffer) < 4 + size:
                return
            frame = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            self._left -= size + OVERHEAD
            if self._left < -OVERHEAD:
                raise ValueError(f"replies of more than {self._limit} bytes")
            if frame[:1] not in (PROGRESS, RESULT):
                raise ValueError("a reply of no known kind")
            yield frame


def supervise(client: Connection, handler: Handler, limits: Limits, isolation: Isolation) -> None:
    """Fork the child, pass its frames on, and end it when it is done, too large, too late or unwanted."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = client.recv_bytes(MAX_REQUEST + 8)
    (seconds,) = struct.unpack("d", request[:8])
    receiver, sender = Pipe(duplex=False)
    scratch = tempfile.mkdtemp(prefix="job-", dir=".")
    pid = os.fork()
    if pid == 0:
        receiver.close()
        client.close()
        os.chdir(scratch)
        _run_child(handler, request[8:], sender, limits, isolation)
    sender.close()
    kin = Kin(pid, FIRST_USER + pid if isolation.user else 0, alone=isolation.seccomp)
    watch = _Watch(kin, client, receiver, limits)
    try:
        failure = watch.until(time.monotonic() + seconds, seconds)
    except OSError:  # the client went away while a frame was sent to it
        failure = None
    kin.kill()
    _, status = os.waitpid(pid, 0)
    kin.kill(collected=True)  # what it left at its end
    shutil.rmtree(scratch, ignore_errors=True)
    if failure is not None:
        failure = failure if failure[0] else _epitaph(status, limits)
        client.send_bytes(FAILURE + json.dumps(failure).encode())


class _Watch:
    """Looks at one child until it is done or must be ended."""

    def __init__(self, kin: Kin, client: Connection, child: Connection, limits: Limits) -> None:
        self.kin, self.client, self.child, self.limits = kin, client, child, limits
        self.selector = selectors.DefaultSelector()
        for source in (child.fileno(), client.fileno(), 0):
            self.selector.register(source, selectors.EVENT_READ)
        self.open = True

    def until(self, deadline: float, seconds: float) -> tuple[str, str] | None:
        """Relay frames until the result; give (kind, message) when there is none, ("", "") if it died."""
        look, frames, dead = 0.0, Frames(self.limits.reply_bytes), False
        while True:
            wait = TICK if self.open and not dead else TICK / 20
            ready = [key.fd for key, _ in self.selector.select(wait)]
            if 0 in ready or self.client.fileno() in ready:
                return None  # the study is gone, or no longer wants it
            try:
                if self.child.fileno() in ready and self._relay(frames):
                    return None
            except ValueError as error:
                return "output", str(error)
            if not ready and dead:
                return "", ""
            if not ready:  # look once more: it may have answered after the wait and ended before this
                dead = self.kin.ended()
            if time.monotonic() > deadline:
                return "timeout", f"not done after {seconds:.0f} s"
            if time.monotonic() > look:
                look = time.monotonic() + TICK
                excess = self._excess()
                if excess:
                    return excess

    def _relay(self, frames: Frames) -> bool:
        """Pass on what has come; tell whether the result was in it."""
        data = os.read(self.child.fileno(), 2**16)
        if not data:  # it ends, or goes on without a voice
            self.selector.unregister(self.child.fileno())
            self.open = False
        for frame in frames.feed(data):
            self.client.send_bytes(frame)
            if frame[:1] == RESULT:
                return True
        return False

    def _excess(self) -> tuple[str, str] | None:
        memory, processes = self.kin.use()
        if memory > self.limits.memory_bytes:
            return "memory", f"more than {self.limits.memory_bytes / 2**30:.1f} GiB of memory"
        if processes > self.limits.processes:
            return "processes", f"more than {self.limits.processes} processes"
        return None


def _epitaph(status: int, limits: Limits) -> tuple[str, str]:
    """Say how a child ended that gave no answer."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return "crash", f"the process ended with code {code} and no answer"
    if -code == signal.SIGXCPU:
        return "timeout", f"more than {limits.cpu_seconds} s of processor time"
    reasons: dict[int, str] = {
        signal.SIGKILL: " (short of memory, or past its processor time)",
        signal.SIGSYS: " (a system call that is not allowed)",
        signal.SIGXFSZ: " (a file that grew too large)",
        signal.SIGABRT: " (it gave up by itself)",
    }
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return "crash", f"the process was ended by {name}{reasons.get(-code, '')}"


def _run_child(
    handler: Handler, request: bytes, sender: Connection, limits: Limits, isolation: Isolation
) -> None:
    """Become a process group of one's own, take the limits on, and run the handler; never returns."""
    code = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        _limit(limits, isolation)
        give_up(isolation)
        if limits.silent:
            os.dup2(null, 2)
        keep = sender.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 4096)
        filter_calls(isolation)
        handler(request, sender.send_bytes)
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _limit(limits: Limits, isolation: Isolation) -> None:
    processes = limits.processes if isolation.user else max(limits.processes, 64)  # of the whole user
    space = psutil.Process().memory_info().vms + 2 * limits.memory_bytes
    wanted = {"CORE": 0, "FSIZE": limits.file_bytes, "NOFILE": limits.open_files, "NPROC": processes}
    if sys.platform == "linux":
        wanted["AS"] = space
    for name, value in wanted.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    if limits.cpu_seconds:
        resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 5))
