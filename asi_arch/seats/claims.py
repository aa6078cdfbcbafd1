"""Who designs which experiment: claims of coding agents, which expire, and outlive the server."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from asi_arch.archive.base import Archive
from asi_arch.records import Experiment, Proposal
from asi_arch.researcher.novelty import source_hash
from asi_arch.study import AGENT

SIGN_SECONDS = 60.0  # a claim's sign of life is written down when the last one is older than this
NEXT = "get_brief gives the next experiment"

Choice = Callable[[int], tuple[int, tuple[int, ...]]]


class Refusal(Exception):  # noqa: N818 - it is an answer
    """What an agent asked for cannot be done: one text with the fault and what to do about it."""


class Claims:
    """The claims of one server's agents. Thread-safe; all that must survive it is in the archive.

    A claimed experiment holds a draft: a proposal without a source, that says whose it is, and from which
    parent and references. It belongs to this process until the claim expires or is given up. When the process
    dies, another server keeps it for its agent for the rest of its time, unless a run takes it over.

    Args:
        archive: of the study.
        choose: gives parent and references for an id.
        seconds: of silence after which a claim expires.
    """

    def __init__(self, archive: Archive, choose: Choice, seconds: float) -> None:
        self._archive, self._choose, self._seconds = archive, choose, seconds
        self._claiming = threading.Lock()  # who holds what
        self._noting = threading.RLock()  # a record of a held experiment is read, changed and written
        self._held: dict[int, float] = {}  # id to the monotonic time of expiry

    def claim(self, author: str, seat: str, at_most: int) -> Experiment | None:
        """Claim an experiment for an agent, or give a named seat the one that it holds already.

        Returns:
            It with its draft; None when the study has `at_most` candidates and none was left behind.
        """
        with self._claiming:
            self._expire()
            found = self._seated(author, seat) or self._adopt(self._is_free)
            if found is None:
                id = self._archive.claim("candidate", at_most)
                if id is None:
                    return None
                found = self._archive.get(id)
            return self._seat(found, author, seat)

    def hold(self, id: int, proposal: Proposal, seated: bool) -> Experiment:
        """Give the claimed experiment that a design is for, and renew its claim.

        A claim that went to somebody else costs an agent nothing: its design gets another experiment. One
        that was handed in with this very design comes as it stands: the answer was lost.

        Args:
            id: of the experiment.
            proposal: the design.
            seated: its author named a seat, so that the claim of another seat is told from its own.

        Raises:
            Refusal: there is none, or it has another design of the same author.
        """
        with self._claiming:
            own = self._own(id)
            if own is None or (seated and own.proposal and own.proposal.author != proposal.author):
                return self._moved(id, proposal)
            return own

    def renew(self, id: int) -> None:
        """Take a sign of life of the agent that holds an experiment; nothing happens when none does."""
        with self._noting:
            if id not in self._held:
                return
            self._held[id] = time.monotonic() + self._seconds
            experiment = self._archive.get(id)
            if time.time() - experiment.claimed_at > min(SIGN_SECONDS, self._seconds / 10):
                self._archive.record(replace(experiment, claimed_at=time.time()))

    def change(self, id: int, change: Callable[[Experiment], Experiment]) -> None:
        """Write a changed record of an experiment, if it is held."""
        with self._noting:
            if id in self._held:
                self._archive.record(change(self._archive.get(id)))

    def hand_in(self, id: int, change: Callable[[Experiment], Experiment]) -> None:
        """Write down what was handed in, and let whoever measures have it."""
        with self._noting:
            self.change(id, change)
            self._held.pop(id, None)
        self._archive.release(id)

    def give_up(self, id: int) -> None:
        """Let whoever asks next have an experiment. Raises Refusal: it is not held."""
        with self._claiming:
            if self._own(id) is None:
                raise Refusal(f"experiment {id} is not in your hands, so there is nothing to give up; {NEXT}")
            self._vacate(id)

    def adopt_proposed(self) -> int | None:
        """Take a candidate that waits to be measured, and let go of claims that have expired."""
        with self._claiming:
            self._expire()
        rows = self._archive.rows()
        if not any(row.kind == "candidate" and row.status == "proposed" for row in rows):
            return None
        found = self._adopt(lambda e: e.status == "proposed")
        return found.id if found else None

    def get(self, id: int) -> Experiment:
        """Give an experiment. Raises Refusal: there is none."""
        try:
            return self._archive.get(id)
        except (KeyError, OverflowError):
            last = max(row.id for row in self._archive.rows())
            raise Refusal(f"there is no experiment {id}; this study has 1 to {last}") from None

    def _adopt(self, wanted: Callable[[Experiment], bool]) -> Experiment | None:
        """Take the first open candidate of nobody's that is wanted; let go of those that came before it."""
        passed, found = [], None
        while found is None and (id := self._archive.adopt("candidate")) is not None:
            experiment = self._archive.get(id)
            if wanted(experiment):
                found = experiment
            else:
                passed.append(id)
        for id in passed:
            self._archive.release(id)
        return found

    def _is_free(self, experiment: Experiment) -> bool:
        """Tell whether a claimed experiment of nobody's is kept for no agent."""
        draft, age = experiment.proposal, time.time() - experiment.claimed_at
        kept = draft is not None and is_agent(draft.author) and age < self._seconds
        return experiment.status == "claimed" and not kept

    def _seated(self, author: str, seat: str) -> Experiment | None:
        """Give the experiment that a named seat holds, here or from a server that died."""
        if not seat:
            return None

        def is_theirs(e: Experiment) -> bool:
            draft = e.proposal
            return (
                e.status == "claimed" and draft is not None and (draft.name, draft.author) == (seat, author)
            )

        held = (self._archive.get(id) for id in sorted(self._held))
        return next((e for e in held if is_theirs(e)), None) or self._adopt(is_theirs)

    def _seat(self, experiment: Experiment, author: str, seat: str) -> Experiment:
        """Write down whose an experiment is; one that was theirs before keeps its parent and references."""
        draft = experiment.proposal
        if draft is None or not seat or (draft.name, draft.author) != (seat, author):
            parent, references = self._choose(experiment.id)
            draft = _draft(author, (parent,), references, seat)
        seated = replace(experiment, proposal=draft, claimed_at=time.time())
        with self._noting:
            self._archive.record(seated)
            self._held[experiment.id] = time.monotonic() + self._seconds
        return seated

    def _own(self, id: int) -> Experiment | None:
        """Give a claimed experiment, if need be from a server that died; None when it is not an agent's."""
        if self.get(id).status != "claimed":
            return None
        if id not in self._held and self._adopt(lambda e: e.id == id) is None:
            return None
        self._held[id] = time.monotonic() + self._seconds
        return self._archive.get(id)

    def _moved(self, id: int, proposal: Proposal) -> Experiment:
        """Give the experiment for a design whose own is not held: itself if it is there, else a new one."""
        experiment = self.get(id)
        there = experiment.proposal
        if experiment.kind != "candidate":
            raise Refusal(f"experiment {id} is the baseline {experiment.name}; {NEXT}")
        if there is not None and there.source:
            if source_hash(there.source) == source_hash(proposal.source):
                return experiment
            if there.author == proposal.author:
                raise Refusal(f"experiment {id} was handed in before, as {there.name}; {NEXT}")
        new = self._archive.claim("candidate")
        assert new is not None, "there is no limit"
        parents = there.parents if there is not None else ()
        claimed = replace(self._archive.get(new), proposal=_draft(proposal.author, parents, ()))
        with self._noting:
            self._archive.record(claimed)
            self._held[new] = time.monotonic() + self._seconds
        return claimed

    def _expire(self) -> None:
        now = time.monotonic()
        for id in [id for id, end in list(self._held.items()) if end < now]:
            self._vacate(id)

    def _vacate(self, id: int) -> None:
        with self._noting:
            self._held.pop(id, None)
            experiment = self._archive.get(id)
            if experiment.status == "claimed":
                self._archive.record(replace(experiment, proposal=None))
        self._archive.release(id)


def is_agent(author: str) -> bool:
    """Tell whether an author is a coding agent."""
    return author.split(" ")[0] == AGENT


def _draft(author: str, parents: tuple[int, ...], references: tuple[int, ...], seat: str = "") -> Proposal:
    return Proposal(
        name=seat, motivation="", source="", author=author, parents=parents, references=references
    )
