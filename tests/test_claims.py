import importlib.util
import math
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import polygamma

from asi_arch.analyst.claims import (
    Measure,
    Question,
    benjamini_hochberg,
    compare,
    fresh_runs,
    judge_leads,
    metric_measure,
)
from asi_arch.analyst.noise import Noise, Spread, _inverse_trigamma, fit_noise, spread
from asi_arch.analyst.power import MOST_SEEDS, power_of, seeds_needed
from asi_arch.discoveries import Claim
from asi_arch.errors import SetupError
from asi_arch.records import Cost, Evidence, Experiment, Failure, Metric, Proposal, from_json, to_json
from asi_arch.space import MetricSpec

SPEC = MetricSpec(name="loss", title="loss", unit="nats", higher_is_better=False, scale={"replicate": 0.1})
LOSS = Measure(name="loss", unit="nats", value=lambda run: -run.metrics["loss"].value, effect=0.1)
QUESTION = Question(stage="replicate", measure=LOSS, seen=range(3))
FRESH = 3  # the first seed that the search did not see


def experiment(id, losses, kind="candidate", first=FRESH):
    runs = tuple(
        Evidence(
            stage="replicate",
            seed=first + i,
            source_hash=str(id),
            metrics={"loss": Metric(value=loss, standard_error=0.0)},
        )
        for i, loss in enumerate(losses)
    )
    proposal = Proposal(name=f"n{id}", motivation="", source=str(id), author="")
    return Experiment(id=id, kind=kind, status="finished", proposal=proposal, evidence=runs)


def around(centre, noise, runs, dice):
    return [dice.gauss(centre, noise) for _ in range(runs)]


def study(gain=0.0, runs=4, noise=0.02, seed=0):
    """Three baselines, of which the third is best, and a lead that is better than that by a gain."""
    dice = random.Random(seed)
    baselines = [experiment(i, around(3 - i / 10, noise, runs, dice), "baseline") for i in (1, 2, 3)]
    return experiment(9, around(2.7 - gain, noise, runs, dice)), baselines


# noise


@pytest.mark.parametrize("x", [0.01, 0.3, 1.0, 7.0, 400.0])
def test_the_inverse_of_trigamma_undoes_trigamma(x):
    assert _inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-6)


def test_noise_that_differs_between_groups_is_recovered_from_many_groups():
    dice = np.random.default_rng(0)
    variances = 4 * 0.25 / dice.chisquare(4, 4000)
    noise = fit_noise([list(dice.normal(0, math.sqrt(v), 4)) for v in variances])
    assert noise.prior_freedom == pytest.approx(4, rel=0.15)
    assert noise.prior == pytest.approx(0.5, rel=0.05)
    assert noise.freedom == 12000


def test_groups_of_one_noise_are_pooled_wholly():
    dice = np.random.default_rng(1)
    groups = [list(dice.normal(5, 0.3, 3)) for _ in range(40)]
    noise = fit_noise(groups)
    assert noise.prior_freedom > 30
    expected = math.sqrt(np.mean([np.var(g, ddof=1) for g in groups]))
    assert noise.pooled == pytest.approx(expected)
    assert spread(noise, groups[0]).deviation == pytest.approx(expected, rel=0.1)


def test_a_group_is_drawn_towards_the_others_by_what_they_are_worth():
    noise = Noise(groups=9, freedom=30, pooled=0.2, prior=0.2, prior_freedom=3)
    own = [1.0, 1.2, 1.4]  # variance 0.04
    assert spread(noise, own).deviation ** 2 == pytest.approx((3 * 0.04 + 2 * 0.04) / 5)
    assert spread(noise, [1.0, 2.0, 3.0]).deviation ** 2 == pytest.approx((3 * 0.04 + 2 * 1.0) / 5)
    assert spread(noise, own).freedom == 5
    assert spread(noise, [1.0]) == Spread(deviation=0.2, freedom=3)


def test_a_run_in_mid_transition_is_given_more_noise_than_a_converged_one():
    dice = random.Random(0)
    calm = [around(0, 0.014, 3, dice) for _ in range(5)]
    rough = [around(0, 0.46, 3, dice) for _ in range(5)]
    noise = fit_noise([*calm, *rough])
    assert noise.prior_freedom < 3
    ratio = spread(noise, rough[0]).deviation / spread(noise, calm[0]).deviation
    assert ratio > 5


