"""Does a candidate beat every baseline, on runs that the search never saw, among all that were tried?"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from asi_arch.analyst.fitness import score
from asi_arch.analyst.noise import Noise, difference, fit_noise
from asi_arch.analyst.power import FEWEST_SEEDS, MOST_SEEDS, seeds_needed
from asi_arch.analyst.statistics import mean, metric_value, runs_at
from asi_arch.discoveries import Claim, Comparison
from asi_arch.errors import SetupError
from asi_arch.records import Cost, Evidence, Experiment
from asi_arch.space import MetricSpec, Space

COSTS = ("parameters", "flops_per_token", "tokens_per_second", "state_bytes")
WORTH = 0.05  # of fitness: the smallest gain that a plan is not to miss; nearly one scale on one of two tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a claim is about: a number of one run, higher is better.

    effect: the smallest gain that is not to be missed, in `unit`; power is planned for it.
    """

    name: str
    unit: str
    value: Callable[[Evidence], float]
    effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the runs: at which stage, of what, and how strictly.

    seen: training seeds that the search saw at any stage; their runs chose the leads, so none of
        them is part of a claim, neither a candidate's nor a baseline's.
    alpha: rate of false discoveries that is allowed, two-sided. most: seeds beyond which no plan goes.
    """

    stage: str
    measure: Measure
    seen: Collection[int]
    alpha: float = 0.05
    most: int = MOST_SEEDS


def metric_measure(spec: MetricSpec, stage: str) -> Measure:
    """Give a metric as a measure; the gain worth finding is one scale.

    Raises:
        SetupError: it has no scale at the stage.
    """
    sign = 1.0 if spec.higher_is_better else -1.0
    effect = spec.scale.get(stage, 0.0)
    if effect <= 0:
        raise SetupError(
            f"metric {spec.name!r} has no scale at stage {stage!r}; a claim needs one to plan by"
        )
    return Measure(
        name=spec.name, unit=spec.unit, value=lambda run: sign * metric_value(run, spec.name), effect=effect
    )


def fitness_measure(space: Space, seed: Sequence[Evidence], formula: str) -> Measure:
    """Give the fitness without a judge's mark as a measure. seed: its runs at the stage, the reference."""
    return Measure(
        name="fitness", unit="", value=lambda run: score(run, seed, space, formula).value, effect=WORTH
    )


def fresh_runs(experiment: Experiment, question: Question) -> tuple[Evidence, ...]:
    """Give the runs at the question's stage that the search did not see."""
    return tuple(run for run in runs_at(experiment, question.stage) if run.seed not in question.seen)


def noise_at(experiments: Sequence[Experiment], question: Question) -> Noise | None:
    """Give the noise that all experiments show together at a stage; None while no two runs differ.

    Each source is a group. Of candidates only fresh runs count; of the seed and the baselines, which were
    not chosen by their luck, all.
    """
    groups = [
        fresh_runs(e, question) if e.kind == "candidate" else runs_at(e, question.stage) for e in experiments
    ]
    try:
        return fit_noise([question.measure.value(run) for run in group] for group in groups)
    except ValueError:
        return None


def judge_leads(
    leads: Sequence[Experiment],
    baselines: Sequence[Experiment],
    question: Question,
    noise: Noise | None = None,
) -> tuple[Claim, ...]:
    """Test whether each lead beats every baseline; give one claim for each, in their order.

    The p value of a claim is the largest over baselines, which is right whatever the baselines'
    order, so the best one need not be known (R. L. Berger, Technometrics 24 (1982) 295). A
    comparison is unpaired, with variances drawn towards those of all groups (`noise.difference`). Over
    all leads that can be tested, Benjamini and Hochberg's procedure keeps the rate of false
    discoveries; the interval of a discovery has coverage 1 - R alpha / m for R discoveries among m,
    so that it allows for its being selected (Y. Benjamini and D. Yekutieli, JASA 100 (2005) 71).

    Args:
        leads: all that were chosen for replication, also those that look bad now: leaving one out
            would make the others look better than they are.
        baselines: each must have fresh runs, or no claim can be more than open.
        question: stage, measure, seeds that were seen, level.
        noise: None for `noise_at` of leads and baselines.
    """
    noise = noise or noise_at([*leads, *baselines], question)
    level = 1 - question.alpha
    claims = [_compare(lead, baselines, question, noise, len(leads), level) for lead in leads]
    tested = [i for i, claim in enumerate(claims) if claim.comparisons]  # also those still open
    adjusted = benjamini_hochberg([claims[i].p for i in tested])
    for i, p in zip(tested, adjusted, strict=True):
        claims[i] = replace(claims[i], adjusted_p=p)
    found = [i for i in tested if claims[i].adjusted_p <= question.alpha]
    strict = 1 - question.alpha * len(found) / len(tested) if found else level
    for i in found:
        wider = _compare(leads[i], baselines, question, noise, len(leads), strict)
        claims[i] = replace(wider, adjusted_p=claims[i].adjusted_p)
    return tuple(
        _concluded(claim, question, len(_failed_runs(lead, question)))
        for claim, lead in zip(claims, leads, strict=True)
    )


