"""What contains a candidate, at every level that this machine has: real processes, real ways out."""

import importlib.util
import json
import os
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import prison
import psutil
import pytest
from nobody import NOBODY, as_nobody, make_home, refusing

import asi_arch
from asi_arch.engineer.isolation import Isolation, detect, require_isolation
from asi_arch.engineer.kin import MARK
from asi_arch.engineer.sandbox import Limits, Server, call
from asi_arch.engineer.surroundings import environment
from asi_arch.errors import CandidateError, SetupError

HERE = Path(__file__).parent
PACKAGE = Path(asi_arch.__file__).parent
LIMITS = Limits(memory_bytes=2**29, processes=3, reply_bytes=2**16, file_bytes=0, cpu_seconds=20)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="mechanisms of the Linux kernel")
LEVELS = ("full", "strong", "weak")


def isolation(level: str) -> Isolation:
    """The strongest of a level here; skips the test where there is none."""
    found = {"full": detect, "strong": lambda: detect(False), "weak": lambda: Isolation()}[level]()
    if found.level != level:
        pytest.skip(f"this machine offers {found.state}; {found.cure}")
    return found


@contextmanager
def server(
    contained: Isolation, limits: Limits = LIMITS, canary: str = "", port: int = 0
) -> Iterator[Server]:
    variables = environment(trusted=False)
    variables["PYTHONPATH"] += os.pathsep + str(HERE)
    made: Server | None = None
    variables["PRISON"] = json.dumps({"canary": canary, "port": port})
    try:
        made = Server("prison:run", "prison:warm -", limits, variables, contained)
        yield made
    finally:
        if made is not None:
            made.close()


@pytest.fixture
def canary() -> Iterator[Path]:
    """A secret in a folder beside the package's, which everybody may read."""
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "study" / "secret.txt"
        secret.parent.mkdir()
        secret.write_text("canary")
        for path in (Path(folder), secret.parent):
            path.chmod(0o755)
        yield secret


