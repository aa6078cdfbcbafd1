"""What a study asks of its archive: ids that are claimed once, results that are kept for ever."""

from dataclasses import dataclass
from typing import Protocol

from asi_arch.calls import Call, Spending
from asi_arch.discoveries import Rerun
from asi_arch.records import Experiment, Kind, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An experiment in brief: what ranking needs, without its record being read.

    fitness: None unless finished. parents: experiment ids. graph_hash: "" while unknown.
    result: 1 for the candidate that ended first, 2 for the next, in the order in which they ended,
        failed ones too; 0 for one that has not ended, and for baselines and references.
    """

    id: int
    kind: Kind
    status: Status
    name: str = ""
    fitness: float | None = None
    parents: tuple[int, ...] = ()
    graph_hash: str = ""
    result: int = 0


class Archive(Protocol):
    """The memory of one study, and the one place where its processes meet.

    Threads of one process share one archive; each process opens its own. Every method may be called
    from any thread at any time. What a method has returned from is on the disk: a process killed at
    any instant loses only what it had not recorded yet.

    An experiment is *open* (`claimed`, `proposed`) until it ends (`finished`, `failed`). An open
    experiment belongs to the archive that claimed or adopted it, as long as that archive's process
    lives; when it ends, or the process dies, or `release` is called, it belongs to nobody. An ended
    experiment never changes.
    """

    def claim(self, kind: Kind, at_most: int | None = None) -> int | None:
        """Take the next id, which no other caller ever gets. Ids count up from 1 without gaps.

        Args:
            kind: what the experiment will be.
            at_most: how many experiments of the kind the study may have, open ones included.

        Returns:
            The id of a new experiment, `claimed` and owned by this archive; None when the study has
            `at_most` of the kind.
        """
        ...

    def adopt(self, *kinds: Kind) -> int | None:
        """Take the open experiment of these kinds that belongs to nobody, the lowest id first.

        Returns:
            Its id, now owned by this archive; None when there is none.
        """
        ...

    def release(self, id: int) -> None:
        """Give an experiment up: any process may adopt it. Nothing happens when it has ended."""
        ...

    def record(self, experiment: Experiment) -> bool:
        """Write an experiment in one durable transaction, in place of what its id held.

        Bundles of its evidence are kept once for each graph hash, and are not in the record.

        Returns:
            True when it was written; False when the id had ended already: the first end stands, so
            recording a result twice changes nothing.

        Raises:
            KeyError: the id was never claimed.
            ValueError: the record would not come back as it went in, such as one that holds a NaN.
        """
        ...

    def reserve(self, graph_hash: str, stage: str, seed: int, id: int) -> int:
        """Give the experiment that may train a graph at a stage with a seed: the first that asked.

        The answer is the same for all time, so nothing is trained twice: neither by two processes at
        once, nor after a failure.
        """
        ...

    def get(self, id: int) -> Experiment:
        """Give an experiment as it stands now. Raises KeyError when the id was never claimed."""
        ...

    def experiments(self, kind: Kind | None = None, status: Status | None = None) -> list[Experiment]:
        """Give experiments in the order of ids: all, or those of one kind, one status or both.

        Only what changed since the last call is read. The list is the caller's.
        """
        ...

    def rows(self) -> list[Row]:
        """Give all experiments in brief, in the order of ids; no record is read. The list is the caller's."""
        ...

    def bundle(self, graph_hash: str) -> str:
        """Give the graphs of a hash as JSON text. Raises KeyError when none was recorded."""
        ...

    def begin_rerun(self, rerun: Rerun) -> bool:
        """Take a rerun, if it has not ended and no living process has it.

        Returns:
            True when it is this archive's to run, once: until it ends, is left, or the process dies.

        Raises:
            KeyError: there is no such experiment.
        """
        ...

    def leave_rerun(self, rerun: Rerun) -> None:
        """Give a rerun up that this archive began: any process may begin it. Nothing when it has ended."""
        ...

    def record_rerun(self, rerun: Rerun) -> bool:
        """Write a rerun with its evidence, without its bundle, in one durable transaction.

        Returns:
            True when it was written; False when it had ended already: the first end stands.

        Raises:
            KeyError: it was never begun.
            ValueError: it has no evidence, or would not come back as it went in.
        """
        ...

    def reruns(self) -> list[Rerun]:
        """Give all reruns that ended, in the order of their end."""
        ...

    def record_call(self, call: Call) -> Call:
        """Write a call of a language model in one durable transaction, and give it with its id.

        A call whose id is 0 gets the next one; another takes the place of what its id held, so a call
        may be recorded while it goes on.

        Raises:
            KeyError: there is no call of that id, or no such experiment.
            ValueError: the record would not come back as it went in.
        """
        ...

    def calls(self, experiment: int | None = None) -> list[Call]:
        """Give calls in the order of ids, those of one experiment or all."""
        ...

    def spent(self) -> Spending:
        """Give what all calls came to; no record is read."""
        ...

    def close(self) -> None:
        """Let go of files and of all open experiments that this archive owns; idempotent."""
        ...
