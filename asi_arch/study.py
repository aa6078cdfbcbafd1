"""The closed loop: a brief, a proposal, checks, training, a score, a finding; remembered, and again."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from asi_arch.archive.base import Archive
from asi_arch.archive.folder import change_settings, create_folder, has_study, open_folder
from asi_arch.cognition.base import OWN, CognitionBase
from asi_arch.controls import tell_controls
from asi_arch.engineer.pool import LocalPool
from asi_arch.errors import BudgetError, ModelError, SetupError
from asi_arch.loop.baselines import OPEN, Baselines, baseline_entries
from asi_arch.loop.bench import DUPLICATE, Bench, stage_of
from asi_arch.loop.cast import Cast
from asi_arch.loop.crew import share
from asi_arch.loop.repeats import known_programs, refused, repeat_of
from asi_arch.loop.seams import Pool, Report, Researcher, Silent, Watch
from asi_arch.records import Brief, Evidence, Experiment, Failure, Progress, Proposal, Repeat
from asi_arch.researcher.brief import make_brief
from asi_arch.researcher.novelty import source_hash
from asi_arch.search.members import Members
from asi_arch.search.selection.base import Member
from asi_arch.search.selection.policies import policy_of
from asi_arch.search.stagnation import episode_of, is_orthogonal, widened
from asi_arch.settings import Settings, as_values, is_without, with_values
from asi_arch.space import load_space

SILENCES = 3  # proposals in a row for which a model gave no answer, after which a run ends
PERSON = "person"  # the author of what was submitted
AGENT = "agent"  # the first word of the author of what a coding agent designed

__all__ = ["Pool", "Report", "Researcher", "Silent", "Study", "Watch"]


class Study:
    """One search: a space, settings, and an archive that is its only state.

    Any number of processes may open and run one study at once; in each, all methods but `close` may
    be called from any thread. Whoever makes a study closes it.

    Args:
        folder: of the study.
        settings: the study's, as they are now.
        archive: of the folder; the study closes it.
        researcher: None for those that the settings name.
        pool: None for this machine's; the study closes it.
        workers: jobs at once; 0 for what the settings say.
        spare: places that the pool has for checks beside those jobs.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        archive: Archive,
        researcher: Researcher | None = None,
        pool: Pool | None = None,
        workers: int = 0,
        spare: int = 0,
    ) -> None:
        self.folder, self.settings, self.archive = folder, settings, archive
        self.space = load_space(settings.space)
        self.workers = workers or settings.workers or os.cpu_count() or 1
        self._researcher = researcher
        limits = (settings.check_seconds, settings.train_seconds)
        self.pool: Pool = pool or LocalPool(self.space, self.workers + spare, *limits)
        self.bench = Bench(self.space, settings, archive, self.pool)
        self.cast = Cast(
            self.space, settings, archive, self.bench, folder / OWN, lambda text: self._watch.message(text)
        )
        self._watch: Watch = Silent()
        self._halted = threading.Event()  # a run takes no further candidate
        self._silences = 0
        self._members = Members(self.bench.stage.name)
        self._stagnant_since = -1  # the last episode that a person was told of

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
        """End running jobs, give up what models are asked, and let go of the archive."""
        self._abandon()
        self.archive.close()

    def _abandon(self) -> None:
        self.pool.close()
        self.cast.close()

    @property
    def cognition(self) -> CognitionBase:
        """Give what papers know about the space."""
        return self.cast.cognition

    @property
    def researcher(self) -> Researcher:
        """Give who proposes: whom the study was made with, else those of the settings."""
        return self._researcher or self.cast.researcher

    def run(self, watch: Watch | None = None, stop: threading.Event | None = None) -> None:
        """Measure the baselines, then candidates, until there are as many as the settings say.

        Takes over what a killed process left open, and what people submitted. Open experiments of
        other running processes count, and are left to them.

        Args:
            watch: sees what happens.
            stop: once set, running jobs are given up and this returns; a later run does them again.

        Raises:
            SetupError: the seed failed, so nothing could be compared with it; or a model cannot be asked.
        """
        watch, stop = watch or Silent(), stop or threading.Event()
        self._watch = watch
        lead = self.cast.assemble(stop)
        if self._researcher is None:
            watch.message(lead)
        controls = tell_controls(self.settings.without, self.settings.selection)
        if controls:
            watch.message(controls)
        hours = self.settings.hours or float("inf")
        self.follow(self._next_ids(time.monotonic() + hours * 3600), watch, stop)

    def follow(self, ids: Iterator[int], watch: Watch, stop: threading.Event) -> None:
        """Measure the baselines, then bring to its end every experiment whose id comes.

        Args:
            ids: of open candidates that this archive owns; asked for by one thread at a time, and may wait.
            watch: sees what happens.
            stop: as `run`; and raises as it does.
        """
        self._watch = watch
        self.cast.assemble(stop)
        self._halted.clear()
        self.prepare(watch, stop)
        share(ids, self.workers, partial(self._pursue, watch=watch, stop=stop), stop, self._abandon)

    def prepare(self, watch: Watch | None = None, stop: threading.Event | None = None) -> None:
        """Measure the seed's runs and every baseline that has not ended; at once when all have.

        Args, Raises: as `run`.
        """
        Baselines(self.bench, self.workers).measure(watch or Silent(), stop or threading.Event())

    def ask(self) -> Experiment:
        """Claim the next id and have it proposed; the proposal is recorded before it is measured.

        The id and the study's seed alone decide the random draws. After `novelty_attempts`
        proposals that repeat known ones the experiment comes back failed, and so it does when a model
        gives no answer.

        Raises:
            SetupError: `prepare` has not measured the seed yet.
        """
        self.require_measured()
        return self._propose(self.archive.get(self._claim()))

    def measure(self, experiment: Experiment, report: Report | None = None) -> Evidence:
        """Check a proposed experiment and, when its graph is new here, train it."""
        return self.bench.examine(experiment, self.settings.seed, report or _ignore)

    def tell(self, experiment: Experiment, evidence: Evidence) -> Experiment:
        """Score, explain and record what was measured of an experiment.

        Returns:
            The experiment as it ended; or `proposed` anew, when its graph is known already or it was
            mended, and it has attempts left. What a person or an agent handed in is never replaced, and
            nothing is in a study without novelty.
        """
        current = self.archive.get(experiment.id)
        if current.status not in OPEN or current.proposal is None:
            return current
        repeats = evidence.failure is not None and evidence.failure.kind == DUPLICATE
        guest = current.proposal.author.split(" ")[0] in (PERSON, AGENT)
        if repeats and not guest and not is_without(self.settings, "novelty"):
            first, basis = self.bench.first(evidence, current.id, self.settings.seed)
            repeat = repeat_of(current.proposal, first, basis, graph_hash=evidence.graph_hash)
            return self._propose(self._refuse(current, current.proposal, repeat))
        return self._mend(self.bench.add(current.id, evidence))

    def submit(self, name: str, source: str, motivation: str, cognitions: Sequence[str] = ()) -> int:
        """Enter a person's own architecture; the next run measures it, or one that runs now.

        cognitions: ids that it rests on.

        Returns:
            The id of its experiment.

        Raises:
            SetupError: the program is known, empty or breaks the rules; no motivation, no such cognition.
        """
        self.cast.desk.require(cognitions)
        if not source.strip() or not motivation.strip():
            raise SetupError(f"{name}: a source and a motivation are needed; nothing was submitted")
        if fault := self.cast.desk.fault(source):
            raise SetupError(f"{name}: {fault}; nothing was submitted")
        known = known_programs(self.archive.experiments()).get(source_hash(source))
        if known is not None:
            raise SetupError(f"this program is experiment {known} already; see `asi-arch show {known}`")
        proposal = Proposal(
            name=name,
            motivation=motivation,
            source=source,
            author=PERSON,
            parents=(self.bench.seed_id,),
            cognitions=tuple(dict.fromkeys(cognitions)),
        )
        id = self._claim()
        self._record(self.archive.get(id), proposal)
        self.archive.release(id)
        return id

    def choice(self, id: int, members: Sequence[Member] | None = None) -> tuple[int, tuple[int, ...]]:
        """Give the parent and the references that an id draws from members; None: from what is known now."""
        members = self.members() if members is None else members
        choice = policy_of(self.settings.selection)(members, self.settings, self.bench.seed_id, id)
        orthogonal = is_orthogonal(episode_of(members, self.settings), self.settings, id)
        return widened(choice, members, self.settings, id) if orthogonal else choice

    def members(self) -> list[Member]:
        """Give what a policy of selection sees of the study."""
        rows = self.archive.rows()  # before the experiments, so that none of it is newer than they are
        experiments = self.archive.experiments()
        return self._members.of(rows, experiments, self.bench.seed_id, self.bench.fresh())

    def brief(
        self, id: int, parent: int, references: Sequence[int], members: Sequence[Member] | None = None
    ) -> Brief:
        """Give the brief of a claimed id, as if it were the id's first attempt; members as for `choice`."""
        members = self.members() if members is None else members
        others = {e.id: e for e in self.archive.experiments() if e.id != id}
        return make_brief(
            id=id,
            seed=self.settings.seed,
            attempt=0,
            parent=others[parent],
            references=[others[id] for id in references],
            experiments=list(others.values()),
            recall=self.cognition.recall,
            contract=self.space.contract,
            settings=self.settings,
            orthogonal=is_orthogonal(episode_of(members, self.settings), self.settings, id),
        )

    def _next_ids(self, deadline: float) -> Iterator[int]:
        """Give the id of every candidate that this process is to bring to its end, until a monotonic time."""
        while time.monotonic() < deadline and not self._halted.is_set():
            id = self.archive.adopt("candidate") or self.archive.claim(
                "candidate", self.cast.own_candidates()
            )
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
            self._note_stagnation(watch)
        except BudgetError as error:
            self._halt(str(error))
        except RuntimeError:
            if not stop.is_set():
                raise
        finally:
            self.archive.release(id)

    def _note_stagnation(self, watch: Watch) -> None:
        """Tell a person of an episode without a gain, once for each."""
        episode = episode_of(self.members(), self.settings)
        if episode is not None and episode.since != self._stagnant_since:
            self._stagnant_since = episode.since
            watch.message(episode.told())

    def _claim(self) -> int:
        id = self.archive.claim("candidate")
        assert id is not None
        return id

    def require_measured(self) -> None:
        """Raise SetupError while the seed has not been measured, so that nothing can be compared."""
        if not self.bench.seed_runs():
            raise SetupError(
                "the seed has not been measured; `asi-arch run` or `Study.prepare` measures it first"
            )

    def _halt(self, reason: str) -> None:
        """Let a run take no further candidate, and say why, once."""
        if not self._halted.is_set():
            self._halted.set()
            self._watch.message(f"{reason}; what is open stays open")

    def _propose(self, experiment: Experiment) -> Experiment:
        """Have an id proposed, again while the proposal is known, and record it."""
        members = self.members()  # one look, so that choice and brief agree on whether the study stagnates
        brief = self.cast.read(self.brief(experiment.id, *self.choice(experiment.id, members), members))
        others = [e for e in self.archive.experiments() if e.id != experiment.id]
        known = {} if is_without(self.settings, "novelty") else known_programs(others)
        while len(experiment.repeats) < self.settings.novelty_attempts:
            known |= {repeat.source_hash: repeat.of for repeat in experiment.repeats}
            attempt = len(experiment.repeats)
            brief = replace(brief, attempt=attempt, known=frozenset(known), repeats=experiment.repeats)
            try:
                proposal = self.researcher.propose(brief)
            except ModelError as error:
                return self._end_unproposed(experiment, str(error))
            self._silences = 0
            first = known.get(source_hash(proposal.source))
            if first is not None:
                repeat = repeat_of(proposal, first, "program")
            elif (opinion := self.cast.same_idea(proposal, experiment.id)) is not None:
                repeat = repeat_of(proposal, opinion.repeats, "idea", opinion.reason)
            else:
                return self._record(experiment, proposal)
            experiment = self._refuse(experiment, proposal, repeat)
        count, last = len(experiment.repeats), experiment.repeats[-1].of
        message = f"{count} proposals in a row repeat known experiments, the last one experiment {last}"
        failure = Failure(phase="novelty", kind=DUPLICATE, message=message)
        return self.bench.end(replace(experiment, failure=failure))

    def _refuse(self, experiment: Experiment, proposal: Proposal, repeat: Repeat) -> Experiment:
        """Record that a proposal repeats another: asking for it may have cost money."""
        claimed = refused(experiment, proposal, repeat)
        self.archive.record(claimed)
        return claimed

    def _end_unproposed(self, experiment: Experiment, reason: str) -> Experiment:
        """End an experiment whose author gave no answer; some of these in a row end the run."""
        self._silences += 1
        if self._silences >= SILENCES:
            self._halt(f"no proposal came {self._silences} times in a row; the last time, {reason}")
        failure = Failure(phase="author", kind="silent", message=reason)
        return self.bench.end(replace(experiment, failure=failure))

    def _mend(self, experiment: Experiment) -> Experiment:
        """Record what was measured: mended and proposed anew, or ended."""
        mender = self.cast.mender
        mended = mender.mend(experiment) if mender is not None else None
        if mended is None:
            return self.bench.end(experiment, self.cast.critics)
        self.archive.record(mended)
        return mended

    def _record(self, experiment: Experiment, proposal: Proposal) -> Experiment:
        settings = as_values(self.settings)
        proposed = replace(experiment, status="proposed", proposal=proposal, settings=settings)
        self.archive.record(proposed)
        return proposed


def _ignore(_: Progress) -> None:
    """Take no note."""
