"""Seats of coding agents: designs are briefed, checked, handed in, and measured beside their authors."""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic

from asi_arch.archive.folder import SETTINGS
from asi_arch.calls import Call, Message, Turn
from asi_arch.loop.repeats import known_programs, repeat_of
from asi_arch.loop.seams import Silent
from asi_arch.records import Attempt, Brief, Evidence, Experiment, Progress, Proposal, Repeat, text_hash
from asi_arch.report.view import View
from asi_arch.researcher.novelty import source_hash
from asi_arch.seats.claims import Claims, Refusal
from asi_arch.settings import as_values, is_without, load_settings
from asi_arch.study import Study

CHECKS = 2  # checks at once, beside what is trained
KEPT_CHECKS = 128
KEPT_ATTEMPTS = 20  # sources of one experiment that failed a check, on record
LOOK_SECONDS = 0.25  # between two looks at the archive
ENDED = ("finished", "failed")
ROLE = "designer"  # of the call that keeps an agent's brief
STOPPING = "the server is stopping; nothing is lost, call again when it is back"


class FailedCheck(Refusal):
    """A design that was handed in fails a check; `evidence` has the verdicts."""

    def __init__(self, evidence: Evidence) -> None:
        super().__init__("a check failed")
        self.evidence = evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a study is.

    baselines, measured: all of them, and how many have ended. ended: candidates. goal: candidates wanted.
    open: candidates that have not ended. fault: why this server measures nothing; "" when it does.
    """

    baselines: int
    measured: int
    ended: int
    goal: int
    open: tuple[Experiment, ...]
    fault: str = ""


class Seats:
    """The seats of one server. Thread-safe; all that must survive it is in the archive.

    Args:
        study: made with `spare=CHECKS`; `close` closes it.
        workers: experiments that this process measures at once; 0 leaves that to others.
    """

    def __init__(self, study: Study, workers: int) -> None:
        self.study, self.workers = study, workers
        self.claims = Claims(study.archive, study.choice, study.settings.claim_minutes * 60)
        self.notes = _Notes()
        self._stop = threading.Event()
        self._checking = threading.Lock()
        self._briefs: dict[int, Call] = {}
        self._checks: OrderedDict[str, Future[Evidence]] = OrderedDict()
        self._checkers = ThreadPoolExecutor(CHECKS, "check")
        self._measurer = ThreadPoolExecutor(1, "measure")
        self._measuring: Future[None] | None = None

    def start(self) -> None:
        """Begin to measure: the baselines first, then whatever is handed in."""
        if self.workers:
            follow = partial(self.study.follow, self._proposed(), self.notes, self._stop)
            self._measuring = self._measurer.submit(follow)

    def close(self) -> None:
        """Give running jobs up and let go of everything; what is open is gone on with later."""
        self._stop.set()
        self._checkers.shutdown(wait=False, cancel_futures=True)
        self._measurer.shutdown()
        self.study.pool.close()
        self._checkers.shutdown()
        self.study.close()

    def view(self) -> View:
        """Give the study as its readers see it."""
        study = self.study
        experiments = tuple(study.archive.experiments())
        return View(space=study.space, settings=study.settings, experiments=experiments)

    def standing(self) -> Standing:
        """Give how far the study is."""
        experiments = self.study.archive.experiments()
        baselines = [e for e in experiments if e.kind != "candidate"]
        candidates = [e for e in experiments if e.kind == "candidate"]
        return Standing(
            baselines=len(baselines),
            measured=sum(e.status in ENDED for e in baselines),
            ended=sum(e.status in ENDED for e in candidates),
            goal=load_settings(self.study.folder / SETTINGS).experiments,
            open=tuple(e for e in candidates if e.status not in ENDED),
            fault=self._fault(),
        )

    def claim(self, author: str, seat: str, seconds: float) -> Brief | None:
        """Claim an experiment for an agent, or give a named seat the one that it holds already.

        Args:
            author: whom its design will be by.
            seat: the agent's name for itself; "" for none.
            seconds: to wait until the baselines are measured.

        Returns:
            Its brief; None when the study has all the candidates that it wants.

        Raises:
            Refusal: the baselines are not measured yet.
        """
        until, standing = monotonic() + seconds, self.standing()
        while standing.measured < standing.baselines and not standing.fault and monotonic() < until:
            if self._stop.wait(LOOK_SECONDS):
                break
            standing = self.standing()
        if standing.measured < standing.baselines:
            known = self.study.cognition.all()
            meanwhile = "; until then search_cognition tells what papers know" if known else ""
            raise Refusal(
                f"not ready: {standing.measured} of {standing.baselines} baselines are measured, with which "
                f"every design is compared. {standing.fault or self.notes.told()}. Call get_brief "
                f"again{meanwhile}"
            )
        experiment = self.claims.claim(author, seat, standing.goal)
        if experiment is None:
            return None
        draft = experiment.proposal
        assert draft is not None, "a claim has a draft"
        brief = self.study.brief(experiment.id, draft.parents[0], draft.references)
        return replace(brief, repeats=experiment.repeats, attempt=len(experiment.repeats))

    def note_brief(self, id: int, author: str, text: str) -> None:
        """Keep what an agent was told, as a call of the role `designer` that it answers with its design."""
        if id not in self._briefs:
            told = Turn(asked=(Message(author="user", text=text),))
            call = Call(role=ROLE, model=author, experiment=id, turns=(told,), started_at=time.time())
            self._briefs[id] = self.study.archive.record_call(call)

    def check(self, source: str, id: int, seconds: float) -> Evidence | None:
        """Run the checks that stand before training on a source, once for each source.

        Args:
            source: of a candidate.
            id: of the experiment that it is for, which keeps the failed ones; 0 for none.
            seconds: to wait.

        Returns:
            Evidence; None while the checks still run: ask again.

        Raises:
            Refusal: the checks were interrupted.
        """
        self.claims.renew(id)
        try:
            checked = self._check(source).result(seconds)
        except TimeoutError:
            return None
        except (RuntimeError, CancelledError):
            raise Refusal("the checks were interrupted; call again with the same source") from None
        if checked.failure is not None:
            self.claims.change(id, lambda e: _with_attempt(e, source, checked))
        return checked

    def twin(self, checked: Evidence, id: int) -> tuple[int, str] | None:
        """Give the other experiment that has the graph or the function of a checked source, and which.

        None in a study without novelty: there a repeat is taken, and found out when it is measured.
        """
        if is_without(self.study.settings, "novelty"):
            return None
        for other in self.study.archive.experiments():
            for run in other.evidence if other.id != id else ():
                if checked.graph_hash and run.graph_hash == checked.graph_hash:
                    return other.id, "graph"
                if checked.function_hash and run.function_hash == checked.function_hash:
                    return other.id, "function"
        return None

    def submit(self, id: int, proposal: Proposal, seconds: float, seated: bool = False) -> Experiment:
        """Hand in the design of an experiment; it must pass the checks, and be new.

        Args:
            id: of the experiment that was claimed.
            proposal: without parents for those of its brief.
            seconds: to wait for checks of a source that was not checked before.
            seated: its author named a seat; else it is taken to be who claimed the experiment.

        Returns:
            The experiment that it became, which may have another id (see `Claims.hold`); one that is still
            `claimed` while the checks run: call again, with its id.

        Raises:
            Refusal: it repeats another, or fails a check (`FailedCheck`), or the experiment is no open one.
        """
        experiment = self.claims.hold(id, proposal, seated)
        if experiment.status != "claimed":
            return experiment
        draft = experiment.proposal
        parents = proposal.parents or (draft.parents if draft else ()) or (self.study.bench.seed_id,)
        if draft is not None:
            author = proposal.author if seated else draft.author
            proposal = replace(proposal, author=author, references=draft.references)
        proposal = replace(proposal, parents=parents)
        id = experiment.id
        known = known_programs(e for e in self.study.archive.experiments() if e.id != id)
        first = known.get(source_hash(proposal.source))
        if first is not None and not is_without(self.study.settings, "novelty"):
            self._refuse(id, repeat_of(proposal, first, "program"))
        checked = self.check(proposal.source, id, seconds)
        if checked is None:
            return experiment
        if checked.failure is not None:
            raise FailedCheck(checked)
        twin = self.twin(checked, id)
        if twin is not None:
            self._refuse(id, repeat_of(proposal, *twin, graph_hash=checked.graph_hash))
        self._hand_in(id, proposal, checked)
        return self.claims.get(id)

    def is_stopping(self) -> bool:
        """Tell whether `close` was called."""
        return self._stop.is_set()

    def _proposed(self) -> Iterator[int]:
        """Give the id of every candidate that waits to be measured, until the end."""
        while not self._stop.is_set():
            id = self.claims.adopt_proposed()
            if id is None:
                self._stop.wait(LOOK_SECONDS)
            else:
                yield id

    def _check(self, source: str) -> Future[Evidence]:
        """Give the checks of a source, begun now if they were not, or were interrupted."""
        key = text_hash(source)
        with self._checking:
            future = self._checks.get(key)
            if future is None or future.cancelled() or (future.done() and future.exception()):
                if self._stop.is_set():
                    raise Refusal(STOPPING)
                future = self._checks[key] = self._checkers.submit(self.study.bench.preview, source)
            self._checks.move_to_end(key)
            while len(self._checks) > KEPT_CHECKS:
                self._checks.popitem(last=False)
        return future

    def _hand_in(self, id: int, proposal: Proposal, checked: Evidence) -> None:
        values = as_values(self.study.settings)
        proposed = partial(
            replace, status="proposed", proposal=proposal, evidence=(checked,), settings=values
        )
        self.claims.hand_in(id, proposed)
        call = self._briefs.pop(id, None)
        if call is not None:
            turn = replace(call.turns[0], seconds=time.time() - call.started_at)
            answer = json.dumps({"name": proposal.name, "cognitions": proposal.cognitions})
            self.study.archive.record_call(replace(call, turns=(turn,), answer=answer))

    def _refuse(self, id: int, repeat: Repeat) -> None:
        """Keep on record that a design repeats another, and refuse it."""
        self.claims.change(id, lambda e: replace(e, repeats=(*e.repeats, repeat)))
        raise Refusal(
            f"refused: {repeat.name} is {repeat.reason}, {self.claims.get(repeat.of).name}; nothing is "
            f"measured twice. Read it with read_experiment({repeat.of}), change the mechanism itself and not "
            f"names or constants, then submit again for experiment {id}"
        )

    def _fault(self) -> str:
        if not self.workers:
            return (
                "This server measures nothing (--workers 0): `asi-arch run` must run on the study beside it"
            )
        if self._measuring is not None and self._measuring.done() and not self._stop.is_set():
            return (
                f"Measuring has stopped: {self._measuring.exception()}; tell your user to mend it and restart"
            )
        return ""


def _with_attempt(experiment: Experiment, source: str, checked: Evidence) -> Experiment:
    """Give an experiment that keeps a source that failed its checks, once and up to a number."""
    known = any(attempt.source == source for attempt in experiment.attempts)
    if known or len(experiment.attempts) >= KEPT_ATTEMPTS or checked.failure is None:
        return experiment
    bare = (replace(checked, bundle=""),)
    attempt = Attempt(
        source=source, failure=checked.failure, evidence=bare, note="by its author, after this verdict"
    )
    return replace(experiment, attempts=(*experiment.attempts, attempt))


def progress_words(progress: Progress) -> str:
    """Say how far a job is, such as "train 120 of 500 (loss 2.41)"."""
    steps = f" {progress.done} of {progress.total}" if progress.total else ""
    return f"{progress.phase}{steps}" + (f" ({progress.note})" if progress.note else "")


class _Notes(Silent):
    """Keeps how far each experiment is that this process measures, and since when."""

    def __init__(self) -> None:
        self.now: dict[int, tuple[Progress, float]] = {}
        self._slots: dict[int, Experiment] = {}

    def started(self, experiment: Experiment, slot: int) -> None:
        self._slots[slot] = experiment
        self.now[experiment.id] = (Progress(phase="start"), monotonic())

    def progress(self, slot: int, progress: Progress) -> None:
        id = self._slots[slot].id
        self.now[id] = (progress, self.now[id][1])

    def finished(self, experiment: Experiment, slot: int) -> None:
        self.now.pop(experiment.id, None)

    def told(self) -> str:
        """Say what is being measured now."""
        now = [f"#{id} {progress_words(progress)}" for id, (progress, _) in sorted(self.now.items())]
        return f"Now: {', '.join(now) or 'another process is at it'}"
