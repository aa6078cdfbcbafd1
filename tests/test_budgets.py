"""Budgets: when a run is stopped, what stands in its place, and that nothing good is stopped for nothing."""

import random
from dataclasses import replace

import pytest
from test_train import TINY, ignore, stage, tiny_model
from toy import HerePool, outcome, toy_study

from asi_arch.engineer.pool import LocalPool
from asi_arch.engineer.train import train
from asi_arch.errors import SetupError
from asi_arch.records import Bar, Job, StopRule
from asi_arch.report.story import tell
from asi_arch.report.view import View
from asi_arch.search.budgets.base import STOPPED, Facts, decide, judge
from asi_arch.search.budgets.halving import Halving
from asi_arch.search.budgets.policies import BUDGETS, budget_of
from asi_arch.search.budgets.racing import Racing, fit_line
from asi_arch.settings import Settings, with_values
from asi_arch.space import load_space

STEPS = 100
GRID = range(5, STEPS + 1, 5)
SEED = tuple((step, 10.0 / step) for step in GRID)


def curve(height, end=STEPS, wobble=0.0, dice=None):
    """A curve that lies a height above the seed's, once it has learned: the difference comes with time."""
    dice = dice or random.Random(0)
    return tuple(
        (s, loss + height * s / STEPS + dice.gauss(0, wobble) * (1 - s / STEPS))
        for s, loss in SEED
        if s <= end
    )


def facts(curves, warm_up=10, planned=0):
    return Facts(steps=STEPS, warm_up=warm_up, seed=SEED, curves=curves, planned=planned)


def many(count, wobble=0.05, seed=1):
    dice = random.Random(seed)
    return [curve(dice.gauss(0, 1), wobble=wobble, dice=dice) for _ in range(count)]


# rules


def test_full_stops_nothing():
    assert BUDGETS["full"].rule(facts(many(30))) is None


@pytest.mark.parametrize("name", ["halving", "racing"])
def test_a_budget_stops_nothing_before_it_has_seen_a_few_runs(name):
    assert BUDGETS[name].rule(facts([])) is None
    assert BUDGETS[name].rule(facts(many(3))) is None


@pytest.mark.parametrize("name", ["halving", "racing"])
def test_equal_facts_give_equal_rules_and_a_good_run_passes_where_a_bad_one_is_stopped(name):
    known = facts(many(30), planned=40)
    assert BUDGETS[name].rule(known) == BUDGETS[name].rule(known)
    assert decide(BUDGETS[name], curve(-3.0), known).go_on
    bad = decide(BUDGETS[name], curve(3.0), known)
    assert not bad.go_on
    assert bad.reason.startswith("stopped after step ")
    assert "is above" in bad.reason


def test_halving_lets_the_better_share_pass_each_rung():
    heights = [i / 10 for i in range(-10, 11)]
    budget = Halving(keep=0.5, rungs=4)
    rule = budget.rule(facts([curve(h) for h in heights]))
    assert [bar.step for bar in rule.bars] == [50, 65, 75, 90]
    for bar in rule.bars:
        assert bar.loss == pytest.approx(10 / bar.step + 0.0 * bar.step / STEPS)


def test_no_rung_of_halving_lies_or_looks_inside_the_warm_up():
    for warm_up in (0, 30, 60, 72, 99):
        budget = Halving(earliest=0.0, average=0.15)  # three points
        rule = budget.rule(facts(many(20), warm_up=warm_up))
        first = next(i for i, s in enumerate(GRID) if s >= warm_up)
        for bar in rule.bars if rule else ():
            assert bar.step >= GRID[first + 2]
    assert Halving().rule(facts(many(20), warm_up=STEPS)) is None


def test_halving_counts_stopped_runs_on_the_rungs_that_they_reached():
    short = [curve(1.0, end=50) for _ in range(10)]
    rule = Halving(keep=0.5, fewest=8).rule(facts(short))
    assert [bar.step for bar in rule.bars] == [50]


