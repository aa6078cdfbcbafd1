"""Fitness: one number made of named terms in 0..1, relative to the seed as measured in the same study."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from asi_arch.analyst.statistics import mean, mean_metric, metric_value
from asi_arch.errors import SetupError
from asi_arch.records import Evidence, Fitness
from asi_arch.space import WINDOW, MetricSpec, Space

Term = Callable[[Evidence, Sequence[Evidence]], float]
"""A term gives 0..1 for one run against the seed's runs at the same stage."""

STEEPNESS = 6.0  # the paper's: the window's two ends give 0.0025 and 0.9975
JUDGE = "judge"  # the term that a judge's mark becomes
SEED_MARK = 5.0  # a judge's mark of the seed, by definition; marks go from 1 to 10


def score(
    evidence: Evidence,
    seed: Sequence[Evidence],
    space: Space,
    formula: str,
    mark: float | None = None,
    weight: float = 1.0,
) -> Fitness:
    """Give the fitness of one run against the seed's runs at the same stage.

    Args:
        evidence: a run that ended with every metric of the space.
        seed: the seed's runs; their mean is the reference.
        space: names the metrics, their direction and their scale.
        formula: `gain` or `paper`, see `gain_terms` and `paper_terms`.
        mark: a judge's, 1..10 with 5 for the seed, of which the term `judge` is made: under `paper`
            (m - 1) / 9, under `gain` straight from 0 at 1 over 0.5 at 5 to 1 at 10. None: no judge.
        weight: of that term, each other having 1; with 0 there is no such term.

    Raises:
        ValueError: no seed run, or a metric is missing or not finite (see `metric_value`).
        SetupError: the formula is unknown, or the space has no scale for this stage.
    """
    if formula not in FORMULAS:
        raise SetupError(f"unknown fitness {formula!r}; known are {', '.join(FORMULAS)}")
    terms = {name: term(evidence, seed) for name, term in FORMULAS[formula](space, evidence, seed).items()}
    gains = {spec.name: gain(spec, evidence, seed) for spec in space.metrics}
    value = mean(terms.values())
    if mark is not None and weight:
        terms[JUDGE] = JUDGE_TERMS[formula](mark)
        value = (value * (len(terms) - 1) + weight * terms[JUDGE]) / (len(terms) - 1 + weight)
    return Fitness(formula=formula, value=value, terms=terms, gains=gains)


def gain(spec: MetricSpec, evidence: Evidence, seed: Sequence[Evidence]) -> float:
    """Give how much better than the seed's mean a run is, in the metric's unit; positive is better."""
    change = metric_value(evidence, spec.name) - mean_metric(seed, spec.name)
    return change if spec.higher_is_better else -change


def scale_at(spec: MetricSpec, stage: str) -> float:
    """Give the calibrated noise of a difference of two single runs at a stage.

    Raises:
        SetupError: the space has none.
    """
    scale = spec.scale.get(stage, 0.0)
    if scale <= 0:
        known = ", ".join(spec.scale) or "no stage"
        raise SetupError(f"metric {spec.name!r} has no scale at stage {stage!r} (it has one at {known})")
    return scale


def gain_terms(space: Space, evidence: Evidence, seed: Sequence[Evidence]) -> Mapping[str, Term]:
    """Give the default formula's terms: for each metric sigmoid(gain / (2 scale)).

    The scale is fixed for a space and stage, so that a term means the same in every study: 0.5 is
    the seed, 0.62 is better by one scale, 0.73 by two. Fitness is the terms' mean.
    """
    return {spec.name: partial(_gain_term, spec) for spec in space.metrics}


def paper_terms(space: Space, evidence: Evidence, seed: Sequence[Evidence]) -> Mapping[str, Term]:
    """Give the paper's terms, loss and benchmark; the mean of these and the judge's is the fitness.

    Loss and benchmark are sigma(relative change), where sigma divides by 10 %, clamps to [-1, 1],
    multiplies by 6 and takes the logistic function (so in its released code; the paper says
    "sigmoid" and "10 %"). The judge's raw mark m in 1..10 gives (m - 1) / 9, with weight 1 (see `score`).

    It differs from the paper in two points. Without a judge's mark the mean is over the other two
    terms; the paper always has three, and its code puts 0.5 for a judge that failed, so two values
    of this formula compare only when both have a judge or neither has. And the benchmark is the
    mean of this space's accuracies (see `benchmark`), not of twelve downstream tasks.
    Source: arXiv:2507.18074, eq. 2.
    """
    terms: dict[str, Term] = {"loss": _loss_term}
    if benchmark(evidence, space) is not None:
        terms["benchmark"] = partial(_benchmark_term, space)
    return terms


def benchmark(evidence: Evidence, space: Space) -> float | None:
    """Give a run's mean accuracy, the counterpart of the paper's benchmark mean.

    That is the mean of all details with "accuracy" in their name; where there is none, of the
    metrics of which more is better; None where there is none of these either.
    """
    values = [m.value for name, m in sorted(evidence.details.items()) if "accuracy" in name]
    values = values or [metric_value(evidence, s.name) for s in space.metrics if s.higher_is_better]
    return mean(values) if values else None


FORMULAS: Mapping[str, Callable[[Space, Evidence, Sequence[Evidence]], Mapping[str, Term]]] = {
    "gain": gain_terms,
    "paper": paper_terms,
}


JUDGE_TERMS: Mapping[str, Callable[[float], float]] = {
    "gain": lambda mark: (mark - 1) / 8 if mark < SEED_MARK else 0.5 + (mark - SEED_MARK) / 10,
    "paper": lambda mark: (mark - 1) / 9,
}


def _gain_term(spec: MetricSpec, evidence: Evidence, seed: Sequence[Evidence]) -> float:
    return _logistic(gain(spec, evidence, seed) / (2 * scale_at(spec, evidence.stage)))


def _loss_term(evidence: Evidence, seed: Sequence[Evidence]) -> float:
    reference = mean(_final_loss(run) for run in seed)
    return _paper_sigma(reference - _final_loss(evidence), reference)


def _benchmark_term(space: Space, evidence: Evidence, seed: Sequence[Evidence]) -> float:
    reference = mean(_present(benchmark(run, space)) for run in seed)
    return _paper_sigma(_present(benchmark(evidence, space)) - reference, reference)


def _paper_sigma(change: float, reference: float) -> float:
    if reference == 0:  # every change from nothing lies beyond the window
        relative = math.copysign(WINDOW, change) if change else 0.0
    else:
        relative = change / abs(reference)
    return _logistic(STEEPNESS * min(1.0, max(-1.0, relative / WINDOW)))


def _final_loss(evidence: Evidence) -> float:
    if not evidence.curve or not math.isfinite(evidence.curve[-1][1]):
        raise ValueError(f"source {evidence.source_hash} has no final training loss, which 'paper' needs")
    return evidence.curve[-1][1]


def _present(value: float | None) -> float:
    if value is None:
        raise ValueError("a run of the seed has no accuracies although the candidate has")
    return value


def _logistic(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))  # never overflows, and is exactly 0.5 at 0
