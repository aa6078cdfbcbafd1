"""A host with things to steal and to break, and a wall in it that hostile candidates are thrown at.

`Arena` holds the canaries: a home and a study with secrets, a secret in the environment, listeners on
loopback, and a look at every place where a trace of an attack could stay. `Wall` runs one source behind
a server, as a pool does, but with the rules on sources left out.
"""

import json
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import asi_arch
from asi_arch.engineer import examine, pool
from asi_arch.engineer.bundle import Bundle, Place
from asi_arch.engineer.cost import measure
from asi_arch.engineer.graph import build
from asi_arch.engineer.isolation import detect
from asi_arch.engineer.sandbox import Limits, Server
from asi_arch.engineer.surroundings import environment as pool_environment
from asi_arch.errors import CandidateError
from asi_arch.records import Job, Verdict
from asi_arch.space import load_space

WORKER = ("asi_arch.engineer.worker:translate", "asi_arch.engineer.worker:warm")
PLAIN = ("arena:run_plainly", "arena:warm_plainly")
MEMORY = 2 * 2**30
LIMITS = Limits(
    memory_bytes=MEMORY, processes=1, reply_bytes=2**20, file_bytes=0, open_files=64, cpu_seconds=3
)
PLACE = Place(d_model=16, num_heads=2, layer=0)
LENGTH = 33
TRACES = [[False, [LENGTH]], [True, [LENGTH]]]
PORTS = range(47113, 47117)  # where hostile files knock
MARK = "asi-arch-hostile"  # in the name of every file, and 4242.4242 in the command line, that they leave
WORKED = "ATTACK WORKED"  # what they say where they have reached something
ROOT, HERE = Path(asi_arch.__file__).parent.parent, Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one source. answer: the bytes that came back. ended: why there was no answer, or "".

    limited: it was ended from outside, or could not get what it asked for. harm: what happened to the host.
    """

    answer: bytes
    ended: str
    limited: bool
    harm: tuple[str, ...]
    seconds: float


class Arena:
    """The canaries. Use as a context; `harm()` tells what has happened since the last look."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="asi-arch-canary-"))
        self.secret = "canary" + os.urandom(12).hex()
        for name in ("home", "study"):
            (self.folder / name).mkdir()
            (self.folder / name / "secret.txt").write_text(self.secret)
        self.environment = {"HOME": str(self.folder / "home"), "CANARY_API_KEY": self.secret}
        self.heard: list[str] = []
        self.sockets = [*self._listen()]
        self.before = self._traces()
        self.threads = [threading.Thread(target=self._hear, args=(s,), daemon=True) for s in self.sockets]
        for thread in self.threads:
            thread.start()

    def __enter__(self) -> "Arena":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the canaries away."""
        for listener in self.sockets:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listen(self) -> list[socket.socket]:
        """Listen by TCP, by datagrams and at an abstract name; names of another arena are left to it."""
        tcp = [(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port)) for port in PORTS]
        datagrams = [(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", port)) for port in PORTS]
        abstract = [(socket.AF_UNIX, socket.SOCK_STREAM, "\0asi-arch-canary")]
        made = []
        for places in (tcp, datagrams, abstract):
            for family, kind, address in places:
                listener = socket.socket(family, kind)
                try:
                    listener.bind(address)
                except OSError:
                    listener.close()
                    continue
                if kind == socket.SOCK_STREAM:
                    listener.listen(8)
                made.append(listener)
                break
        return made

    def _hear(self, listener: socket.socket) -> None:
        while True:
            try:
                if listener.type == socket.SOCK_DGRAM:
                    listener.recv(100)
                else:
                    listener.accept()[0].close()
            except OSError:
                return
            self.heard.append("a connection")

    def _traces(self) -> dict[str, Any]:
        """Give every file that could be changed or made, and every process that could be left."""
        places = (Path(tempfile.gettempdir()), Path("/dev/shm"), Path("/var/tmp"), ROOT, HERE, Path.home())
        made = [str(p) for place in places if place.is_dir() for p in place.glob(f"*{MARK}*")]
        made += [str(p) for p in Path("/dev/shm").glob("torch_*")]
        kept = {str(p): p.read_bytes() for p in sorted(self.folder.rglob("*")) if p.is_file()}
        return {"made": made, "kept": kept, "left": self._left()}

    def _left(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if b"4242.4242" in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def harm(self) -> tuple[str, ...]:
        """Give what has happened to the host since the last look, and mend it."""
        now, said = self._traces(), list(dict.fromkeys(self.heard))
        self.heard.clear()
        said += [f"made {Path(p).name}" for p in now["made"] if p not in self.before["made"]]
        said += ["a canary file changed"] if now["kept"] != self.before["kept"] else []
        said += ["a process is left"] if set(now["left"]) - set(self.before["left"]) else []
        for path in set(now["made"]) - set(self.before["made"]):
            Path(path).unlink(missing_ok=True)
        for path, content in self.before["kept"].items():
            Path(path).write_bytes(content)
        for path in set(now["kept"]) - set(self.before["kept"]):
            Path(path).unlink(missing_ok=True)
        for pid in set(now["left"]) - set(self.before["left"]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return tuple(said)


class Wall:
    """A server behind which sources run without the rules on sources."""

    def __init__(self, arena: Arena, handler: tuple[str, str], environment: Mapping[str, str], **more: Any):
        self.arena = arena
        self.make = lambda: Server(*handler, LIMITS, environment, **more)
        self.server = self.make()

    def close(self) -> None:
        """End the server."""
        self.server.close()

    def run(self, source: str, seconds: float = 30.0) -> Outcome:
        """Run one source and look at what it did."""
        config = {"d_model": PLACE.d_model, "num_heads": PLACE.num_heads, "layers": [0], "traces": TRACES}
        request = json.dumps({"source": source, "configs": [config]}).encode()
        self.server.address()
        begin = time.monotonic()
        answer, ended, limited = b"", "", False
        try:
            answer = self.server.call(request, seconds)
        except CandidateError as error:
            ended = f"{error.kind}, {error.message}"
            limited = "ended with code" not in error.message
        except RuntimeError:
            ended, limited = "server", True
            self.server.close()
            self.server = self.make()
        seconds = time.monotonic() - begin
        time.sleep(0.05)  # what it started may still be on its way
        harm = list(self.arena.harm())
        text = answer.decode(errors="replace")
        if self.arena.secret in text:
            harm.append("a secret came out")
        if WORKED in text:
            harm.append("it says that it worked")
        limited = limited or "allocate memory" in text or "MemoryError" in text
        return Outcome(answer=answer, ended=ended, limited=limited, harm=tuple(harm), seconds=seconds)


def uncontained(arena: Arena, handler: tuple[str, str]) -> Wall:
    """Give a wall without containment: the canaries' own environment, and limits only."""
    return Wall(arena, handler, _environment() | arena.environment)


