import importlib.util
import math
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from asi_arch.analyst.claims import (
    Measure,
    Question,
    benjamini_hochberg,
    compare,
    fresh_runs,
    judge_leads,
    metric_measure,
    noise_at,
)
from asi_arch.analyst.noise import Noise, difference, fit_noise
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


def known(scale, freedom):
    """Noise of which s0^2 and d0 are known."""
    return Noise(groups=9, freedom=30, pooled=0.2, weights=(1.0,), scales=(scale,), freedoms=(freedom,))


def believed(noise):
    """Middle of d0 and of s0, by weight, in logarithms."""
    freedom = sum(w * math.log(f) for w, f in zip(noise.weights, noise.freedoms, strict=True))
    scale = sum(w * math.log(s) for w, s in zip(noise.weights, noise.scales, strict=True))
    return math.exp(freedom), math.exp(scale / 2)


def test_noise_that_differs_between_groups_is_recovered_from_many_groups():
    dice = np.random.default_rng(0)
    variances = 4 * 0.25 / dice.chisquare(4, 1000)
    noise = fit_noise([list(dice.normal(0, math.sqrt(v), 4)) for v in variances])
    freedom, scale = believed(noise)
    assert freedom == pytest.approx(4, rel=0.3)
    assert scale == pytest.approx(0.5, rel=0.2)
    assert (noise.groups, noise.freedom) == (1000, 3000)
    assert sum(noise.weights) == pytest.approx(1)


def test_groups_of_one_noise_are_pooled_nearly_wholly():
    dice = np.random.default_rng(1)
    groups = [list(dice.normal(5, 0.3, 3)) for _ in range(40)]
    noise = fit_noise(groups)
    assert believed(noise)[0] > 20
    expected = math.sqrt(np.mean([np.var(g, ddof=1) for g in groups]))
    assert noise.pooled == pytest.approx(expected)
    assert difference(noise, groups[0], groups[1]).error == pytest.approx(
        expected * math.sqrt(2 / 3), rel=0.1
    )


def test_few_groups_leave_open_whether_their_noise_is_one():
    dice = random.Random(3)
    noise = fit_noise([around(0, 0.1, 3, dice) for _ in range(4)])
    assert min(noise.freedoms) < 2
    assert max(noise.freedoms) > 100


def test_a_group_is_drawn_towards_the_others_by_what_they_are_worth():
    noise = known(0.04, 3.0)
    a, b = [1.0, 2.0, 3.0], [1.0]  # variance 1, and nothing of its own
    spread = difference(noise, a, b)
    assert spread.error**2 == pytest.approx((3 * 0.04 + 2 * 1.0) / 5 / 3 + 0.04)
    assert spread.freedom == 3
    assert difference(noise, a, a).freedom == 5
    assert difference(noise, a, a, seeds=6).freedom == 8
    assert difference(noise, a, a, seeds=6).error ** 2 == pytest.approx(2 * (3 * 0.04 + 2 * 1.0) / 5 / 6)


def test_a_run_in_mid_transition_is_given_more_noise_than_a_converged_one():
    dice = random.Random(0)
    calm = [around(0, 0.014, 3, dice) for _ in range(5)]
    rough = [around(0, 0.46, 3, dice) for _ in range(5)]
    noise = fit_noise([*calm, *rough])
    assert believed(noise)[0] < 3
    assert difference(noise, *rough[:2]).error / difference(noise, *calm[:2]).error > 5


def test_groups_without_repeats_or_difference_give_no_noise():
    with pytest.raises(ValueError, match="no two runs"):
        fit_noise([[1.0], [2.0, 2.0]])


# comparisons and power


def test_where_the_noise_is_known_a_comparison_is_students():
    a, b = [0.9, 1.0, 1.2], [0.7, 0.9, 1.0]
    found = compare(a, b, known(0.02, 1e9), 0.95)
    error = math.sqrt(2 * 0.02 / 3)
    gain = sum(a) / 3 - sum(b) / 3
    assert found.p == pytest.approx(2 * stats.norm.sf(gain / error))
    assert (found.low, found.high) == pytest.approx(
        (gain - 1.95996 * error, gain + 1.95996 * error), rel=1e-4
    )
    own = compare(a, b, known(1.0, 1e-9), 0.95)  # each side for itself: two runs beyond the mean on either
    student = stats.ttest_ind(a, b, equal_var=False)
    assert own.p == pytest.approx(2 * stats.t.sf(student.statistic, 2))
    assert own.p > student.pvalue  # Welch's is the upper end of what the freedom can be


