"""The pool of this machine: every job in a child process of its own, forked from a warm one."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from types import TracebackType

from asi_arch.engineer.isolation import Isolation, detect
from asi_arch.engineer.sandbox import PROGRESS, RESULT, Limits, Server
from asi_arch.engineer.surroundings import environment
from asi_arch.errors import CandidateError
from asi_arch.records import Evidence, Failure, Job, Progress, from_json, text_hash, to_json
from asi_arch.space import Space, load_space, resolve

GIB = 2**30
WALL_LIMITS = Limits(
    memory_bytes=3 * GIB, processes=1, reply_bytes=8 * 2**20, file_bytes=0, open_files=64, cpu_seconds=100
)
JOB_LIMITS = Limits(memory_bytes=8 * GIB, processes=8, reply_bytes=64 * 2**20, file_bytes=GIB, silent=False)
PHASES = {"translate": "graph", "check": "checks"}


def _silent(_: Progress) -> None:
    """Ignore progress."""


class LocalPool:
    """Runs jobs on this machine, as many at once as there are workers; thread-safe.

    A candidate's fault is `Evidence.failure`, never an exception. RuntimeError means that the pool's
    own processes are gone.

    Args:
        space: whose jobs these are.
        workers: jobs at once.
        check_seconds, train_seconds: until a job is given up.
        isolation: what contains candidate code; None for the strongest that this machine has.
    """

    def __init__(
        self,
        space: Space,
        workers: int,
        check_seconds: float = 900.0,
        train_seconds: float = 3600.0,
        isolation: Isolation | None = None,
    ) -> None:
        self._space = space
        self._isolation = isolation
        self._slots = threading.Semaphore(workers)
        self._seconds = (check_seconds, train_seconds)
        self._wall: Server | None = None
        self._server: Server | None = None
        self._start = threading.Lock()

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, job: Job, report: Callable[[Progress], None] = _silent) -> Evidence:
        """Run one job and wait for its evidence; `report` is called from this thread."""
        check_seconds, train_seconds = self._seconds
        seconds = (0.0 if job.bundle else check_seconds) + (train_seconds if job.stage else 0.0)
        last = "check"

        def pass_on(text: bytes) -> None:
            nonlocal last
            progress = from_json(Progress, text)
            last = progress.phase
            report(progress)

        with self._slots:
            server = self._servers()
            try:
                evidence = from_json(Evidence, server.call(to_json(job).encode(), seconds, pass_on))
            except CandidateError as error:
                phase = PHASES.get(last, last)
                failure = Failure(phase=phase, kind=error.kind, message=f"{last}: {error.message}")
                stage = job.stage.name if job.stage else "checks"
                evidence = Evidence(
                    stage=stage, seed=job.seed, source_hash=text_hash(job.source), failure=failure
                )
        if not self._space.hostile:
            return evidence
        return replace(evidence, versions={**evidence.versions, "isolation": self.isolation.level})

    @cached_property
    def isolation(self) -> Isolation:
        """Give what contains candidate code."""
        return self._isolation or detect()

    def close(self) -> None:
        """Kill whatever runs; jobs in progress raise RuntimeError in their threads."""
        with self._start:
            for server in (self._server, self._wall):
                if server is not None:
                    server.close()
            self._server = self._wall = None

    def _servers(self) -> Server:
        with self._start:
            if self._server is None:
                wall = "-"
                if self._space.hostile:
                    handler, prepare = "asi_arch.engineer.worker:translate", "asi_arch.engineer.worker:warm"
                    self._wall = Server(
                        handler, prepare, WALL_LIMITS, environment(trusted=False), self.isolation
                    )
                    wall = self._wall.address(wait=False)  # they start side by side
                prepare = f"asi_arch.engineer.pool:warm {wall} {self._space.name} {self._space.engine}"
                handler = "asi_arch.engineer.pool:serve_job"
                self._server = Server(handler, prepare, JOB_LIMITS, environment(trusted=True))
            return self._server


def warm(argument: str) -> None:
    """Import a space's engine in the server and let it prepare: "wall space engine"."""
    wall, name, engine = argument.split(" ")
    load_space(name)
    module = resolve(engine).__module__
    prepare = getattr(__import__(module, fromlist=["warm"]), "warm", None)
    if prepare is not None:
        prepare(f"{wall} {name}")


def serve_job(request: bytes, send: Callable[[bytes], None]) -> None:
    """Run a job in a child of the server."""
    job = from_json(Job, request)
    engine: Callable[[Job, Callable[[Progress], None]], Evidence] = resolve(load_space(job.space).engine)
    evidence = engine(job, lambda progress: send(PROGRESS + to_json(progress).encode()))
    send(RESULT + to_json(evidence).encode())