def contained(arena: Arena, handler: tuple[str, str]) -> Wall:
    """Give a wall at the strongest level that this machine offers."""
    return Wall(arena, handler, _environment(), isolation=detect())


def _environment() -> dict[str, str]:
    environment = pool_environment(trusted=False)
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)  # run_plainly is there
    return environment


class Gates:
    """Every check, those after a short training too, for sources that the rules would refuse."""

    def __init__(self) -> None:
        self.server = Server(*WORKER, pool.WALL_LIMITS, pool_environment(trusted=False))
        examine.warm(f"{self.server.address()} linear_attention")

    def close(self) -> None:
        """End the server."""
        self.server.close()

    def failure(self, source: str) -> str:
        """Give `check: message` of what refuses a source, or ""."""
        rules = examine.require_source
        examine.require_source = lambda text: Verdict(name="source", passed=True, message="left out")
        try:
            trial = load_space("linear_attention").stages["trial"]
            job = Job(space="linear_attention", name="candidate", source=source, stage=trial)
            evidence = examine.examine(job, lambda progress: None)
        finally:
            examine.require_source = rules
        return f"{evidence.failure.phase}: {evidence.failure.message}" if evidence.failure else ""


def warm_plainly(_: str = "") -> None:
    """Load what a plain run of an honest file loads."""
    torch.set_num_threads(1)
    source = (Path(__file__).parent / "hostile" / "_honest.py").read_text()
    run_plainly(json.dumps({"source": source}).encode(), lambda answer: None)


def run_plainly(request: bytes, send: Any) -> None:
    """Run a source as a plain program: import, build, forward, backward; no graph is made of it.

    A handler for the server: what containment stops alone.
    """
    scope: dict[str, Any] = {"__name__": "candidate"}
    try:
        exec(compile(json.loads(request)["source"], "<candidate>", "exec"), scope)
        mixer = scope["Mixer"](PLACE.d_model, PLACE.num_heads, 0)
        for _ in range(2):
            y, _state = mixer(torch.randn(5, LENGTH, PLACE.d_model, requires_grad=True))
            y.sum().backward()
        said = "done"
    except BaseException as error:  # noqa: BLE001 - whatever a candidate raises is its answer
        said = f"{type(error).__name__}: {str(error)[:2000]}"
    send(b"R" + said.encode("ascii", "replace"))


def judge(outcome: Outcome, honest: Sequence[Outcome]) -> str:
    """Say what the graph's side makes of an answer: `refused: ...`, `disarmed` or `differs`.

    honest: outcomes of honest files; an answer equal to one of them holds nothing of an attack.
    """
    if outcome.ended:
        return f"refused: {outcome.ended}"
    if outcome.answer in [h.answer for h in honest]:
        return "disarmed"
    try:
        bundle = Bundle(outcome.answer)
        bundle.tensors(PLACE, 0)
        graphs = {mode: bundle.graph(PLACE, mode, (LENGTH,)) for mode in ("eval", "train")}
        for graph in graphs.values():
            measure(graph, 2)
    except CandidateError as error:
        return f"refused: {error.phase}, {error.message[:160]}"
    for mode, graph in graphs.items():
        if _looks_ahead(bundle, graph):
            return f"refused: causality, in {mode} mode"
    return "differs"


def _looks_ahead(bundle: Bundle, graph: Any) -> bool:
    """Tell whether later inputs move the first outputs."""
    tensors = bundle.tensors(PLACE, 0)
    x = torch.randn(3, LENGTH, PLACE.d_model)
    y = []
    for factor in (1.0, 2.0):
        later = torch.cat([x[:, :9], factor * x[:, 9:]], 1)
        inputs = [later if i.kind == "x" else tensors[i.name] for i in graph.inputs]
        y.append(build(graph, dropout=False)(*inputs)[0][:, :9])
    return not torch.allclose(y[0], y[1], rtol=1e-4, atol=1e-5)
