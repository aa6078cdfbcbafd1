"""What a study asks of its parts: a researcher, a pool, and whoever watches."""

from collections.abc import Callable, Sequence
from typing import Protocol

from asi_arch.records import Brief, Evidence, Experiment, Job, Judgement, Progress, Proposal

Report = Callable[[Progress], None]


class Researcher(Protocol):
    """Writes architectures. Called from several threads at once."""

    def propose(self, brief: Brief) -> Proposal:
        """Give a proposal for a brief; equal briefs give equal proposals where the author can."""
        ...


class Critics(Protocol):
    """What else is thought of a measured candidate. Called from several threads at once."""

    def judge(self, experiment: Experiment) -> Judgement | None:
        """Give a judge's marks; None when there is no judge, or it gave no answer."""
        ...

    def explain(
        self, experiment: Experiment, parent: Experiment | None, siblings: Sequence[Experiment]
    ) -> Experiment:
        """Give an experiment that has a fitness and a finding by rule with what an analyst adds to it."""
        ...


class Pool(Protocol):
    """Measures. Called from several threads at once."""

    def run(self, job: Job, report: Report) -> Evidence:
        """Wait for a free place, run a job and give its evidence.

        A candidate's fault is `Evidence.failure`, never an exception. `report` is called from this
        thread. Evidence that has a `graph_hash` has the bundle too, unless the job brought it.
        """
        ...

    def close(self) -> None:
        """End all jobs: those that wait in `run` raise RuntimeError soon. A later `run` starts anew."""
        ...


class Watch(Protocol):
    """Sees a study run. Called from several threads at once; a slot is a worker's number from 0 on."""

    def started(self, experiment: Experiment, slot: int) -> None:
        """Take note that a worker measures an experiment; again, when its proposal was known or mended."""

    def progress(self, slot: int, progress: Progress) -> None:
        """Take note of how far a worker's job is."""

    def finished(self, experiment: Experiment, slot: int) -> None:
        """Take note that an experiment ended, finished or failed."""

    def message(self, text: str) -> None:
        """Take note of a line for a person."""


class Silent:
    """The watch that does nothing."""

    def started(self, experiment: Experiment, slot: int) -> None:
        """Do nothing."""

    def progress(self, slot: int, progress: Progress) -> None:
        """Do nothing."""

    def finished(self, experiment: Experiment, slot: int) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""