def test_groups_without_repeats_or_difference_give_no_noise():
    with pytest.raises(ValueError, match="no two runs"):
        fit_noise([[1.0], [2.0, 2.0]])


# comparisons and power


def test_without_a_prior_a_comparison_is_welchs():
    dice = random.Random(2)
    a, b = around(1.0, 0.1, 5, dice), around(0.9, 0.3, 4, dice)
    noise = Noise(groups=2, freedom=7, pooled=1.0, prior=1.0, prior_freedom=0.0)
    found = compare(a, b, noise, 0.95)
    expected = stats.ttest_ind(a, b, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high, found.freedom) == pytest.approx((low, high, expected.df))


def test_with_one_noise_for_all_a_comparison_of_two_groups_is_students():
    dice = random.Random(6)
    a, b = around(1.0, 0.1, 6, dice), around(0.9, 0.1, 6, dice)
    noise = fit_noise([a, b])
    assert math.isinf(noise.prior_freedom)
    assert compare(a, b, noise, 0.95).p == pytest.approx(stats.ttest_ind(a, b).pvalue)


def test_p_values_of_no_gain_are_spread_evenly_or_larger():
    dice, small = np.random.default_rng(4), 0
    for _ in range(1500):
        groups = [list(dice.normal(0, 0.1, 3)) for _ in range(8)]
        small += compare(groups[0], groups[1], fit_noise(groups), 0.95).p <= 0.1
    assert small / 1500 <= 0.065  # twice the one-sided chance, so 5 %


def test_adjusted_p_values_are_those_of_scipy():
    dice = random.Random(5)
    values = [dice.random() ** 3 for _ in range(30)]
    assert benjamini_hochberg(values) == pytest.approx(list(stats.false_discovery_control(values)))
    assert benjamini_hochberg([]) == []


def test_power_is_that_of_the_tables():
    side = Spread(deviation=1.0, freedom=16)
    assert power_of(side, side, 17, 17, 1.0, 0.05) == pytest.approx(0.807, abs=0.001)


def test_power_is_what_simulated_tests_show():
    dice, found = np.random.default_rng(6), 0
    for _ in range(3000):
        a, b = dice.normal(0.5, 0.4, 6), dice.normal(0, 0.2, 6)
        found += stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue <= 0.025
    expected = power_of(Spread(deviation=0.4, freedom=5), Spread(deviation=0.2, freedom=5), 6, 6, 0.5, 0.05)
    assert found / 3000 == pytest.approx(expected, abs=0.03)


def test_more_noise_asks_for_more_seeds_up_to_the_bound():
    noise = Noise(groups=9, freedom=60, pooled=0.1, prior=0.1, prior_freedom=20)
    needed = [seeds_needed(noise, [], [], effect, 0.05).seeds for effect in (1.0, 0.22, 0.01)]
    assert needed[0] == 3
    assert 3 < needed[1] < MOST_SEEDS
    assert needed[2] == MOST_SEEDS
    assert seeds_needed(noise, [], [], 0.01, 0.05, most=12).seeds == 12
    assert seeds_needed(noise, [], [], 0.01, 0.05).power < 0.8


def test_a_plan_does_not_look_at_the_gain():
    noise = Noise(groups=9, freedom=60, pooled=0.1, prior=0.1, prior_freedom=20)
    near = seeds_needed(noise, [0.0, 0.1, 0.2], [0.0, 0.1, 0.2], 0.2)
    far = seeds_needed(noise, [9.0, 9.1, 9.2], [0.0, 0.1, 0.2], 0.2)
    assert far.seeds == near.seeds
    assert far.power == pytest.approx(near.power)


# claims


def test_a_real_gain_over_every_baseline_is_a_discovery():
    lead, baselines = study(gain=0.1)
    (claim,) = judge_leads([lead], baselines, QUESTION)
    assert claim.outcome == "discovery"
    assert claim.hardest.name == "n3"
    assert claim.hardest.low > 0
    assert claim.p == max(c.p for c in claim.comparisons)
    assert "4 seeds" in claim.reason


def test_a_gain_over_all_baselines_but_one_is_none():
    lead, baselines = study(gain=-0.01)
    (claim,) = judge_leads([lead], baselines, QUESTION)
    assert [c.p < 0.001 for c in claim.comparisons] == [False, True, True]
    assert claim.outcome == "unproven"


def test_what_is_worse_for_sure_is_refuted():
    lead, baselines = study(gain=-0.2)
    (claim,) = judge_leads([lead], baselines, QUESTION)
    assert claim.outcome == "refuted"
    assert "n3 is better" in claim.reason


