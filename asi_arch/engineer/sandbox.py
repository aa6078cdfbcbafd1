"""A warm server process that forks one limited, killable child for each request.

torch is imported once, before the first fork, so a request costs a fork and not an import. Two servers of
this kind run beside a pool: one behind which candidate Python runs (`worker.translate`), in namespaces and
with children that give up what `isolation.py` names; and one for our own checks and training (`examine`),
with limits and nothing more.

What it does not protect from: at level `weak` a child runs as the same user, sees the file system and the
network, and can kill what that user may kill. The request's seconds, memory and replies hold all the same.
"""

import json
import os
import secrets
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

from asi_arch.engineer.isolation import Isolation, namespaces, prepare
from asi_arch.engineer.kin import MARK, is_stranger
from asi_arch.engineer.supervisor import FAILURE, PROGRESS, RESULT, Handler, Limits, supervise
from asi_arch.errors import CandidateError
from asi_arch.space import resolve

__all__ = ["FAILURE", "PROGRESS", "RESULT", "Limits", "Server", "call"]


class Server:
    """A warm server; thread-safe, many requests at once."""

    def __init__(
        self,
        handler: str,
        warm: str,
        limits: Limits,
        environment: Mapping[str, str],
        isolation: Isolation | None = None,
    ) -> None:
        """Start the process; it is ready when the first `call` returns.

        Args:
            handler: "module:function" called in the child as `handler(request, send)`.
            warm: "module:function(text)" and its argument after a space, called once before the
                first fork.
            limits: of each child.
            environment: the whole environment of the server and its children.
            isolation: what contains the server and its children; None for code of our own.
        """
        contained = isolation or Isolation()
        variables = {**environment, MARK: secrets.token_hex(8)}
        self._folder = Path(tempfile.mkdtemp(prefix="asi-arch-"))
        self._address = str(self._folder / "s")
        self._ready = threading.Lock()
        self._started = False
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._address)  # outside the server, which sees neither the name nor the folder
            listener.listen(64)
            config = json.dumps({"handler": handler, "warm": warm, "limits": asdict(limits),
                                 "listener": listener.fileno(), "isolation": asdict(contained)})  # fmt: skip
            command = [sys.executable, "-P", "-m", "asi_arch.engineer.sandbox", config]
            if contained.bubblewrap:
                command = namespaces(contained.bubblewrap, variables) + command
            self._process = self._start(command, variables, listener.fileno())

    def _start(
        self, command: list[str], environment: Mapping[str, str], listener: int
    ) -> "subprocess.Popen[bytes]":
        """Start a process from a thread that waits for it: bubblewrap dies with the thread that made it."""
        started: SimpleQueue[subprocess.Popen[bytes] | OSError] = SimpleQueue()

        def keep() -> None:
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environment),
                    cwd=self._folder, start_new_session=True, pass_fds=[listener])  # fmt: skip
            except OSError as error:
                started.put(error)
                return
            started.put(process)
            process.wait()

        threading.Thread(target=keep, daemon=True).start()
        process = started.get()
        if isinstance(process, OSError):
            raise process
        return process

    def call(self, request: bytes, seconds: float, progress: Callable[[bytes], None] | None = None) -> bytes:
        """Run one request in a child of its own and give its last reply; see `call`."""
        return call(self.address(), request, seconds, progress)

    def address(self, wait: bool = True) -> str:
        """Give the server's address for `call`, once it is ready; a call made before that waits too."""
        if wait:
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
        sent = False
        while True:
            try:
                if not sent:
                    connection.send_bytes(struct.pack("d", seconds) + request)
                    sent = True
                frame = connection.recv_bytes()
            except (EOFError, ConnectionError):
                raise RuntimeError("the server process ended, or does not listen to this one") from None
            if frame[:1] == PROGRESS:
                if progress is not None:
                    progress(frame[1:])
            elif frame[:1] == RESULT:
                return frame[1:]
            else:
                kind, message = json.loads(frame[1:])
                raise CandidateError("", kind, message)


def serve(config: str) -> None:
    """Import, warm up, then fork a supervisor and a child for each connection until stdin closes."""
    parent = os.getppid()
    options = json.loads(config)
    limits, isolation = Limits(**options["limits"]), Isolation(**options["isolation"])
    handler: Handler = resolve(options["handler"])
    warm, _, argument = options["warm"].partition(" ")
    prepare(isolation)
    resolve(warm)(argument)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are not waited for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the study, which closes us
    listener = socket.socket(fileno=options["listener"])
    with listener, selectors.DefaultSelector() as selector:
        os.write(1, b"ready\n")
        selector.register(listener, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if 0 in ready:
                return
            accepted, _ = listener.accept()
            if _is_welcome(accepted, parent, bool(isolation.bubblewrap)) and os.fork() == 0:
                listener.close()
                supervise(Connection(accepted.detach()), handler, limits, isolation)
                os._exit(0)
            accepted.close()


def _is_welcome(peer: socket.socket, parent: int, namespace: bool) -> bool:
    """Tell whether a request comes from a process of the study, and not from a child of ours."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    form = "3i"  # process, user, group
    pid, _, _ = struct.unpack(
        form, peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
    )
    return pid == 0 if namespace else not is_stranger(pid, parent)  # 0: not in our namespace


if __name__ == "__main__":
    serve(sys.argv[1])
