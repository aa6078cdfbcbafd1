"""What a hostile candidate would do if it got past the rules: run in a child of a server, at some level.

As a program it prints, as JSON, the level that `detect` finds and what the break-outs reached at it:
`python tests/prison.py CANARY PORT`, with a file that may not be read and a port that may not be reached.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
ABSTRACT = "\0asi-arch-canary-of-isolation"
EVALUATION = json.__file__  # one of the files that evaluation rows are made of
BLOCK = ctypes.create_string_buffer(256)
CALLS = {  # of the C library, with arguments that would work without a filter, or fail in another way
    "ptrace": (16, os.getppid(), 0, 0),
    "process_vm_readv": (os.getppid(), BLOCK, 1, BLOCK, 1, 0),
    "process_vm_writev": (os.getppid(), BLOCK, 1, BLOCK, 1, 0),
    "unshare": (0x10000000,),
    "setns": (0, 0),
    "mount": (b"none", b"/tmp", b"tmpfs", 0, 0),
    "chroot": (b"/tmp",),
    "personality": (0,),
    "prctl": (4, 1, 0, 0, 0),
    "shmget": (0, 4096, 0o1600),
    "msgget": (0, 0o1600),
    "semget": (0, 1, 0o1600),
    "inotify_init": (),
    "eventfd": (0, 0),
    "timerfd_create": (1, 0),
    "signalfd": (-1, BLOCK, 0),
    "vfork": (),
    "setpgid": (0, 0),
}
NUMBERED = {  # new calls have one number on every processor
    "pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "fsopen": 430, "pidfd_open": 434,
    "clone3": 435, "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440, "landlock_create_ruleset": 444,
    "memfd_secret": 447,
}  # fmt: skip


def warm(_: str) -> None:
    """Nothing is needed."""


def run(request: bytes, send: Callable[[bytes], None]) -> None:
    """Try what is asked for by name and say whether it raised."""
    send(b"R" + json.dumps(globals()[request.decode()](send)).encode())


def seen(_: object) -> dict[str, str]:
    """All variables."""
    return dict(os.environ)


def break_out(_: object, canary: str = "", port: int = 0) -> list[str]:
    """Try every way out; give those that worked."""
    config = json.loads(os.environ["PRISON"])
    canary, port = config["canary"], config["port"]
    ways: dict[str, Callable[[], Any]] = {
        "read a canary": lambda: Path(canary).read_text(),
        "read the evaluation text": lambda: Path(EVALUATION).read_text(),
        "read the parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "read oneself": lambda: Path("/proc/self/maps").read_text(),
        "list the root": lambda: os.listdir("/"),
        "look at a file": lambda: os.stat(canary),
        "write a file": lambda: Path("here").write_text(""),
        "make a folder": lambda: os.mkdir("folder"),
        "connect to loopback": lambda: socket.create_connection(("127.0.0.1", port), 1),
        "connect to an abstract socket": lambda: socket.socket(socket.AF_UNIX).connect(ABSTRACT),
        "make a pair of sockets": socket.socketpair,
        "make a pipe": os.pipe,
        "make a file in memory": lambda: os.memfd_create("x"),
        "fork": _forked,
        "start a program": lambda: subprocess.run(["true"], check=True),
        "become a program": lambda: os.execv("/bin/true", ["true"]),
        "start a thread": lambda: threading.Thread(target=print).start(),
        "signal the parent": lambda: os.kill(os.getppid(), 0),
        "signal all": lambda: os.kill(-1, 0),
        "signal the group": lambda: os.killpg(0, 0),
        "leave the session": os.setsid,
        "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)),
        "sleep": lambda: time.sleep(0.01),
        "trace the parent by a new handle": lambda: os.pidfd_open(os.getppid()),
        "change the user": lambda: os.setuid(0),
    }
    worked = [name for name, way in ways.items() if not _raises(way)]
    worked += [f"{name} ({ctypes.get_errno()})" for name, args in CALLS.items() if not _denied(name, *args)]
    return worked + [name for name, number in NUMBERED.items() if not _denied("syscall", number, 0, 0, 0, 0)]


def look_around(_: object) -> dict[str, Any]:
    """Tell what namespaces show, where nothing else is in force."""
    config = json.loads(os.environ["PRISON"])
    return {
        "canary": os.path.exists(config["canary"]),
        "beside the package": sorted(os.listdir(os.environ["PYTHONPATH"].split(os.pathsep)[0])),
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "loopback": not _raises(lambda: socket.create_connection(("127.0.0.1", config["port"]), 1)),
        "abstract": not _raises(lambda: socket.socket(socket.AF_UNIX).connect(ABSTRACT)),
        "python is written": not _raises(lambda: os.open(json.__file__, os.O_WRONLY)),
        "root is written": not _raises(lambda: os.mkdir("/here")),
        "devices": not _raises(lambda: os.open("/dev/mem", os.O_RDONLY)),
    }


def daemon(send: Callable[[bytes], None]) -> str:
    """Leave a process that has a session of its own and no parent of ours."""
    _leave_a_daemon(send)
    return "done"


def daemon_of_the_dead(send: Callable[[bytes], None]) -> None:
    """Leave one and end without an answer; the daemon holds the pipe open."""
    _leave_a_daemon(send)
    os._exit(0)


def brood(send: Callable[[bytes], None]) -> None:
    """Leave one session after another, waiting: more than the limit, though none is in ours."""
    for _ in range(4):
        _leave_a_daemon(send)
    time.sleep(60)


def half_a_frame(send: Callable[[bytes], None]) -> None:
    """Promise more than is sent."""
    _write(send, (1000).to_bytes(4, "big") + b"R...")
    time.sleep(60)


def mute(send: Callable[[bytes], None]) -> None:
    """Close the pipe and stay."""
    os.close(_pipe(send))
    time.sleep(60)


def huge(send: Callable[[bytes], None]) -> None:
    """Announce a frame of 2^60 bytes."""
    _write(send, b"\xff\xff\xff\xff" + (2**60).to_bytes(8, "big"))
    time.sleep(60)


def forged(send: Callable[[bytes], None]) -> None:
    """Send what only a supervisor may."""
    send(b"F[]")
    time.sleep(60)


def flood(send: Callable[[bytes], None]) -> None:
    """Send progress without end."""
    while True:
        send(b"P")


def spin(send: Callable[[bytes], None]) -> None:
    """Say that one is there, and stay."""
    send(b"P")
    while True:
        pass


def knock(_: object) -> str:
    """Send a request of one's own to the server; give its answer."""
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(json.loads(os.environ["PRISON"]).get("door") or "../s")
        door.settimeout(5)
        try:
            door.sendall((8 + 4).to_bytes(4, "big") + b"\0" * 8 + b"seen")
            return repr(door.recv(100))
        except ConnectionError:
            return "b''"