def test_runs_that_the_search_saw_are_no_part_of_a_claim():
    lead, baselines = study(gain=0.0)
    lucky = experiment(9, [-5.0, -5.0, -5.0], first=0).evidence
    with_luck = replace(lead, evidence=lucky + lead.evidence)
    assert fresh_runs(with_luck, QUESTION) == lead.evidence
    assert judge_leads([with_luck], baselines, QUESTION) == judge_leads([lead], baselines, QUESTION)


def test_too_few_seeds_leave_a_claim_open_however_large_the_gain():
    lead, baselines = study(gain=1.0, runs=2)
    (claim,) = judge_leads([lead], baselines, QUESTION)
    assert claim.outcome == "open"
    assert "2 of 3 planned seeds" in claim.reason


def test_a_baseline_without_fresh_runs_leaves_a_claim_open():
    lead, baselines = study(gain=1.0)
    (claim,) = judge_leads([lead], [*baselines, experiment(4, [], "baseline")], QUESTION)
    assert (claim.outcome, claim.comparisons) == ("open", ())
    assert judge_leads([lead], [], QUESTION)[0].outcome == "open"


def test_a_failed_replicate_is_not_left_out_in_silence():
    lead, baselines = study(gain=1.0)
    failure = Failure(phase="train", kind="nan", message="loss is nan at step 9")
    failed = Evidence(stage="replicate", seed=8, source_hash="9", failure=failure)
    (claim,) = judge_leads([replace(lead, evidence=(*lead.evidence, failed))], baselines, QUESTION)
    assert (claim.outcome, claim.p) == ("unproven", 1.0)
    assert "1 of 5 fresh runs failed" in claim.reason


def test_the_interval_of_a_discovery_among_many_claims_is_wider():
    dice = random.Random(12)
    lead, baselines = study(gain=0.3)
    duds = [experiment(100 + i, around(2.7, 0.02, 4, dice)) for i in range(9)]
    found = judge_leads([lead, *duds], baselines, QUESTION)
    assert [c.outcome for c in found].count("discovery") == 1
    assert found[0].level == pytest.approx(1 - 0.05 / 10)
    assert found[1].level == pytest.approx(0.95)
    wide = found[0].hardest
    margin = stats.t.isf(0.0025, wide.freedom) * wide.standard_error
    assert wide.high - wide.gain == pytest.approx(margin)


def test_costs_stand_beside_a_claim_as_ratios_where_both_have_them():
    lead, baselines = study(gain=0.1)
    runs = tuple(
        replace(run, cost=Cost(parameters=200, tokens_per_second=50.0 + i))
        for i, run in enumerate(lead.evidence)
    )
    cost = Cost(parameters=100, tokens_per_second=103.0)
    other = [replace(b, evidence=tuple(replace(r, cost=cost) for r in b.evidence)) for b in baselines]
    (claim,) = judge_leads([replace(lead, evidence=runs)], other, QUESTION)
    assert claim.hardest.cost == {"parameters": 2.0, "tokens_per_second": pytest.approx(0.5)}


def test_a_claim_goes_to_json_and_back():
    lead, baselines = study(gain=0.1)
    (claim,) = judge_leads([lead], baselines, QUESTION)
    assert from_json(Claim, to_json(claim)) == claim


def test_a_metric_counts_better_upwards_and_needs_a_scale():
    measure = metric_measure(SPEC, "replicate")
    run = experiment(1, [2.5]).evidence[0]
    assert measure.value(run) == -2.5
    with pytest.raises(SetupError, match="no scale at stage 'explore'"):
        metric_measure(SPEC, "explore")


# null studies


def null_study():
    path = Path(__file__).parent.parent / "benchmarks" / "null_study.py"
    spec = importlib.util.spec_from_file_location("null_study", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["null_study"] = module
    spec.loader.exec_module(module)
    return module


def test_where_nothing_is_better_hardly_any_study_finds_something():
    """The harshest world: one converged baseline, and copies of it of any noise, skewed."""
    module = null_study()
    outcomes = [module.simulate(module.WORLDS[-1], i, candidates=30, most_leads=3) for i in range(40)]
    assert sum(o.leads > 0 for o in outcomes) >= 35
    assert sum(o.discoveries > 0 for o in outcomes) <= 4  # 5 % of 40 is 2; 5 or more has a chance of 5 %
