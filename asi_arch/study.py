"""The closed loop: a brief, a proposal, checks, training, a score, a finding; remembered, and again."""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from asi_arch.analyst.explain import explain
from asi_arch.analyst.fitness import score
from asi_arch.analyst.statistics import mean, runs_at
from asi_arch.archive.base import Archive
from asi_arch.archive.candidates import choose
from asi_arch.archive.folder import change_settings, create_folder, has_study, open_folder
from asi_arch.cognition.base import CognitionBase
from asi_arch.crew import share
from asi_arch.engineer.pool import LocalPool
from asi_arch.errors import SetupError
from asi_arch.records import (
    Evidence,
    Experiment,
    Failure,
    Fitness,
    Job,
    Progress,
    Proposal,
    Repeat,
    Stage,
)
from asi_arch.researcher.brief import make_brief
from asi_arch.researcher.novelty import source_hash
from asi_arch.seams import Pool, Report, Researcher, Silent, Watch
from asi_arch.settings import Settings, with_values
from asi_arch.space import Space, load_space, resolve

CHECKS = "checks"  # the stage of evidence from which nothing was trained
PERSON = "person"  # the author of what was submitted
POLL_SECONDS = 0.2  # while another process measures what this one waits for
OPEN = ("claimed", "proposed")


class Study:
    """One search: a space, settings, and an archive that is its only state.

    Any number of processes may open and run one study at once; in each, all methods but `close` may
    be called from any thread. Whoever makes a study closes it.

    Args:
        folder: of the study.
        settings: the study's, as they are now.
        archive: of the folder; the study closes it.
        researcher: None for the symbolic one with the space's grammar.
        pool: None for this machine's; the study closes it.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        archive: Archive,
        researcher: Researcher | None = None,
        pool: Pool | None = None,
    ) -> None:
        self.folder, self.settings, self.archive = folder, settings, archive
        self.space = load_space(settings.space)
        self.stage = stage_of(self.space, settings)
        self.workers = settings.workers or os.cpu_count() or 1
        if researcher is not None:
            self.researcher = researcher
        limits = (settings.check_seconds, settings.train_seconds)
        self._pool: Pool = pool or LocalPool(self.space, self.workers, *limits)
        self._writing, self._scoring = threading.Lock(), threading.Lock()
        self._checking: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._mine: set[int] = set()  # baselines that this process measures

    @classmethod
    def create(cls, folder: Path, settings: Settings, **parts: Any) -> "Study":
        """Make a study in a new or empty folder; parts: `researcher`, `pool`.

        Raises:
            SetupError: the folder holds something else, or there is no such space or stage.
        """
        space = load_space(settings.space)
        stage_of(space, settings)
        return cls(folder, settings, create_folder(folder, settings, _baselines(space, settings)), **parts)

    @classmethod
    def open(cls, folder: Path, **parts: Any) -> "Study":
        """Open a study that exists. Raises SetupError: there is none, or it cannot be read."""
        settings, archive = open_folder(folder)
        return cls(folder, settings, archive, **parts)

    @classmethod
    def open_or_create(cls, folder: Path, given: Mapping[str, Any], **parts: Any) -> "Study":
        """Open the study of a folder, or make it.

        Args:
            folder: of the study.
            given: settings by name. In a study that exists, those in `archive.folder.FIXED` cannot
                change; the others hold from now on.
            parts: `researcher`, `pool`.

        Raises:
            SetupError: as `create` and `open`, or a setting cannot change.
        """
        if not has_study(folder):
            return cls.create(folder, with_values(Settings(), **given), **parts)
        settings, archive = open_folder(folder)
        try:
            settings = change_settings(folder, settings, given)
        except SetupError:
            archive.close()
            raise
        return cls(folder, settings, archive, **parts)

    def close(self) -> None:
        """End running jobs and let go of the archive."""
        self._pool.close()
        self.archive.close()

    @cached_property
    def researcher(self) -> Researcher:
        """Give the symbolic researcher with the space's grammar."""
        from asi_arch.researcher.symbolic import SymbolicResearcher

        if not self.space.grammar:
            raise SetupError(f"space {self.space.name!r} has no grammar; give it one, or another researcher")
        return SymbolicResearcher(resolve(self.space.grammar)())

    @cached_property
    def cognition(self) -> CognitionBase:
        """Give what papers know about the space."""
        return CognitionBase(self.space.folder / "cognition")

    def run(self, watch: Watch | None = None, stop: threading.Event | None = None) -> None:
        """Measure the baselines, then candidates, until there are as many as the settings say.

        Takes over what a killed process left open, and what people submitted. Open experiments of
        other running processes count, and are left to them.

        Args:
            watch: sees what happens.
            stop: once set, running jobs are given up and this returns; a later run does them again.

        Raises:
            SetupError: the seed failed, so nothing could be compared with it.
        """
        watch, stop = watch or Silent(), stop or threading.Event()
        self.prepare(watch, stop)
        pursue = partial(self._pursue, watch=watch, stop=stop)
        share(self._next_candidates(), self.workers, pursue, stop, self._pool.close)

    def _next_candidates(self) -> Iterator[int]:
        hours = self.settings.hours
        deadline = time.monotonic() + hours * 3600 if hours else float("inf")
        while time.monotonic() < deadline:
            id = self.archive.adopt("candidate") or self.archive.claim("candidate", self.settings.experiments)
            if id is None:
                return
            yield id

    def _pursue(self, id: int, slot: int, watch: Watch, stop: threading.Event) -> None:
        """Bring a claimed experiment to its end, unless it is stopped."""
        try:
            experiment = self.archive.get(id)
            if experiment.status == "claimed":
                experiment = self._propose(experiment)
            while experiment.status == "proposed":
                watch.started(experiment, slot)
                evidence = self.measure(experiment, partial(watch.progress, slot))
                if evidence.failure and stop.is_set():
                    return  # the failure may be ours
                experiment = self.tell(experiment, evidence)
            watch.finished(experiment, slot)
        except RuntimeError:
            if not stop.is_set():
                raise
        finally:
            self.archive.release(id)

    def ask(self) -> Experiment:
        """Claim the next id and have it proposed; the proposal is recorded before it is measured.

        The id and the study's seed alone decide the random draws. After `novelty_attempts`
        proposals that repeat known programs the experiment comes back failed.

        Raises:
            SetupError: `prepare` has not measured the seed yet.
        """
        id = self.archive.claim("candidate")
        assert id is not None
        return self._propose(self.archive.get(id))

    def measure(self, experiment: Experiment, report: Report | None = None) -> Evidence:
        """Check a proposed experiment and, when its graph is new here, train it."""
        return self._examine(experiment, self.settings.seed, report or _ignore)

    def tell(self, experiment: Experiment, evidence: Evidence) -> Experiment:
        """Score, explain and record what was measured of an experiment.

        Returns:
            The experiment as it ended; or `proposed` anew, when its graph is known already and it
            has attempts left. A person's own architecture is never replaced.
        """
        experiment = self.archive.get(experiment.id)
        if experiment.status not in OPEN:
            return experiment
        repeats = evidence.failure is not None and evidence.failure.kind == "duplicate"
        if repeats and experiment.proposal and experiment.proposal.author != PERSON:
            first = self._first(evidence, experiment.id, self.settings.seed)
            experiment = _refused(experiment, first, evidence.graph_hash)
            if len(experiment.repeats) < self.settings.novelty_attempts:
                return self._propose(experiment)
        return self._end(_with_evidence(experiment, evidence))

    def submit(self, name: str, source: str, motivation: str) -> int:
        """Enter a person's own architecture as a proposal; the next run measures it, or one that runs now.

        Returns:
            The id of its experiment.

        Raises:
            SetupError: the program is in the study already.
        """
        known = _sources(self.archive.experiments()).get(source_hash(source))
        if known is not None:
            raise SetupError(f"this program is experiment {known} already; see `asi-arch show {known}`")
        id = self.archive.claim("candidate")
        assert id is not None
        proposal = Proposal(
            name=name, motivation=motivation, source=source, author=PERSON, parents=(self._seed_id,)
        )
        self._record_proposal(self.archive.get(id), proposal)
        self.archive.release(id)
        return id

    def prepare(self, watch: Watch | None = None, stop: threading.Event | None = None) -> None:
        """Measure the seed's runs and every baseline that has not ended; returns at once when all have.

        Args:
            watch: sees what happens.
            stop: once set, running jobs are given up and this returns; a later call does them again.

        Raises:
            SetupError: the seed failed, so nothing could be compared with it.
        """
        watch, stop = watch or Silent(), stop or threading.Event()
        measure = partial(self._measure_run, watch=watch, stop=stop)
        try:
            while not stop.is_set() and self._awaits_baselines():
                share(self._next_runs(), self.workers, measure, stop, self._pool.close)
                self._score_baselines(watch, 0)
                if self._awaits_baselines():
                    stop.wait(POLL_SECONDS)  # another process is at it
        finally:
            while self._mine:
                self.archive.release(self._mine.pop())

    def _awaits_baselines(self) -> bool:
        seed = self.archive.get(self._seed_id)
        if seed.failure is not None:
            failure = f"{seed.failure.phase}: {seed.failure.message}"
            raise SetupError(f"the seed {self.space.seed!r} failed in {failure}; mend it, and start a new study")
        return any(row.kind != "candidate" and row.status in OPEN for row in self.archive.rows())

    def _next_runs(self) -> Iterator[tuple[int, int]]:
        """Give id and training seed of every run of a baseline that nobody measures yet."""
        while (id := self.archive.adopt("baseline", "reference")) is not None:
            self._mine.add(id)
            yield from ((id, seed) for seed in self._missing_seeds(self.archive.get(id)))

    def _missing_seeds(self, experiment: Experiment) -> list[int]:
        runs = self.settings.seed_runs if experiment.id == self._seed_id else 1
        measured = {e.seed for e in experiment.evidence if e.stage == self.stage.name}
        return [seed for seed in range(self.settings.seed, self.settings.seed + runs) if seed not in measured]

    def _measure_run(self, run: tuple[int, int], slot: int, watch: Watch, stop: threading.Event) -> None:
        id, seed = run
        experiment = self.archive.get(id)
        watch.started(experiment, slot)
        try:
            evidence = self._examine(experiment, seed, partial(watch.progress, slot))
        except RuntimeError:
            if not stop.is_set():
                raise
            return
        if evidence.failure is None or not stop.is_set():
            self._add(id, evidence)
            self._score_baselines(watch, slot)

    def _score_baselines(self, watch: Watch, slot: int) -> None:
        """End the baselines whose runs are all there, once the seed has ended."""
        with self._scoring:
            for id in sorted(self._mine):
                experiment = self.archive.get(id)
                complete = _failure(experiment) is not None or not self._missing_seeds(experiment)
                if complete and (id == self._seed_id or self._seed_runs()):
                    self._mine.discard(id)
                    watch.finished(self._end(experiment), slot)

    @cached_property
    def _seed_id(self) -> int:
        rows = self.archive.rows()
        return next(row.id for row in rows if row.kind == "baseline" and row.name == self.space.seed)

    def _seed_runs(self) -> tuple[Evidence, ...]:
        """Give the seed's runs, to which all fitness is relative; none until all are there."""
        seed = self.archive.get(self._seed_id)
        return runs_at(seed, self.stage.name) if seed.status == "finished" else ()

    def _propose(self, experiment: Experiment) -> Experiment:
        """Have an id proposed, again as long as the program is known; record it."""
        settings, id = self.settings, experiment.id
        if not self._seed_runs():
            raise SetupError("the seed has not been measured; run `Study.prepare` before `Study.ask`")
        experiments = {e.id: e for e in self.archive.experiments() if e.id != id}
        parent, references = choose(self.archive.rows(), settings, self._seed_id, id)
        brief = make_brief(
            id=id,
            seed=settings.seed,
            attempt=0,
            parent=experiments[parent],
            references=[experiments[i] for i in references],
            experiments=list(experiments.values()),
            recall=self.cognition.recall,
            contract=self.space.contract,
            settings=settings,
        )
        known = _sources(experiments.values())
        while len(experiment.repeats) < settings.novelty_attempts:
            known |= {repeat.source_hash: repeat.of for repeat in experiment.repeats}
            brief = replace(brief, attempt=len(experiment.repeats), known=frozenset(known))
            proposal = self.researcher.propose(brief)
            first = known.get(source_hash(proposal.source))
            if first is None:
                return self._record_proposal(experiment, proposal)
            experiment = _refused(replace(experiment, proposal=proposal), first)
        return self._end(experiment)
