"""Means and noise of repeated runs: the few formulas that every table and finding shares."""

import math
from collections.abc import Iterable, Sequence

from asi_arch.records import Evidence, Experiment


def runs_at(experiment: Experiment, stage: str) -> tuple[Evidence, ...]:
    """Give the runs of an experiment at a stage that ended with metrics, in the order of measuring."""
    return tuple(e for e in experiment.evidence if e.stage == stage and e.failure is None and e.metrics)


def fitness_value(experiment: Experiment) -> float:
    """Give an experiment's fitness; 0, which is the lowest, while it has none."""
    return experiment.fitness.value if experiment.fitness else 0.0


def mean(values: Iterable[float]) -> float:
    """Give the mean of at least one value, summed without rounding error."""
    listed = list(values)
    return math.fsum(listed) / len(listed)


def mean_metric(runs: Sequence[Evidence], metric: str) -> float:
    """Give a metric's mean over runs, in its unit.

    Raises:
        ValueError: there is no run, or one of them lacks the metric or has no finite value of it.
    """
    if not runs:
        raise ValueError(f"no run to average {metric!r} over")
    return mean(metric_value(run, metric) for run in runs)


def metric_value(run: Evidence, metric: str) -> float:
    """Give one run's value of a metric.

    Raises:
        ValueError: the run lacks the metric or has no finite value of it: a missing metric is a
            failure for the engine to report, never a number to make up here.
    """
    found = run.metrics.get(metric)
    if found is None or not math.isfinite(found.value):
        state = "missing" if found is None else found.value
        raise ValueError(f"metric {metric!r} of source {run.source_hash} at {run.stage!r} is {state}")
    return found.value


def deviation(values: Sequence[float]) -> float | None:
    """Give the sample standard deviation, or None below two values."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def seed_noise(runs: Sequence[Evidence], metric: str) -> float | None:
    """Give the standard deviation of single runs of one source, or None below two runs."""
    return deviation([metric_value(run, metric) for run in runs])


def pooled_noise(groups: Iterable[Sequence[float]]) -> float | None:
    """Give the standard deviation within groups, each with its own mean.

    A group of one value adds nothing; None when no group has two. Squares are weighted by their
    degrees of freedom, so the figure is right only where the groups share one noise.
    """
    squares, freedom = 0.0, 0
    for group in groups:
        own = deviation(group)
        if own is not None:
            squares += own**2 * (len(group) - 1)
            freedom += len(group) - 1
    return math.sqrt(squares / freedom) if freedom else None


def standard_error(noise: float, runs: int, against: int) -> float:
    """Give the standard deviation of a difference of two means of `runs` and `against` single runs.

    noise: standard deviation of one run. With one run each it is sqrt(2) times the noise, which is
    what `MetricSpec.scale` holds. Runs are taken as unpaired: sharing seeds and data order was
    measured to bring nothing at this size.
    """
    return noise * math.sqrt(1 / runs + 1 / against)