def wait_for_death(pid: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("level", LEVELS)
def test_the_environment_holds_what_we_put_there_and_no_more(level, monkeypatch):
    monkeypatch.setenv("CANARY_API_KEY", "sk-canary")
    for name in [name for name in os.environ if name.startswith("OPENBLAS_")]:
        monkeypatch.delenv(name)  # how a machine's arithmetic is done is let through
    with server(isolation(level)) as made:
        seen = json.loads(made.call(b"seen", 20))
    assert set(seen) - {"LC_CTYPE", "PWD", "LD_LIBRARY_PATH", "PYTHONUSERBASE"} == {
        *"PATH LANG OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS PYTHONPATH PYTHONHASHSEED".split(),
        "PYTHONDONTWRITEBYTECODE", "PRISON", MARK,
    }  # fmt: skip
    assert "sk-canary" not in json.dumps(seen)


@LINUX
@pytest.mark.parametrize("level", ["full", "strong"])
def test_no_way_out_works(level, canary):
    with prison.listeners() as (port, heard), server(isolation(level), LIMITS, str(canary), port) as made:
        assert json.loads(made.call(b"break_out", 30)) == []
    assert heard == []


@LINUX
@pytest.mark.parametrize("level", ["full", "strong"])
def test_a_child_has_no_rights_left_as_its_supervisor_sees(level):
    with server(isolation(level)) as made:
        seen: list[dict[str, str]] = []

        def look(_: bytes) -> None:
            below = psutil.Process(made._process.pid).children(recursive=True)
            seen.extend(status for p in below if (status := status_of(p.pid))["Seccomp"] == "2")

        with pytest.raises(CandidateError, match="not done after 2 s"):
            made.call(b"spin", 2, look)
    [status] = seen
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    if level == "strong" and os.geteuid() == 0:
        assert all(int(uid) > 1_000_000 for uid in status["Uid"].split())


@LINUX
def test_namespaces_alone_hide_files_processes_and_the_network(canary):
    only = replace(isolation("full"), seccomp=False, landlock=0)
    with prison.listeners() as (port, heard), server(only, LIMITS, str(canary), port) as made:
        seen = json.loads(made.call(b"look_around", 30))
        assert json.loads(made.call(b"look_around", 30)) == seen  # the first one's end hurt nobody
    assert heard == []
    assert seen.pop("processes") <= 4  # bubblewrap's first process, the server, the supervisor, the child
    assert set(seen.pop("beside the package")) <= {PACKAGE.name, HERE.name, Path(sys.prefix).name}
    assert not any(seen.values()), seen


@LINUX
def test_landlock_alone_hides_every_file(canary):
    landlock = detect(False).landlock
    if not landlock:
        pytest.skip("no Landlock here")
    with server(Isolation(landlock=landlock), LIMITS, str(canary)) as made, pytest.raises(CandidateError):
        made.call(b"look_around", 20)  # it cannot even list a folder


@pytest.mark.parametrize("by_user", [False, True])
@pytest.mark.parametrize("name", ["daemon", "daemon_of_the_dead"])
def test_a_daemon_that_detaches_is_killed_even_where_nothing_contains_it(name, by_user):
    if by_user and not detect(False).user:
        pytest.skip("only root can give each child a user id")
    heard: list[bytes] = []
    began = time.monotonic()
    with server(Isolation(user=by_user)) as made:
        if name == "daemon":
            assert made.call(b"daemon", 30, heard.append) == b'"done"'
        else:
            with pytest.raises(CandidateError, match="ended with code 0 and no answer"):
                made.call(name.encode(), 30, heard.append)
        assert wait_for_death(int(heard[0]))
    assert time.monotonic() - began < 25  # an open pipe is not waited for


def test_processes_are_counted_in_whatever_session_they_are():
    heard: list[bytes] = []
    with server(Isolation()) as made:
        with pytest.raises(CandidateError, match="more than 3 processes"):
            made.call(b"brood", 20, heard.append)
        assert all(wait_for_death(int(pid)) for pid in heard)


@pytest.mark.parametrize("level", ["full", "weak"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("half_a_frame", "timeout"),
        ("mute", "timeout"),
        ("huge", "output"),
        ("forged", "output"),
        ("flood", "output"),
    ],
)
def test_no_play_with_the_reply_keeps_the_supervisor_from_the_clock(level, name, kind):
    with server(isolation(level)) as made:
        made.address()
        began = time.monotonic()
        with pytest.raises(CandidateError) as caught:
            made.call(name.encode(), 2)
    if name in ("half_a_frame", "mute") and level == "full":  # it may not even sleep
        kind = "crash"
    assert caught.value.kind == kind
    assert time.monotonic() - began < 10


def test_a_child_cannot_give_the_server_work():
    with server(Isolation()) as made:
        assert made.call(b"knock", 20) == b"\"b''\""
        assert b"PATH" in made.call(b"seen", 20)


def test_a_process_that_is_no_part_of_the_study_is_not_listened_to():
    with server(Isolation()) as made:
        script = (
            "import sys; from asi_arch.engineer.sandbox import call; print(call(sys.argv[1], b'seen', 5))"
        )
        command = [
            sys.executable,
            "-c",
            f"import os\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: {script}",
        ]
        command.append(made.address())
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "PATH" not in done.stdout
        assert "ended" in done.stderr or "gone" in done.stderr


def test_a_server_outlives_the_thread_that_started_it():
    made: list[Server] = []
    with server(detect()) as first:
        made.append(first)
        variables = environment(trusted=False)
        variables["PYTHONPATH"] += os.pathsep + str(HERE)

        def start() -> None:
            made.append(Server("prison:run", "prison:warm -", LIMITS, variables, detect()))
            made[1].address()

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        time.sleep(0.3)
        assert b"PATH" in call(made[1].address(), b"seen", 20)
        made[1].close()


@pytest.mark.parametrize("level", LEVELS)
def test_a_killed_study_leaves_no_process_at_any_level(level):
    script = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
import test_isolation as t
with t.server(t.isolation({level!r})) as made:
    made.address()
    print(made._process.pid, flush=True)
    made.call(b"spin", 60)
"""
    isolation(level)
    study = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with study:
        assert study.stdout is not None
        began = psutil.Process(int(study.stdout.readline()))
        time.sleep(0.3)
        family = [began, *began.children(recursive=True)]
        study.kill()
    assert len(family) >= 3  # a server, a supervisor, a child
    assert all(wait_for_death(process.pid) for process in family)


def test_every_level_is_told_with_its_cure():
    assert Isolation().level == "weak"
    assert "bubblewrap" in Isolation().cure or sys.platform != "linux"
    assert Isolation(seccomp=True).level == "strong"
    full = Isolation(bubblewrap="/usr/bin/bwrap", seccomp=True, landlock=7)
    assert (full.level, full.cure) == ("full", "")
    assert "not" not in full.state
    refused = Isolation(seccomp=True, landlock=7, trouble="no permission")
    assert refused.cure == "bubblewrap is there but refused: no permission"
    require_isolation(full)
    require_isolation(refused)
    with pytest.raises(SetupError, match="--require-isolation"):
        require_isolation(Isolation(bubblewrap="/usr/bin/bwrap"))


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """An ordinary user's home with a copy of the package and an environment of Python in it."""
    with make_home("prison.py") as folder:
        (folder / "secret.txt").write_text("canary")
        yield folder


def break_out(command: list[str], home: Path) -> dict[str, object]:
    with prison.listeners() as (port, heard):
        words = [*command, str(home / "tests/prison.py"), str(home / "secret.txt"), str(port)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert heard == []
    found: dict[str, object] = json.loads(done.stdout)
    return found


@LINUX
def test_an_ordinary_user_with_python_in_a_home_folder_is_protected_as_well(home):
    found = break_out(as_nobody(home), home)
    assert (found["user"], found["reached"]) == (NOBODY, [])
    assert found["level"] == detect().level or found["trouble"]


@LINUX
def test_where_user_namespaces_are_refused_the_filter_holds(home):
    found = break_out(as_nobody(home, *refusing()), home)
    assert (found["level"], found["reached"]) == ("strong", [])
    assert found["trouble"]


def test_what_python_needs_holds_no_folder_beside_the_package():
    from asi_arch.engineer.surroundings import visible_paths

    visible = [Path(path) for path in visible_paths(environment(trusted=False))]
    if importlib.util.find_spec("asi_arch").origin.startswith(sysconfig.get_path("purelib")):
        pytest.skip("the package is installed among others")
    assert PACKAGE in visible
    hidden = (PACKAGE.parent, PACKAGE.parent / "studies", PACKAGE.parent / ".git", Path.home())
    assert not any(path == secret or path in secret.parents for path in visible for secret in hidden)
    assert all(
        stat.S_ISDIR(path.stat().st_mode) or path.name in ("pyvenv.cfg",) or path.is_file()
        for path in visible
    )


LATE = """
import json, sys
from asi_arch.engineer import rehearsal, worker
from asi_arch.space import load_space

def translate(request, send):
    answers = []
    worker.translate(request, answers.append)
    source = json.loads(request)["source"]
    if source.endswith((rehearsal.SOUND, rehearsal.SOFTMAX)):
        assert b'"failure"' not in answers[0], answers[0]

rehearsal.rehearse(translate)
space = load_space("linear_attention")
sources = [space.baseline_source(name) for name in ("delta_net", "mamba2", "softmax_attention")]
rejects = ("graph", "determinism", "contract")
sources += [(space.folder / "rejects" / f"{name}.py").read_text() for name in rejects]
late = []
sys.addaudithook(lambda event, args: late.append(args[0]) if event == "import" else None)
traces = [[True, [33]], [False, [33]], [False, [31, 2]]]
config = {"d_model": 64, "num_heads": 4, "layers": [0], "traces": traces}
known = set(sys.modules) | {"candidate"}
for source in sources:
    worker.translate(json.dumps({"source": source, "configs": [config]}).encode(), lambda answer: None)
print(json.dumps([name for name in late if name not in known]))
"""


def test_the_rehearsal_leaves_nothing_to_import_after_the_fork():
    done = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, timeout=300, check=False,
        env=environment(trusted=False))  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == []
