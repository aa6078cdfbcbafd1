"""Runs that are stopped early: by which bars, never in the warm-up, and what becomes of them in a study."""

from pathlib import Path

import pytest
from toy import toy_study

from asi_arch.search.budgets.base import Curve, Facts, decide
from asi_arch.search.budgets.policies import budget_of

STEPS = 100


def falling(end: float) -> Curve:
    """A curve of 20 points that falls by nearly 2 to `end`."""
    return [(5 * i, end + 2 * (1 - i / 20)) for i in range(1, 21)]


def facts(*ends: float) -> Facts:
    return Facts(steps=STEPS, warm_up=10, seed=falling(1.0), curves=[falling(end) for end in ends])


MANY = [0.5 + 0.05 * i for i in range(24)]


@pytest.mark.parametrize("name", ["full", "halving", "racing"])
def test_what_is_best_at_every_step_goes_to_the_end(name: str) -> None:
    assert decide(budget_of(name), falling(0.3), facts(*MANY)).go_on


@pytest.mark.parametrize("name", ["halving", "racing"])
def test_what_is_worst_at_every_step_is_stopped_after_the_warm_up_and_told_why(name: str) -> None:
    curve = falling(3.0)
    decision = decide(budget_of(name), curve, facts(*MANY))
    assert not decision.go_on
    assert "stopped after step" in decision.reason
    assert "\n" not in decision.reason
    warm = [point for point in curve if point[0] <= 10]
    assert decide(budget_of(name), warm, facts(*MANY)).go_on


def test_the_control_stops_nothing() -> None:
    assert budget_of("full").rule(facts(*MANY)) is None
    assert decide(budget_of("full"), falling(9.0), facts(*MANY)).go_on


@pytest.mark.parametrize("name", ["halving", "racing"])
def test_nothing_is_stopped_before_there_is_something_to_compare_with(name: str) -> None:
    assert decide(budget_of(name), falling(9.0), facts()).go_on
    assert decide(budget_of(name), falling(9.0), facts(1.0, 1.1)).go_on


@pytest.mark.parametrize("name", ["halving", "racing"])
def test_equal_facts_give_equal_rules(name: str) -> None:
    assert budget_of(name).rule(facts(*MANY)) == budget_of(name).rule(facts(*MANY))


@pytest.mark.parametrize("name", ["halving", "racing"])
def test_a_study_stops_runs_keeps_their_curves_and_never_makes_them_parents(
    tmp_path: Path, name: str
) -> None:
    study = toy_study(tmp_path, experiments=60, budget=name)
    study.run()
    experiments = study.archive.experiments("candidate")
    study.close()
    stopped = {e.id: e for e in experiments if any(run.stopped_at for run in e.evidence)}
    assert stopped
    for experiment in stopped.values():
        last = experiment.evidence[-1]
        assert experiment.status == "failed"
        assert experiment.fitness is None
        assert experiment.failure is not None
        assert experiment.failure.phase == "stopped"
        assert not last.metrics
        assert last.curve[-1][0] == last.stopped_at
    full = next(e for e in experiments if e.status == "finished").evidence[-1]
    assert all(e.evidence[-1].stopped_at < full.curve[-1][0] for e in stopped.values())
    parents = {p for e in experiments if e.proposal for p in e.proposal.parents}
    assert not parents & set(stopped)
    assert len([e for e in experiments if e.status == "finished"]) > 10