def benjamini_hochberg(values: Sequence[float]) -> list[float]:
    """Give p values adjusted for the false-discovery rate, in their order.

    Source: Y. Benjamini and Y. Hochberg, J. R. Stat. Soc. B 57 (1995) 289.
    """
    order = sorted(range(len(values)), key=lambda i: values[i], reverse=True)
    adjusted, smallest = [0.0] * len(values), 1.0
    for rank, i in zip(range(len(values), 0, -1), order, strict=True):
        smallest = min(smallest, values[i] * len(values) / rank)
        adjusted[i] = smallest
    return adjusted


def compare(own: Sequence[float], other: Sequence[float], noise: Noise, level: float) -> Comparison | None:
    """Give the comparison of two sets of runs, higher being better; None when a side has none.

    The names and the costs are the caller's to fill in.
    """
    if not own or not other:
        return None
    spread = difference(noise, own, other)
    gain, margin = mean(own) - mean(other), spread.margin(level)
    return Comparison(
        baseline=0,
        name="",
        gain=gain,
        low=gain - margin,
        high=gain + margin,
        p=min(1.0, 2 * spread.beyond(gain)),
        freedom=spread.freedom,
        standard_error=spread.error,
        seeds=len(own),
        baseline_seeds=len(other),
    )


def _compare(
    lead: Experiment,
    baselines: Sequence[Experiment],
    question: Question,
    noise: Noise | None,
    tests: int,
    level: float,
) -> Claim:
    """Give the claim of one lead before what the others' claims do to it."""
    value, runs = question.measure.value, fresh_runs(lead, question)
    own = [value(run) for run in runs]
    found, planned = [], FEWEST_SEEDS
    for baseline in baselines:
        against = fresh_runs(baseline, question)
        other = [value(run) for run in against]
        if noise is not None:
            alpha = question.alpha / tests  # the first step of Benjamini and Hochberg's, if only one is real
            plan = seeds_needed(noise, own, other, question.measure.effect, alpha, most=question.most)
            planned = max(planned, plan.seeds)
            comparison = compare(own, other, noise, level)
            if comparison is not None:
                cost = _ratios(runs, against)
                found.append(replace(comparison, baseline=baseline.id, name=baseline.name, cost=cost))
    complete = len(found) == len(baselines) > 0 and not _failed_runs(lead, question)
    return Claim(
        experiment=lead.id,
        name=lead.name,
        stage=question.stage,
        measure=question.measure.name,
        unit=question.measure.unit,
        seeds=tuple(run.seed for run in runs),
        planned=planned,
        comparisons=tuple(sorted(found, key=lambda c: (-c.p, c.gain, c.baseline))) if complete else (),
        p=max((c.p for c in found), default=1.0) if complete else 1.0,
        adjusted_p=1.0,
        level=level,
        outcome="open",
        reason="",
    )


def _failed_runs(experiment: Experiment, question: Question) -> tuple[Evidence, ...]:
    """Give fresh runs at the stage without a score: what is left when they are ignored is a selection."""
    scored = fresh_runs(experiment, question)
    return tuple(
        run
        for run in experiment.evidence
        if run.stage == question.stage and run.seed not in question.seen and run not in scored
    )


def _ratios(runs: Sequence[Evidence], against: Sequence[Evidence]) -> Mapping[str, float]:
    ratios = {}
    for name in COSTS:
        own, other = (_mean_cost([run.cost for run in side], name) for side in (runs, against))
        if own and other:
            ratios[name] = own / other
    return ratios


def _mean_cost(costs: Sequence[Cost], name: str) -> float:
    values = [float(getattr(cost, name)) for cost in costs]
    return mean(values) if values else 0.0


def _concluded(claim: Claim, question: Question, failed: int) -> Claim:
    """Give a claim with its outcome and the reason. failed: fresh runs that have no score."""
    worst, count = claim.hardest, len(claim.seeds)
    if failed:
        reason = f"{failed} of {count + failed} fresh runs failed, and what is left would be a choice"
        return replace(claim, outcome="unproven", reason=reason)
    if worst is None:
        reason = f"{count} fresh runs; it or a baseline has none, or nothing has two, so nothing is tested"
        return replace(claim, outcome="open", reason=reason)
    unit = f" {claim.unit}" if claim.unit else ""
    shown = f"{claim.measure} {worst.gain:+.3g}{unit} over {worst.name}"
    interval = f"interval {worst.low:+.3g} to {worst.high:+.3g} at {claim.level:.3g}"
    fewest = min([count, *(c.baseline_seeds for c in claim.comparisons)])
    better = min(claim.comparisons, key=lambda c: c.high)
    if fewest < claim.planned:
        reason = f"{shown}, {interval}; {fewest} of {claim.planned} planned seeds on each side"
        return replace(claim, outcome="open", reason=reason)
    if claim.adjusted_p <= question.alpha:
        reason = f"{shown}, the hardest of {len(claim.comparisons)} to beat; {interval}, {count} seeds"
        return replace(claim, outcome="discovery", reason=reason)
    if better.high < 0:
        reason = (
            f"{better.name} is better by {-better.gain:.3g}{unit}, and by {-better.high:.3g} at the least"
        )
        return replace(claim, outcome="refuted", reason=reason)
    reason = f"{shown}, {interval}; adjusted p {claim.adjusted_p:.2g}, after all {count} planned seeds"
    return replace(claim, outcome="unproven", reason=reason)
