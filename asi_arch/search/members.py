"""From the archive to what a policy sees: members with the mean fitness of their runs and their behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from asi_arch.archive.base import Row
from asi_arch.records import Cost, Experiment
from asi_arch.search.behaviour import Cell, behaviour
from asi_arch.search.selection.base import Member


class Members:
    """Turns rows and experiments into members; what ended is read once for each number of its runs.

    Args:
        stage: whose runs count.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._known: dict[tuple[int, int], tuple[int, Cell]] = {}

    def of(
        self,
        rows: Sequence[Row],
        experiments: Sequence[Experiment],
        seed: int,
        fresh: Mapping[int, Sequence[float]],
    ) -> list[Member]:
        """Give the members of a study in the order of ids.

        Args:
            rows: of the archive, read before the experiments.
            experiments: of the archive.
            seed: id of the seed's experiment.
            fresh: fitness in each run that was made after an experiment ended, by id.
        """
        by_id = {e.id: e for e in experiments}
        cost = next((run.cost for run in reversed(by_id[seed].evidence)), Cost())
        return [_refreshed(self._member(row, by_id[row.id], cost), fresh.get(row.id, ())) for row in rows]

    def _member(self, row: Row, experiment: Experiment, seed: Cost) -> Member:
        runs, cell = self._runs_and_cell(experiment, seed) if row.status == "finished" else (0, ())
        return Member(
            id=row.id,
            kind=row.kind,
            status=row.status,
            fitness=row.fitness if row.status == "finished" else None,
            runs=max(1, runs),
            parents=row.parents,
            result=row.result,
            cell=cell,
        )

    def _runs_and_cell(self, experiment: Experiment, seed: Cost) -> tuple[int, Cell]:
        key = (experiment.id, len(experiment.evidence))
        if key not in self._known:
            runs = sum(e.stage == self._stage and bool(e.metrics) for e in experiment.evidence)
            self._known[key] = (runs, behaviour(experiment, seed))
        return self._known[key]


def _refreshed(member: Member, fresh: Sequence[float]) -> Member:
    """Give a member with the mean over all its runs, those after its end included."""
    if member.fitness is None or not fresh:
        return member
    runs = member.runs + len(fresh)
    return replace(member, fitness=(member.fitness * member.runs + sum(fresh)) / runs, runs=runs)
