"""The warm server: one child a request, limited, and gone with all its kin at the deadline."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asi_arch.engineer.pool import environment
from asi_arch.engineer.sandbox import Limits, Server
from asi_arch.errors import CandidateError

LIMITS = Limits(memory_bytes=200 * 2**20, processes=2, reply_bytes=10_000, file_bytes=100, cpu_seconds=2)
HANDLERS = """
    import os, subprocess, sys, time, json
    R, P = b"R", b"P"
    def warm(_): pass
    def echo(request, send): send(P + b"half"); send(R + request.upper())
    def environ(request, send):
        seen = [dict(os.environ), open("/proc/self/environ").read()]
        send(R + json.dumps(seen).encode())
    def sleep(request, send): time.sleep(60)
    def spin(request, send):
        while True: pass
    def crash(request, send): os._exit(3)
    def signal(request, send): os.kill(os.getpid(), 11)
    def raises(request, send): raise ValueError("ours")
    def memory(request, send): data = bytearray(300 * 2**20); time.sleep(60)
    def output(request, send): send(R + b"x" * 20_000)
    def chatter(request, send):
        for _ in range(100): send(P + b"x" * 1000)
        send(R)
    def file(request, send):
        open("big", "wb", 0).write(b"x" * 1000); send(R + str(os.path.getsize("big")).encode())
    def brood(request, send):
        for _ in range(5): subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        time.sleep(60)
    def child(request, send):
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        send(P + str(process.pid).encode()); time.sleep(60)
    def pid(request, send): send(R + str(os.getpid()).encode())
"""


@contextmanager
def server(folder: Path, handler: str) -> Iterator[Server]:
    (folder / "handlers_here.py").write_text(textwrap.dedent(HANDLERS))
    env = environment(trusted=False)
    env["PYTHONPATH"] += os.pathsep + str(folder)
    made = Server(f"handlers_here:{handler}", "handlers_here:warm -", LIMITS, env)
    try:
        yield made
    finally:
        made.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_request_runs_in_a_fresh_child_and_its_progress_arrives(tmp_path: Path) -> None:
    heard: list[bytes] = []
    with server(tmp_path, "echo") as made:
        assert made.call(b"hello", 20, heard.append) == b"HELLO"
    assert heard == [b"half"]


def test_each_request_has_a_process_of_its_own_and_many_run_at_once(tmp_path: Path) -> None:
    pids: list[bytes] = []
    with server(tmp_path, "pid") as made:
        threads = [threading.Thread(target=lambda: pids.append(made.call(b"", 20))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(pids)) == 8


def test_no_variable_of_ours_reaches_a_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with server(tmp_path, "environ") as made:
        answer = made.call(b"", 20).decode()
    assert "sk-secret" not in answer
    assert "HOME" not in json.loads(answer)[0]


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("sleep", "timeout"),
        ("spin", "timeout"),
        ("crash", "crash"),
        ("signal", "crash"),
        ("raises", "crash"),
        ("memory", "memory"),
        ("output", "output"),
        ("chatter", "output"),
        ("brood", "processes"),
    ],
)
def test_a_child_that_breaks_a_limit_is_ended_and_named(tmp_path: Path, handler: str, kind: str) -> None:
    with server(tmp_path, handler) as made, pytest.raises(CandidateError) as caught:
        made.call(b"", 3 if kind == "timeout" else 30)
    assert caught.value.kind == kind


def test_no_file_can_grow_beyond_the_limit(tmp_path: Path) -> None:
    with server(tmp_path, "file") as made:
        assert made.call(b"", 20) == str(LIMITS.file_bytes).encode()


def test_an_endless_child_is_killed_with_its_children(tmp_path: Path) -> None:
    heard: list[bytes] = []
    with server(tmp_path, "child") as made:
        with pytest.raises(CandidateError, match="not done after 2 s"):
            made.call(b"", 2, heard.append)
        assert wait_for(lambda: not alive(int(heard[0])))


def test_closing_the_server_ends_what_runs(tmp_path: Path) -> None:
    heard: list[bytes] = []
    errors: list[type] = []

    def call(made: Server) -> None:
        try:
            made.call(b"", 60, heard.append)
        except (RuntimeError, CandidateError) as error:
            errors.append(type(error))

    with server(tmp_path, "child") as made:
        thread = threading.Thread(target=call, args=(made,))
        thread.start()
        assert wait_for(lambda: bool(heard))
    thread.join(10)
    assert errors == [RuntimeError]
    assert wait_for(lambda: not alive(int(heard[0])))


def test_a_killed_study_leaves_no_process_behind(tmp_path: Path) -> None:
    (tmp_path / "handlers_here.py").write_text(textwrap.dedent(HANDLERS))
    program = """
        import os, sys
        sys.path.insert(0, sys.argv[1])
        from asi_arch.engineer.sandbox import Limits, Server
        limits = Limits(memory_bytes=2**30, processes=4, reply_bytes=1000, file_bytes=100)
        env = {**os.environ, "PYTHONPATH": sys.argv[1]}
        made = Server("handlers_here:child", "handlers_here:warm -", limits, env)
        made.call(b"", 60, lambda text: print(text.decode(), made._process.pid, flush=True))
    """
    study = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert study.stdout is not None
    pids = [int(pid) for pid in study.stdout.readline().split()]
    study.kill()
    study.wait()
    study.stdout.close()
    assert len(pids) == 2
    assert wait_for(lambda: not any(alive(pid) for pid in pids))


LATE = """
import time
from multiprocessing.connection import Pipe
from asi_arch.engineer.supervisor import RESULT, Limits, _Watch

class Kin:
    '''A child that answers and ends after a wait for it was over, and before it is looked for.'''
    def use(self):
        return 0, 1

    def ended(self):
        if not voice.closed:
            voice.send_bytes(RESULT + b"{}")
            voice.close()
        return True

receiver, voice = Pipe(duplex=False)
client, study = Pipe()
limits = Limits(memory_bytes=1, processes=9, reply_bytes=999, file_bytes=1)
found = _Watch(Kin(), client, receiver, limits).until(time.monotonic() + 9, 9)
print(found, study.poll() and study.recv_bytes())
"""


def test_an_answer_that_comes_between_a_wait_and_the_look_at_the_child_is_not_lost():
    with subprocess.Popen([sys.executable, "-c", LATE], stdin=-1, stdout=-1, text=True) as running:
        assert running.stdout is not None  # its stdin stays open, as a study's line to its supervisor does
        assert running.stdout.read() == "None b'R{}'\n"
