"""What a budget is: from what a study has seen, the bars that a run must pass to go on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from asi_arch.records import Bar, Failure, StopRule

Curve = Sequence[tuple[int, float]]
"""(step, training loss) pairs by rising step, at the same steps in all runs of a stage."""

AVERAGE = 0.05  # of a curve's points, the last ones, are averaged before anything is compared
STOPPED = "stopped"  # of the failure that a stopped run has instead of metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a budget knows before a run starts.

    steps: of a full run. warm_up: steps until the learning rate is at its peak.
    seed: the curve of the seed's run with the same training seed, to which all are compared at equal
        steps; a full one.
    curves: of the study's other candidates with that training seed, in the order in which they
        ended; those that were stopped are shorter.
    planned: candidates that the study is to have in all, or those so far, if these are more.
    """

    steps: int
    warm_up: int
    seed: Curve
    curves: Sequence[Curve]
    planned: int = 0


class Budget(Protocol):
    """When a run is stopped. Pure: equal facts give equal rules, and nothing is read or written."""

    def rule(self, facts: Facts) -> StopRule | None:
        """Give the bars for a run that starts now; None where every run goes to its end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a run goes on, and if not, why, in one line."""

    go_on: bool
    reason: str = ""


GO_ON = Decision(go_on=True)


def decide(budget: Budget, curve: Curve, facts: Facts) -> Decision:
    """Say whether a run goes on, given its curve so far: that it passed every bar on its way."""
    rule = budget.rule(facts)
    for end in range(1, len(curve) + 1):
        decision = judge(curve[:end], rule)
        if not decision.go_on:
            return decision
    return GO_ON


def judge(curve: Curve, rule: StopRule | None) -> Decision:
    """Say whether a run goes on after the last point of its curve; only the bar of that step is asked."""
    if rule is None or not curve:
        return GO_ON
    step = curve[-1][0]
    bar = next((b for b in rule.bars if b.step == step), None)
    value = averaged(curve, rule.window)
    if bar is None or value <= bar.loss:
        return GO_ON
    return Decision(
        go_on=False,
        reason=f"stopped after step {step}: training loss {value:.4g} is above {bar.loss:.4g}; {rule.reason}",
    )


def failure_of_stop(rule: StopRule, reason: str) -> Failure:
    """Give what stands in the place of metrics when a run was stopped: no fault of the candidate."""
    return Failure(phase=STOPPED, kind=rule.budget, message=reason)


def averaged(curve: Curve, window: int) -> float:
    """Give the mean loss of a curve's last points."""
    last = curve[-window:]
    return sum(loss for _, loss in last) / len(last)


def window_of(facts: Facts, average: float = AVERAGE) -> int:
    """Give how many points are averaged: a share of those of a full curve, at least one."""
    return max(1, round(average * len(facts.seed)))


def over_seed(curve: Curve, facts: Facts, window: int) -> dict[int, float]:
    """Give by step how far the averaged loss of a curve lies above the seed's; below it is better."""
    own, seed = _means(tuple(curve), window), _means(tuple(facts.seed), window)
    return {step: value - seed[step] for step, value in own.items() if step in seed}


def bars(limits: Sequence[tuple[int, float]], facts: Facts, window: int) -> tuple[Bar, ...]:
    """Give bars of limits over the seed, as losses of a run with the seed's training seed."""
    seed = _means(tuple(facts.seed), window)
    return tuple(Bar(step=step, loss=seed[step] + limit) for step, limit in limits)


@lru_cache(maxsize=4096)
def _means(curve: tuple[tuple[int, float], ...], window: int) -> Mapping[int, float]:
    """Give the mean of the last points by step, from the step on at which there are enough."""
    ends = range(window, len(curve) + 1)
    return {curve[end - 1][0]: averaged(curve[:end], window) for end in ends}