def test_a_bar_is_a_loss_of_the_seeds_own_run():
    """Runs are compared by their difference to the seed, so a harder order of data moves all alike."""
    known = facts(many(20))
    harder = replace(
        known,
        seed=tuple((s, v + 5) for s, v in known.seed),
        curves=[tuple((s, v + 5) for s, v in c) for c in known.curves],
    )
    for budget in (Halving(), Racing()):
        bars, moved = budget.rule(known).bars, budget.rule(harder).bars
        assert [b.step for b in bars] == [b.step for b in moved]
        assert [b.loss + 5 for b in bars] == pytest.approx([b.loss for b in moved])


def test_a_rule_is_asked_at_its_steps_only_and_looks_at_the_mean_of_the_last_points():
    rule = StopRule(budget="halving", window=2, bars=(Bar(step=20, loss=1.0),), reason="why")
    assert judge(((10, 9.0),), rule).go_on
    assert judge(((10, 0.5), (20, 1.4)), rule).go_on
    assert not judge(((10, 0.5), (20, 1.6)), rule).go_on
    assert not judge(((10, 0.5), (20, float("nan"))), rule).go_on
    assert judge(((10, 0.5), (20, 1.6), (30, 9.0)), rule).go_on
    assert judge((), rule).go_on
    assert judge(((20, 9.0),), None).go_on


# racing


def test_the_bar_of_racing_is_where_the_chance_is_the_limit():
    dice = random.Random(3)
    x = [dice.gauss(0, 1) for _ in range(20)]
    line = fit_line(x, [2 * v + dice.gauss(0, 0.3) for v in x])
    for limit in (0.01, 0.07, 0.2):
        for wanted in (-3.0, -1.0, 0.5):
            assert line.quantile(line.highest(wanted, limit), limit) == pytest.approx(wanted)


def test_racing_has_no_bar_where_early_losses_say_nothing_of_the_end():
    dice = random.Random(4)
    x = [dice.gauss(0, 1) for _ in range(30)]
    assert fit_line(x, [dice.gauss(0, 1) for _ in x]).highest(-2.0, 0.001) is None
    assert fit_line(x, [-v for v in x]).highest(-2.0, 0.05) is None
    assert fit_line([1.0] * 9, [dice.gauss(0, 1) for _ in range(9)]).highest(-2.0, 0.05) is None


def test_racing_is_stricter_when_more_runs_are_to_come():
    known = many(20)
    few, more = (Racing(best=5).rule(facts(known, planned=n)).bars for n in (20, 200))
    later = {b.step: b.loss for b in few}
    assert all(b.loss <= later[b.step] for b in more if b.step in later)
    assert more[-1].loss < later[more[-1].step]


def test_racing_loses_a_run_that_turns_out_good_as_seldom_as_its_limit_says():
    """Runs that end among the best, and start as badly as chance has it: how many are stopped at one step."""
    dice, stopped, good = random.Random(5), 0, 0
    for _ in range(60):
        runs = many(40, wobble=0.3, seed=dice.random())
        ends = sorted(c[-1][1] for c in runs[:30])
        rule = Racing(best=5, limit=0.1, earliest=0.5).rule(facts(runs[:30], planned=30))
        at = {bar.step: bar.loss for bar in rule.bars}[50]
        for run in runs[30:]:
            if run[-1][1] <= ends[4]:
                good += 1
                stopped += dict(run)[50] > at
    assert good > 60
    assert stopped / good < 0.1  # the limit is for the run on the bar; others have a better chance


def test_racing_says_how_far_its_predictions_can_be_trusted():
    runs = many(60, wobble=0.3)
    shares = Racing(limit=0.1).calibration(facts(runs))
    assert set(shares) == {s for s in GRID if 20 <= s < STEPS}
    assert all(0.0 <= share <= 0.22 for share in shares.values())
    assert Racing().calibration(facts(runs[:5])) == {}


def test_a_budget_of_another_name_is_refused():
    with pytest.raises(SetupError, match="'budget' must be one of full, halving, racing, not 'half'"):
        budget_of("half")
    with pytest.raises(SetupError, match="'budget' must be 'full' or 'halving' or 'racing'"):
        with_values(Settings(), budget="half")