def test_the_interval_excludes_zero_where_p_is_below_its_level():
    dice = random.Random(8)
    groups = [around(0, 0.1, 3, dice) for _ in range(6)]
    noise = fit_noise(groups)
    for shift in (0.0, 0.1, 0.2, 0.3, 0.5):
        found = compare([v + shift for v in groups[0]], groups[1], noise, 0.95)
        assert (found.low > 0) == (found.p < 0.05)


NOISES = {
    "one": lambda dice: np.ones(8),
    "many": lambda dice: np.sqrt(3 / dice.chisquare(3, 8)),
    "a laptop's": lambda dice: dice.choice([0.014, 0.29, 0.35, 0.46, 0.20, 0.09, 0.02], 8),
}


@pytest.mark.parametrize("name", NOISES)
def test_intervals_hold_the_truth_as_often_as_they_say_whatever_noise_the_groups_have(name):
    dice, held = np.random.default_rng(3), 0
    for _ in range(300):
        groups = [list(dice.normal(0, s, 3)) for s in NOISES[name](dice)]
        found = compare(groups[0], groups[1], fit_noise(groups), 0.95)
        held += found.low <= 0 <= found.high
    assert 0.91 <= held / 300 <= 0.99  # 0.95, three standard errors of 0.013


def test_adjusted_p_values_are_those_of_scipy():
    dice = random.Random(5)
    values = [dice.random() ** 3 for _ in range(30)]
    assert benjamini_hochberg(values) == pytest.approx(list(stats.false_discovery_control(values)))
    assert benjamini_hochberg([]) == []


def test_power_is_that_of_the_tables():
    side = list(stats.norm.ppf([(i + 0.5) / 17 for i in range(17)]))
    scale = float(np.std(side, ddof=1))
    spread = difference(known(1.0, 16.0), [v / scale for v in side], [v / scale for v in side])
    assert power_of(spread, 1.0, 0.05) == pytest.approx(0.807, abs=0.005)


@pytest.mark.parametrize("freedom", [4.0, 8.0, 60.0])
def test_power_is_near_that_of_a_noncentral_student(freedom):
    spread = difference(known(1.0, freedom), [], [], seeds=1)
    for effect in (4.5, 5.5, 6.5):
        exact = stats.nct.sf(stats.t.isf(0.025, freedom), freedom, effect / math.sqrt(2))
        assert 0.6 < exact < 1
        assert power_of(spread, effect, 0.05) == pytest.approx(exact, abs=0.03)


def test_more_noise_asks_for_more_seeds_up_to_the_bound():
    noise = known(0.01, 60.0)
    needed = [seeds_needed(noise, [], [], effect, 0.05).seeds for effect in (1.0, 0.19, 0.01)]
    assert needed[0] == 3
    assert 3 < needed[1] < MOST_SEEDS
    assert needed[2] == MOST_SEEDS
    assert seeds_needed(noise, [], [], 0.01, 0.05, most=12).seeds == 12
    assert seeds_needed(noise, [], [], 0.01, 0.05).power < 0.8


def test_a_plan_does_not_look_at_the_gain():
    noise = known(0.01, 20.0)
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


def test_many_leads_make_each_claim_harder():
    dice = random.Random(11)
    lead, baselines = study(gain=0.1)
    duds = [experiment(100 + i, around(2.7, 0.02, 4, dice)) for i in range(40)]
    noise = noise_at(baselines, QUESTION)
    alone = judge_leads([lead], baselines, QUESTION, noise)[0]
    among = judge_leads([lead, *duds], baselines, QUESTION, noise)[0]
    assert alone.p == among.p
    assert among.adjusted_p > 10 * alone.adjusted_p


def test_the_interval_of_a_discovery_among_many_claims_is_wider():
    dice = random.Random(12)
    lead, baselines = study(gain=0.3)
    duds = [experiment(100 + i, around(2.7, 0.02, 4, dice)) for i in range(9)]
    found = judge_leads([lead, *duds], baselines, QUESTION)
    assert [c.outcome for c in found].count("discovery") == 1
    assert found[0].level == pytest.approx(1 - 0.05 / 10)
    assert found[1].level == pytest.approx(0.95)
    wide = found[0].hardest
    usual = judge_leads([lead], baselines, QUESTION, noise_at([lead, *duds, *baselines], QUESTION))[0].hardest
    assert wide.high - wide.gain > 1.2 * (usual.high - usual.gain)


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