def _forked() -> None:
    if os.fork() == 0:
        os._exit(0)


def _leave_a_daemon(send: Callable[[bytes], None]) -> None:
    receive, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            os.write(tell, str(os.getpid()).encode())
            time.sleep(60)
        os._exit(0)
    os.wait()
    send(b"P" + os.read(receive, 20))


def _pipe(send: Callable[[bytes], None]) -> int:
    return int(send.__self__.fileno())  # type: ignore[attr-defined]


def _write(send: Callable[[bytes], None], data: bytes) -> None:
    os.write(_pipe(send), data)


def _raises(way: Callable[[], Any]) -> bool:
    try:
        way()
    except (OSError, RuntimeError, subprocess.SubprocessError, ValueError, LookupError):
        return True
    return False


def _denied(name: str, *args: Any) -> bool:
    ctypes.set_errno(0)
    return bool(getattr(LIBC, name)(*args) == -1 and ctypes.get_errno() in (1, 38))  # EPERM, ENOSYS


@contextmanager
def listeners() -> Iterator[tuple[int, list[str]]]:
    """Listen on loopback and on an abstract socket; give the port, and who was heard so far."""
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as loopback, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(ABSTRACT)
        abstract.listen()

        def hear(listener: socket.socket, name: str) -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return
                heard.append(name)

        pairs = ((loopback, "loopback"), (abstract, "abstract"))
        threads = [threading.Thread(target=hear, args=pair, daemon=True) for pair in pairs]
        for thread in threads:
            thread.start()
        try:
            yield loopback.getsockname()[1], heard
        finally:
            for listener, _ in pairs:
                listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(5)


def main() -> None:
    from asi_arch.engineer.isolation import detect
    from asi_arch.engineer.sandbox import Limits, Server
    from asi_arch.engineer.surroundings import environment

    canary, port = sys.argv[1:]
    found = detect()
    limits = Limits(memory_bytes=2**29, processes=1, reply_bytes=2**16, file_bytes=0, cpu_seconds=20)
    variables = environment(trusted=False)
    variables["PYTHONPATH"] += os.pathsep + os.path.dirname(os.path.abspath(__file__))
    variables["PRISON"] = json.dumps({"canary": canary, "port": int(port)})
    server = Server("prison:run", "prison:warm -", limits, variables, found)
    try:
        reached = json.loads(server.call(b"break_out", 30))
    finally:
        server.close()
    print(
        json.dumps({"level": found.level, "trouble": found.trouble, "user": os.getuid(), "reached": reached})
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    main()
