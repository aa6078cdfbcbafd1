"""A warm server process that forks one limited, killable child for each request.

torch is imported once, before the first fork, so a request costs a fork and not an import. Two
servers of this kind run beside a pool: one behind which candidate Python runs (`worker.translate`,
no environment, tight limits), and one for our own checks and training (`examine`).

What it does not protect from: a hostile child runs as the same user, sees the file system and the
network, and a process of its that makes a session of its own is neither counted nor killed. Limits on
time, memory, processes, files and output hold for the rest, and the whole process group is killed at
the deadline.
"""

import json
import os
import resource
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from asi_arch.errors import CandidateError
from asi_arch.space import resolve

MAX_REQUEST = 32 * 2**20
TICK = 0.25  # seconds between two looks at a child's memory
PROGRESS, RESULT, FAILURE = b"P", b"R", b"F"
Handler = Callable[[bytes, Callable[[bytes], None]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one child may use.

    memory_bytes: resident, of its whole group. cpu_seconds: of processor time, which a busy machine
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


class Server:
    """A warm server; thread-safe, many requests at once."""

    def __init__(self, handler: str, warm: str, limits: Limits, environment: Mapping[str, str]) -> None:
        """Start the process; it is ready when the first `call` returns.

        Args:
            handler: "module:function" called in the child as `handler(request, send)`.
            warm: "module:function(text)" and its argument after a space, called once before the
                first fork.
            limits: of each child.
            environment: the whole environment of the server and its children.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="asi-arch-"))
        self._address = str(self._folder / "s")
        config = json.dumps({"handler": handler, "warm": warm, "limits": asdict(limits)})
        command = [sys.executable, "-m", "asi_arch.engineer.sandbox", self._address, config]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environment), cwd=self._folder,
            start_new_session=True)  # fmt: skip
        self._ready = threading.Lock()
        self._started = False

    def call(self, request: bytes, seconds: float, progress: Callable[[bytes], None] | None = None) -> bytes:
        """Run one request in a child of its own and give its last reply; see `call`."""
        return call(self.address(), request, seconds, progress)

    def address(self) -> str:
        """Wait until the server is ready and give its address for `call`."""
        self._wait_until_ready()
        return self._address

    def _wait_until_ready(self) -> None:
        with self._ready:
            if not self._started:
                assert self._process.stdout is not None
                line = self._process.stdout.readline()
                if line.strip() != b"ready":
                    raise RuntimeError("a server process did not start; its words are on stderr")
                self._started = True

    def close(self) -> None:
        """Kill the server and all its children; a call in progress raises RuntimeError."""
        assert self._process.stdin is not None
        self._process.stdin.close()  # every supervisor watches this pipe
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def call(
    address: str, request: bytes, seconds: float, progress: Callable[[bytes], None] | None = None
) -> bytes:
    """Run one request on a server, in a child of its own, and give its last reply.

    seconds: until the child is killed. progress: gets each earlier reply.

    Raises:
        CandidateError: kind `timeout`, `memory`, `processes`, `output` or `crash`, phase "".
        RuntimeError: the server itself is gone.
    """
    with socket.socket(socket.AF_UNIX) as plain:
        try:
            plain.connect(address)
        except OSError:
            raise RuntimeError("the server process is gone") from None
        connection = Connection(os.dup(plain.fileno()))
    with connection:
        connection.send_bytes(struct.pack("d", seconds) + request)
        while True:
            try:
                frame = connection.recv_bytes()
            except EOFError:
                raise RuntimeError("the server process ended") from None
            if frame[:1] == PROGRESS:
                if progress is not None:
                    progress(frame[1:])
            elif frame[:1] == RESULT:
                return frame[1:]
            else:
                kind, message = json.loads(frame[1:])
                raise CandidateError("", kind, message)


def serve(address: str, config: str) -> None:
    """Import, warm up, then fork a supervisor and a child for each connection until stdin closes."""
    options = json.loads(config)
    handler: Handler = resolve(options["handler"])
    warm, _, argument = options["warm"].partition(" ")
    resolve(warm)(argument)
    limits = Limits(**options["limits"])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are not waited for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the study, which closes us
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(address)
        listener.listen(64)
        os.write(1, b"ready\n")
        selector.register(listener, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if 0 in ready:
                return
            accepted, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _supervise(Connection(accepted.detach()), handler, limits)
                os._exit(0)
            accepted.close()


def _supervise(client: Connection, handler: Handler, limits: Limits) -> None:
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
        _run_child(handler, request[8:], sender, limits)
    sender.close()
    try:
        failure = _watch(pid, client, receiver, time.monotonic() + seconds, limits, seconds)
    except OSError:  # the client went away while a frame was sent to it
        failure = None
    _kill(pid)
    shutil.rmtree(scratch, ignore_errors=True)
    if failure is not None:
        client.send_bytes(FAILURE + json.dumps(failure).encode())


def _watch(
    pid: int, client: Connection, child: Connection, deadline: float, limits: Limits, seconds: float
) -> tuple[str, str] | None:
    """Relay frames until the result; give (kind, message) when there is none."""
    total = 0
    with selectors.DefaultSelector() as selector:
        for source in (child.fileno(), client.fileno(), 0):
            selector.register(source, selectors.EVENT_READ)
        while True:
            ready = [key.fd for key, _ in selector.select(TICK)]
            if 0 in ready or client.fileno() in ready:
                return None  # the study is gone, or no longer wants it
            if child.fileno() in ready:
                try:
                    frame = child.recv_bytes(limits.reply_bytes)
                except EOFError:
                    return _epitaph(pid, limits)
                except OSError:
                    return "output", f"a reply of more than {limits.reply_bytes} bytes"
                total += len(frame)
                if total > limits.reply_bytes:
                    return "output", f"replies of more than {limits.reply_bytes} bytes"
                client.send_bytes(frame)
                if frame[:1] == RESULT:
                    return None
            if time.monotonic() > deadline:
                return "timeout", f"not done after {seconds:.0f} s"
            memory, processes = _group_use(pid)
            if memory > limits.memory_bytes:
                return "memory", f"more than {limits.memory_bytes / 2**30:.1f} GiB of memory"
            if processes > limits.processes:
                return "processes", f"more than {limits.processes} processes"


def _epitaph(pid: int, limits: Limits) -> tuple[str, str]:
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGXCPU:
            return "timeout", f"more than {limits.cpu_seconds} s of processor time"
        name = signal.Signals(os.WTERMSIG(status)).name
        return "crash", f"the process was ended by {name}"
    return "crash", f"the process ended with code {os.waitstatus_to_exitcode(status)} and no answer"


def _kill(pid: int) -> None:
    """Kill the child's whole process group and collect the child."""
    for send in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            send(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _group_use(leader: int) -> tuple[int, int]:
    """Give resident bytes and number of the processes in a session, from /proc; (0, 0) without it."""
    page, memory, count = resource.getpagesize(), 0, 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[3]) == leader:  # the session's leader
            memory += int(fields[21]) * page
            count += 1
    return memory, count


def _run_child(handler: Handler, request: bytes, sender: Connection, limits: Limits) -> None:
    """Become a process group of one's own, take the limits on, and run the handler; never returns."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2) if limits.silent else (0, 1):
        os.dup2(null, descriptor)
    keep = sender.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 4096)
    for name, value in (("CORE", 0), ("FSIZE", limits.file_bytes), ("NOFILE", limits.open_files),
                        ("NPROC", max(limits.processes, 64))):  # fmt: skip
        kind = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    if limits.cpu_seconds:
        resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 5))
    space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (space + 2 * limits.memory_bytes,) * 2)
    code = 1
    try:
        handler(request, sender.send_bytes)
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
