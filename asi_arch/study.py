"""The closed loop: a brief, a proposal, checks, training, a score, a finding; remembered, and again."""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from asi_arch.archive.base import Archive
from asi_arch.archive.candidates import choose
from asi_arch.archive.folder import change_settings, create_folder, has_study, open_folder
from asi_arch.cognition.base import CognitionBase
from asi_arch.engineer.pool import LocalPool
from asi_arch.engineer.source import check_source
from asi_arch.errors import SetupError
from asi_arch.loop.baselines import OPEN, Baselines, baseline_entries
from asi_arch.loop.bench import DUPLICATE, Bench, stage_of
from asi_arch.loop.crew import share
from asi_arch.loop.seams import Pool, Report, Researcher, Silent, Watch
from asi_arch.records import Brief, Evidence, Experiment, Failure, Progress, Proposal, Repeat
from asi_arch.researcher.brief import make_brief
from asi_arch.researcher.novelty import source_hash
from asi_arch.settings import Settings, as_values, with_values
from asi_arch.space import load_space, resolve

PERSON = "person"  # the author of what was submitted

__all__ = ["Pool", "Report", "Researcher", "Silent", "Study", "Watch"]


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
        self.workers = settings.workers or os.cpu_count() or 1
        if researcher is not None:
            self.researcher = researcher
        limits = (settings.check_seconds, settings.train_seconds)
        self.pool: Pool = pool or LocalPool(self.space, self.workers, *limits)
        self.bench = Bench(self.space, settings, archive, self.pool)

    @classmethod
    def create(cls, folder: Path, settings: Settings, **parts: Any) -> "Study":
        """Make a study in a new or empty folder; parts: `researcher`, `pool`.

        Raises:
            SetupError: the folder holds something else, or there is no such space or stage.
        """
        space = load_space(settings.space)
        stage_of(space, settings)
        return cls(
            folder, settings, create_folder(folder, settings, baseline_entries(space, settings)), **parts
        )

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
        change_settings(folder, given)
        return cls.open(folder, **parts)

    def close(self) -> None:
        """End running jobs and let go of the archive."""
        self.pool.close()
        self.archive.close()

    @cached_property
    def researcher(self) -> Researcher:
        """Give the symbolic researcher with the space's grammar."""
        from asi_arch.researcher.symbolic import Grammar, SymbolicResearcher

        if not self.space.grammar:
            raise SetupError(f"space {self.space.name!r} has no grammar; give it one, or another researcher")
        grammar: Grammar = resolve(self.space.grammar)()
        return SymbolicResearcher(grammar)

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
        hours = self.settings.hours or float("inf")
        ids = self._next_ids(time.monotonic() + hours * 3600)
        self.prepare(watch, stop)
        share(ids, self.workers, partial(self._pursue, watch=watch, stop=stop), stop, self.pool.close)

    def prepare(self, watch: Watch | None = None, stop: threading.Event | None = None) -> None:
        """Measure the seed's runs and every baseline that has not ended; at once when all have.

        Args, Raises: as `run`.
        """
        Baselines(self.bench, self.workers).measure(watch or Silent(), stop or threading.Event())

    def ask(self) -> Experiment:
        """Claim the next id and have it proposed; the proposal is recorded before it is measured.

        The id and the study's seed alone decide the random draws. After `novelty_attempts`
        proposals that repeat known programs the experiment comes back failed.

        Raises:
            SetupError: `prepare` has not measured the seed yet.
        """
        self._require_seed()
        return self._propose(self.archive.get(self._claim()))

    def measure(self, experiment: Experiment, report: Report | None = None) -> Evidence:
        """Check a proposed experiment and, when its graph is new here, train it."""
        return self.bench.examine(experiment, self.settings.seed, report or _ignore)

    def tell(self, experiment: Experiment, evidence: Evidence) -> Experiment:
        """Score, explain and record what was measured of an experiment.

        Returns:
            The experiment as it ended; or `proposed` anew, when its graph is known already and it
            has attempts left. A person's own architecture is never replaced.
        """
        current = self.archive.get(experiment.id)
        if current.status not in OPEN or current.proposal is None:
            return current
        repeats = evidence.failure is not None and evidence.failure.kind == DUPLICATE
        if repeats and current.proposal.author != PERSON:
            first = self.bench.first(evidence, current.id, self.settings.seed)
            return self._propose(_refused(current, current.proposal, first, evidence.graph_hash))
        return self.bench.end(self.bench.add(current.id, evidence))

    def submit(self, name: str, source: str, motivation: str) -> int:
        """Enter a person's own architecture; the next run measures it, or one that runs now.

        Returns:
            The id of its experiment.

        Raises:
            SetupError: the program is in the study already, is empty or breaks the rules on sources, or
                there is no motivation.
        """
        if not source.strip() or not motivation.strip():
            raise SetupError(f"{name}: a source and a motivation are needed; nothing was submitted")
        verdict = check_source(source)
        if self.space.hostile and not verdict.passed:
            raise SetupError(f"{name}: {verdict.message}; nothing was submitted")
        known = _sources(self.archive.experiments()).get(source_hash(source))
        if known is not None:
            raise SetupError(f"this program is experiment {known} already; see `asi-arch show {known}`")
        parents = (self.bench.seed_id,)
        proposal = Proposal(name=name, motivation=motivation, source=source, author=PERSON, parents=parents)
        id = self._claim()
        self._record(self.archive.get(id), proposal)
        self.archive.release(id)
        return id

    def _next_ids(self, deadline: float) -> Iterator[int]:
        """Give the id of every candidate that this process is to bring to its end, until a monotonic time."""
        while time.monotonic() < deadline:
            id = self.archive.adopt("candidate") or self.archive.claim("candidate", self.settings.experiments)
            if id is None:
                return
            yield id

    def _pursue(self, id: int, slot: int, watch: Watch, stop: threading.Event) -> None:
        """Bring a claimed experiment to its end, unless the run is stopped."""
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

    def _claim(self) -> int:
        id = self.archive.claim("candidate")
        assert id is not None
        return id

    def _require_seed(self) -> None:
        if not self.bench.seed_runs():
            raise SetupError("the seed has not been measured; call `Study.prepare` before `Study.ask`")

    def _propose(self, experiment: Experiment) -> Experiment:
        """Have an id proposed, again while the program is known, and record the proposal."""
        brief = self._brief(experiment)
        known = _sources(e for e in self.archive.experiments() if e.id != experiment.id)
        while len(experiment.repeats) < self.settings.novelty_attempts:
            known |= {repeat.source_hash: repeat.of for repeat in experiment.repeats}
            brief = replace(brief, attempt=len(experiment.repeats), known=frozenset(known))
            proposal = self.researcher.propose(brief)
            first = known.get(source_hash(proposal.source))
            if first is None:
                return self._record(experiment, proposal)
            experiment = _refused(experiment, proposal, first)
        count, last = len(experiment.repeats), experiment.repeats[-1].of
        message = f"{count} proposals in a row repeat known experiments, the last one experiment {last}"
        failure = Failure(phase="novelty", kind=DUPLICATE, message=message)
        return self.bench.end(replace(experiment, failure=failure))

    def _brief(self, experiment: Experiment) -> Brief:
        """Give the brief of an id, as if it were the id's first attempt."""
        others = {e.id: e for e in self.archive.experiments() if e.id != experiment.id}
        parent, references = choose(self.archive.rows(), self.settings, self.bench.seed_id, experiment.id)
        return make_brief(
            id=experiment.id,
            seed=self.settings.seed,
            attempt=0,
            parent=others[parent],
            references=[others[id] for id in references],
            experiments=list(others.values()),
            recall=self.cognition.recall,
            contract=self.space.contract,
            settings=self.settings,
        )

    def _record(self, experiment: Experiment, proposal: Proposal) -> Experiment:
        settings = as_values(self.settings)
        proposed = replace(experiment, status="proposed", proposal=proposal, settings=settings)
        self.archive.record(proposed)
        return proposed


def _refused(experiment: Experiment, proposal: Proposal, first: int, graph_hash: str = "") -> Experiment:
    """Give an experiment whose proposal repeats another: claimed as before, with the repeat noted."""
    repeat = Repeat(
        of=first, source_hash=source_hash(proposal.source), graph_hash=graph_hash, moves=proposal.moves
    )
    repeats = (*experiment.repeats, repeat)
    return replace(experiment, status="claimed", proposal=proposal, evidence=(), repeats=repeats)


def _sources(experiments: Iterable[Experiment]) -> dict[str, int]:
    """Give the experiment of every program that was ever proposed, by the hash of its source."""
    found: dict[str, int] = {}
    for experiment in experiments:
        for repeat in experiment.repeats:
            found.setdefault(repeat.source_hash, repeat.of)
        if experiment.proposal is not None:
            found.setdefault(source_hash(experiment.proposal.source), experiment.id)
    return found


def _ignore(_: Progress) -> None:
    """Take no note."""
