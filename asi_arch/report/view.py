"""A study as its readers see it, and the questions that tables and figures ask of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from asi_arch.analyst.replication import Replication
from asi_arch.analyst.statistics import mean, runs_at
from asi_arch.records import Cost, Evidence, Experiment
from asi_arch.search.budgets.base import STOPPED
from asi_arch.settings import Settings
from asi_arch.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a report is drawn from.

    experiments: all of a study, by id. replication: what is known of its leads; None before any was rerun.
    """

    space: Space
    settings: Settings
    experiments: tuple[Experiment, ...]
    replication: Replication | None = None

    def seed_runs(self) -> tuple[Evidence, ...]:
        """Give the seed's runs at the study's stage; empty while it is not measured."""
        return next((self.runs(e) for e in self.baselines() if e.name == self.space.seed), ())

    def baselines(self) -> tuple[Experiment, ...]:
        """Give baselines and references, in the order of ids."""
        return tuple(e for e in self.experiments if e.kind != "candidate")

    def candidates(self) -> tuple[Experiment, ...]:
        """Give candidates that have ended, finished or failed, in the order of their end."""
        ended = [e for e in self.experiments if e.kind == "candidate" and e.status in ("finished", "failed")]
        return tuple(sorted(ended, key=lambda e: (e.ended_at, e.id)))

    def best(self, count: int) -> tuple[Experiment, ...]:
        """Give the candidates of highest fitness, the best first."""
        return by_fitness(self.candidates())[:count]

    def runs(self, experiment: Experiment) -> tuple[Evidence, ...]:
        """Give an experiment's runs at the study's stage that ended with metrics."""
        return runs_at(experiment, self.settings.stage)

    def kind(self, experiment: Experiment) -> str:
        """Give the word for an experiment's part in the study: seed, baseline, reference or candidate."""
        is_seed = experiment.kind == "baseline" and experiment.name == self.space.seed
        return "seed" if is_seed else experiment.kind


def is_stopped(experiment: Experiment) -> bool:
    """Tell whether the study's budget ended an experiment's training early, which is no fault of it."""
    return experiment.failure is not None and experiment.failure.phase == STOPPED


def standing(experiment: Experiment) -> str:
    """Give the word for how far an experiment is: its status, or `stopped`."""
    return STOPPED if is_stopped(experiment) else experiment.status


def fitness_of(experiment: Experiment) -> float:
    """Give the fitness of an experiment that has one."""
    assert experiment.fitness is not None
    return experiment.fitness.value


def by_fitness(experiments: Iterable[Experiment]) -> tuple[Experiment, ...]:
    """Give the experiments that have a fitness, the highest first, equal ones by id."""
    scored = [e for e in experiments if e.fitness is not None]
    return tuple(sorted(scored, key=lambda e: (-fitness_of(e), e.id)))


def cpu_seconds(experiment: Experiment) -> float:
    """Give the processor time that an experiment took: all stages, runs and attempts together."""
    tried = [run for attempt in experiment.attempts for run in attempt.evidence]
    return sum(run.cpu_seconds for run in (*tried, *experiment.evidence))


def mean_detail(runs: Sequence[Evidence], name: str) -> float | None:
    """Give a detail's mean over the runs that have it, or None."""
    values = [run.details[name].value for run in runs if name in run.details]
    return mean(values) if values else None


def cost_of(experiment: Experiment) -> Cost:
    """Give the cost that was measured last."""
    return experiment.evidence[-1].cost if experiment.evidence else Cost()
