"""Measure what every candidate is compared with, in the same study: the seed and the baselines."""

import threading
import time
from collections.abc import Iterator
from functools import partial

from asi_arch.errors import SetupError
from asi_arch.loop.bench import Bench, failure_of
from asi_arch.loop.crew import share
from asi_arch.loop.seams import Watch
from asi_arch.records import Experiment, Proposal
from asi_arch.settings import Settings, as_values
from asi_arch.space import Space

OPEN = ("claimed", "proposed")
POLL_SECONDS = 0.2  # while another process measures what this one waits for
MOTIVATIONS = {
    "seed": "The seed: the search starts from it, and all gains are against it.",
    "baseline": "A known architecture, measured in the same study.",
    "reference": "A known architecture, measured for comparison; it is never a parent.",
}


def baseline_entries(space: Space, settings: Settings) -> list[Experiment]:
    """Give the experiments that a new study starts with, all open: the seed, baselines, references."""
    entries = []
    for id, stem in enumerate(space.baselines(), start=1):
        role = "seed" if stem == space.seed else "reference" if stem in space.references else "baseline"
        proposal = Proposal(
            name=stem, motivation=MOTIVATIONS[role], source=space.baseline_source(stem), author="baseline"
        )
        entries.append(
            Experiment(
                id=id,
                kind="reference" if role == "reference" else "baseline",
                status="proposed",
                proposal=proposal,
                settings=as_values(settings),
                claimed_at=time.time(),
            )
        )
    return entries


class Baselines:
    """The baselines of a study, as far as this process measures them."""

    def __init__(self, bench: Bench, workers: int) -> None:
        self._bench, self._workers = bench, workers
        self._ending = threading.Lock()
        self._mine: set[int] = set()

    def measure(self, watch: Watch, stop: threading.Event) -> None:
        """Bring every baseline to its end; see `Study.prepare`."""
        measure = partial(self._measure_run, watch=watch, stop=stop)
        try:
            while not stop.is_set() and self._are_awaited():
                share(self._next_runs(), self._workers, measure, stop, self._bench.pool.close)
                self._end_complete(watch, 0)
                if self._are_awaited():
                    stop.wait(POLL_SECONDS)  # another process is at it
        finally:
            while self._mine:
                self._bench.archive.release(self._mine.pop())

    def _are_awaited(self) -> bool:
        """Tell whether a baseline has not ended. Raises SetupError when the seed failed."""
        archive = self._bench.archive
        seed = archive.get(self._bench.seed_id)
        if seed.failure is not None:
            name, failure = self._bench.space.seed, f"{seed.failure.phase}: {seed.failure.message}"
            raise SetupError(f"the seed {name!r} failed in {failure}; mend it and start another study")
        return any(row.kind != "candidate" and row.status in OPEN for row in archive.rows())

    def _next_runs(self) -> Iterator[tuple[int, int]]:
        """Give id and training seed of each run of a baseline that nobody measures yet."""
        archive = self._bench.archive
        while (id := archive.adopt("baseline", "reference")) is not None:
            self._mine.add(id)
            yield from ((id, seed) for seed in self._missing_seeds(archive.get(id)))

    def _missing_seeds(self, experiment: Experiment) -> list[int]:
        settings = self._bench.settings
        runs = settings.seed_runs if experiment.id == self._bench.seed_id else 1
        measured = {e.seed for e in experiment.evidence if e.stage == self._bench.stage.name}
        return [seed for seed in range(settings.seed, settings.seed + runs) if seed not in measured]

    def _measure_run(self, run: tuple[int, int], slot: int, watch: Watch, stop: threading.Event) -> None:
        id, seed = run
        experiment = self._bench.archive.get(id)
        watch.started(experiment, slot)
        try:
            evidence = self._bench.examine(experiment, seed, partial(watch.progress, slot))
        except RuntimeError:
            if not stop.is_set():
                raise
            return
        if evidence.failure is None or not stop.is_set():  # a failure while stopping may be ours
            self._bench.add(id, evidence)
            self._end_complete(watch, slot)

    def _end_complete(self, watch: Watch, slot: int) -> None:
        """End the baselines whose runs are all there, once the seed has ended, which comes first."""
        with self._ending:
            for id in sorted(self._mine):
                experiment = self._bench.archive.get(id)
                complete = failure_of(experiment) is not None or not self._missing_seeds(experiment)
                if complete and (id == self._bench.seed_id or self._bench.seed_runs()):
                    self._mine.discard(id)
                    watch.finished(self._bench.end(experiment), slot)