# in a study


def stopped_runs(study):
    return [e for e in study.archive.experiments("candidate") if any(r.stopped_at for r in e.evidence)]


@pytest.mark.parametrize("name", ["halving", "racing"])
def test_a_study_stops_runs_early_and_they_are_no_fault_no_parent_and_never_trained_again(tmp_path, name):
    pool = HerePool()
    study = toy_study(tmp_path / "s", pool, experiments=60, budget=name)
    study.run()
    stopped = stopped_runs(study)
    assert 3 <= len(stopped) < 50
    for experiment in stopped:
        run = experiment.evidence[-1]
        assert experiment.fitness is None
        assert (experiment.failure.phase, experiment.failure.kind) == (STOPPED, name)
        assert run.curve[-1][0] == run.stopped_at < 60
        assert not run.metrics
        assert run.cpu_seconds > 0
        assert "stopped after step" in experiment.finding.text
    parents = {p for e in study.archive.experiments() if e.proposal for p in e.proposal.parents}
    assert not parents & {e.id for e in stopped}
    trained = [(job.source, job.seed) for job in pool.jobs if job.stage]
    assert len(trained) == len(set(trained))
    assert all(job.stop is None for job in pool.jobs if job.stage is None)
    baselines = {e.proposal.source for e in study.archive.experiments("baseline")}
    assert all(job.stop is None for job in pool.jobs if job.source in baselines)
    study.close()


def test_a_stopped_run_is_shown_as_stopped_and_not_as_failed(tmp_path):
    study = toy_study(tmp_path / "s", experiments=40, budget="halving")
    study.run()
    view = View(space=study.space, settings=study.settings, experiments=tuple(study.archive.experiments()))
    parts = {part.title: part.body for part in tell(view, stopped_runs(study)[0])}
    title = next(iter(parts))
    assert "candidate, stopped" in parts[title]
    assert "by the budget halving, and no fault: stopped after step" in parts["stopped early"]
    assert "failure" not in parts
    study.close()


def test_two_studies_with_a_budget_come_out_the_same(tmp_path):
    studies = [toy_study(tmp_path / name, experiments=30, budget="racing") for name in "ab"]
    for study in studies:
        study.run()
    assert outcome(studies[0]) == outcome(studies[1])
    for study in studies:
        study.close()


def test_a_study_with_the_default_budget_stops_nothing(tmp_path):
    study = toy_study(tmp_path / "s", experiments=30)
    study.run()
    assert stopped_runs(study) == []
    assert study.settings.budget == "full"
    study.close()


def test_a_rule_travels_to_the_process_that_trains():
    space = load_space("toy")
    job = Job(
        space="toy",
        name="wave",
        source=space.baseline_source("wave"),
        stage=space.stages["explore"],
        stop=StopRule(budget="halving", window=1, bars=(Bar(step=30, loss=0.0),), reason="of a test"),
    )
    with LocalPool(space, workers=1) as pool:
        evidence = pool.run(job)
    assert evidence.stopped_at == 30
    assert evidence.failure.kind == "halving"
    assert evidence.failure.message.endswith("of a test")


# in real training


def test_real_training_stops_at_a_bar_and_is_the_same_until_then():
    whole = train(tiny_model(), stage(40), TINY, 0, ignore)
    at = dict(whole.curve)
    bars = (Bar(step=10, loss=at[10] + 1), Bar(step=20, loss=at[20] - 0.01))
    rule = StopRule(budget="racing", window=1, bars=bars, reason="of a test")
    cut = train(tiny_model(), stage(40), TINY, 0, ignore, rule)
    assert cut.curve == tuple(p for p in whole.curve if p[0] <= 20)
    assert cut.stopped.startswith("stopped after step 20")
    assert whole.stopped == ""


def test_the_space_knows_the_warm_up_of_its_recipe():
    from asi_arch.spaces.linear_attention.model import RECIPE

    assert load_space("linear_attention").warm_up == RECIPE.warm_up
