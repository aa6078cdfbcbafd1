"""Reruns of what ended: claimed one by one, measured, and recorded, so that a kill loses one run at most."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from asi_arch.analyst.replication import Replication, Terms, later_stage
from asi_arch.analyst.statistics import mean_metric
from asi_arch.discoveries import Rerun
from asi_arch.loop.bench import Bench
from asi_arch.loop.crew import share
from asi_arch.records import Evidence, Experiment, Job, Progress

POLL_SECONDS = 0.5  # while another process runs what this one waits for

Tell = Callable[[Rerun, Evidence], None]
Plan = Callable[[], Sequence[Rerun]]


class Verifier:
    """Runs again what a study found, against its baselines, until every claim is settled.

    All state is in the archive: several processes may verify one study at once, and one that was killed
    goes on where it was.
    """

    def __init__(self, bench: Bench, workers: int) -> None:
        self._bench, self._workers = bench, workers

    def replication(self) -> Replication:
        """Give what is known now."""
        return replication_of(self._bench)

    def verify(self, watch: "Watcher", stop: threading.Event) -> Replication:
        """Do all runs that replication asks for, and give what is known then.

        Args:
            watch: is told of every run, and how many are known to come.
            stop: once set, running jobs are given up and this returns.
        """
        self.do(lambda: self.replication().missing(), watch, stop)
        return self.replication()

    def do(self, plan: Plan, watch: "Watcher", stop: threading.Event) -> None:
        """Do what a plan asks for, asked again whenever all of it ended, until it asks for nothing.

        Args, Raises: as `verify`; a plan gives the reruns that have not ended yet.
        """
        while not stop.is_set() and (wanted := plan()):
            watch.planned(len(wanted))
            taken = threading.Event()
            measure = partial(self._measure, watch=watch, stop=stop)
            share(self._mine(wanted, taken), self._workers, measure, stop, self._bench.pool.close)
            if not taken.is_set():
                stop.wait(POLL_SECONDS)  # another process is at them

    def _mine(self, wanted: Sequence[Rerun], taken: threading.Event) -> Iterator[Rerun]:
        for rerun in wanted:
            if self._bench.archive.begin_rerun(rerun):
                taken.set()
                yield rerun

    def _measure(self, rerun: Rerun, slot: int, watch: "Watcher", stop: threading.Event) -> None:
        archive = self._bench.archive
        try:
            experiment = archive.get(rerun.experiment)
            watch.started(rerun, experiment, slot)
            begin = time.monotonic()
            evidence = self._bench.pool.run(self._job(rerun, experiment), partial(watch.progress, slot))
            if evidence.failure is not None and stop.is_set():
                return  # the failure may be ours
            archive.record_rerun(replace(rerun, evidence=evidence))
            watch.ended(rerun, experiment, evidence, time.monotonic() - begin)
        except RuntimeError:
            if not stop.is_set():
                raise
        finally:
            archive.leave_rerun(rerun)

    def _job(self, rerun: Rerun, experiment: Experiment) -> Job:
        assert experiment.proposal is not None
        hashes = [e.graph_hash for e in experiment.evidence if e.graph_hash]
        known = "" if rerun.source or not hashes else self._bench.archive.bundle(hashes[-1])
        candidate = experiment.kind == "candidate"
        return Job(
            space=self._bench.space.name,
            name=experiment.proposal.name,
            source=rerun.source or experiment.proposal.source,
            seed=rerun.seed,
            stage=rerun.stage,
            bundle=known,
            enforce=experiment.kind != "reference",
            reference=self._reference(rerun) if candidate else {},
            split=rerun.split,
        )

    def _reference(self, rerun: Rerun) -> dict[str, float]:
        """Give the seed's metrics beside which a score may be too good: at this stage, as far as known."""
        if rerun.purpose == "screen":
            runs = self._bench.seed_runs()
        else:
            runs = self.replication().rate_reference
        return {spec.name: mean_metric(runs, spec.name) for spec in self._bench.space.metrics if runs}


class Watcher:
    """Sees reruns; this one looks away. Called from several threads at once."""

    def planned(self, count: int) -> None:
        """Take note that so many runs come next."""

    def started(self, rerun: Rerun, experiment: Experiment, slot: int) -> None:
        """Take note that a worker runs an experiment again."""

    def progress(self, slot: int, progress: Progress) -> None:
        """Take note of how far a worker's run is."""

    def ended(self, rerun: Rerun, experiment: Experiment, evidence: Evidence, seconds: float) -> None:
        """Take note of what was measured, and in how many seconds."""


def replication_of(bench: Bench) -> Replication:
    """Give what an archive knows of a study's leads, on the terms of its settings."""
    return Replication(
        space=bench.space,
        experiments=bench.archive.experiments(),
        reruns=bench.archive.reruns(),
        stage=bench.stage,
        later=later_stage(bench.space, bench.stage),
        seed=bench.settings.seed,
        formula=bench.settings.fitness,
        terms=Terms(top=bench.settings.leads, most=bench.settings.claim_seeds),
    )
