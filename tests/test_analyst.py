"""The analyst: fitness as in the paper and as ours, noise, and findings in words."""

import math
from dataclasses import replace

import pytest
from synthetic import SPACE, evidence, study

from asi_arch.analyst.explain import explain
from asi_arch.analyst.fitness import gain, score
from asi_arch.analyst.statistics import pooled_noise, runs_at, seed_noise, standard_error
from asi_arch.errors import SetupError
from asi_arch.records import Cost, Evidence, Experiment, Failure, Fitness, Metric, Proposal
from asi_arch.report.view import View

LOSS, BENCHMARK = 4.575, 0.224  # the paper's DeltaNet


def paper_run(loss: float, benchmark: float) -> Evidence:
    details = {"recall_accuracy": Metric(value=benchmark, standard_error=0.0)}
    return replace(evidence(2.8, 0.1), curve=((1, 9.0), (2000, loss)), details=details)


@pytest.mark.parametrize(
    ("change", "expected"),
    [(-0.005, 0.516), (-0.01, 0.533), (-0.05, 0.658), (-0.10, 0.788), (-0.20, 0.932), (-0.30, 0.981)],
)
def test_the_papers_loss_term_has_the_papers_values(change, expected):
    found = score(paper_run(LOSS + change, BENCHMARK), [paper_run(LOSS, BENCHMARK)], SPACE, "paper")
    assert found.terms["loss"] == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("change", "expected"), [(0.001, 0.567), (0.002, 0.631), (0.0048, 0.783), (0.010, 0.936)]
)
def test_the_papers_benchmark_term_has_the_papers_values(change, expected):
    found = score(paper_run(LOSS, BENCHMARK + change), [paper_run(LOSS, BENCHMARK)], SPACE, "paper")
    assert found.terms["benchmark"] == pytest.approx(expected, abs=5e-4)


def test_the_papers_terms_are_clamped_at_a_tenth_of_the_baseline():
    far = score(paper_run(LOSS * 0.2, 0.0), [paper_run(LOSS, BENCHMARK)], SPACE, "paper")
    assert far.terms["loss"] == pytest.approx(0.9975, abs=5e-5)
    assert far.terms["benchmark"] == pytest.approx(0.0025, abs=5e-5)


def test_the_papers_fitness_is_the_mean_of_the_terms_that_there_are():
    seed = [paper_run(LOSS, BENCHMARK)]
    judged = score(paper_run(LOSS - 0.05, BENCHMARK + 0.001), seed, SPACE, "paper", mark=7.0)
    assert judged.terms["judge"] == pytest.approx(6 / 9)
    assert judged.value == pytest.approx((0.6583 + 0.5666 + 6 / 9) / 3, abs=1e-3)
    unjudged = score(paper_run(LOSS - 0.05, BENCHMARK + 0.001), seed, SPACE, "paper")
    assert set(unjudged.terms) == {"loss", "benchmark"}
    assert unjudged.value == pytest.approx((0.6583 + 0.5666) / 2, abs=1e-3)


@pytest.mark.parametrize(("mark", "term"), [(1, 0.0), (3, 0.25), (5, 0.5), (8, 0.8), (10, 1.0)])
def test_a_judge_weighs_what_the_settings_say_and_nothing_at_weight_0(mark, term):
    seed = [evidence(2.872, 0.09)]
    alone = score(evidence(2.85, 0.2), seed, SPACE, "gain")
    judged = score(evidence(2.85, 0.2), seed, SPACE, "gain", mark=mark, weight=0.5)
    assert judged.terms == {**alone.terms, "judge": pytest.approx(term)}
    count = len(alone.terms)
    assert judged.value == pytest.approx((alone.value * count + 0.5 * term) / (count + 0.5))
    assert score(evidence(2.85, 0.2), seed, SPACE, "gain", mark=mark, weight=0.0) == alone


def test_a_benchmark_that_rises_from_zero_gets_the_highest_mark():
    found = score(paper_run(LOSS, 0.1), [paper_run(LOSS, 0.0)], SPACE, "paper")
    assert found.terms["benchmark"] == pytest.approx(0.9975, abs=5e-5)


def test_the_paper_formula_without_a_loss_curve_is_an_error_and_no_number():
    with pytest.raises(ValueError, match="no final training loss"):
        score(replace(paper_run(4.0, 0.2), curve=()), [paper_run(LOSS, BENCHMARK)], SPACE, "paper")


def test_the_seed_itself_scores_a_half_in_both_formulas():
    run = evidence(2.872, 0.09)
    for formula in ("gain", "paper"):
        assert score(run, [run], SPACE, formula).value == 0.5


def test_gain_terms_count_in_scales_and_know_which_way_is_better():
    seed = [evidence(2.80, 1.0), evidence(2.90, 1.2)]
    better_text = score(evidence(2.85 - 0.037, 1.1), seed, SPACE, "gain")
    assert better_text.terms["bits_per_byte"] == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert better_text.terms["recall_nll"] == pytest.approx(0.5)
    assert better_text.value == pytest.approx((1 / (1 + math.exp(-0.5)) + 0.5) / 2)
    assert better_text.gains["bits_per_byte"] == pytest.approx(0.037)
    more = replace(SPACE.metrics[0], higher_is_better=True)
    assert gain(more, evidence(2.95, 1.1), seed) == pytest.approx(0.10)


def test_a_catastrophic_gain_neither_overflows_nor_leaves_the_unit_interval():
    found = score(evidence(1e9, 0.09), [evidence(2.872, 0.09)], SPACE, "gain")
    assert found.terms["bits_per_byte"] == 0.0


@pytest.mark.parametrize("broken", [math.nan, math.inf, None])
def test_a_missing_metric_is_an_error_and_no_number(broken):
    run = evidence(2.8, 0.1)
    metrics = dict(run.metrics)
    if broken is None:
        del metrics["recall_nll"]
    else:
        metrics["recall_nll"] = Metric(value=broken, standard_error=0.0)
    with pytest.raises(ValueError, match="recall_nll"):
        score(replace(run, metrics=metrics), [evidence(2.872, 0.09)], SPACE, "gain")


def test_an_unknown_formula_and_a_stage_without_a_scale_are_setup_errors():
    run = evidence(2.8, 0.1)
    with pytest.raises(SetupError, match="known are gain, paper"):
        score(run, [run], SPACE, "vibes")
    with pytest.raises(SetupError, match="no scale at stage 'final'"):
        score(replace(run, stage="final"), [run], SPACE, "gain")


def test_noise_is_the_sample_deviation_and_needs_two_runs():
    runs = [evidence(2.80, 0.1), evidence(2.90, 0.1), evidence(2.85, 0.1)]
    assert seed_noise(runs, "bits_per_byte") == pytest.approx(0.05)
    assert seed_noise(runs[:1], "bits_per_byte") is None


def test_pooled_noise_ignores_the_groups_means_and_single_runs():
    assert pooled_noise([[1.0, 3.0], [101.0, 103.0], [7.0]]) == pytest.approx(math.sqrt(2))
    assert pooled_noise([[1.0], [2.0]]) is None
    # degrees of freedom weigh: one group of three runs without noise, one of two with sd sqrt(2)
    assert pooled_noise([[5.0, 5.0, 5.0], [0.0, 2.0]]) == pytest.approx(math.sqrt(2 / 3))


def test_the_error_of_a_difference_counts_both_sides_runs():
    assert standard_error(0.026, 1, 1) == pytest.approx(0.0368, abs=1e-4)
    assert standard_error(1.0, 3, 3) == pytest.approx(math.sqrt(2 / 3))


def test_only_runs_with_metrics_at_the_stage_count():
    good, other = evidence(2.8, 0.1), replace(evidence(2.7, 0.1), stage="replicate")
    broken = replace(good, metrics={}, failure=Failure(phase="train", kind="nan", message="x"))
    experiment = Experiment(id=1, kind="candidate", status="finished", evidence=(broken, good, other))
    assert runs_at(experiment, "explore") == (good,)


def family() -> tuple[View, Experiment, Experiment, list[Experiment]]:
    """A seed, a child of it, and two other children."""
    view = study(0)
    seed = view.experiments[0]
    children = []
    for number, (bits, nll, moves) in enumerate(
        [(2.70, 0.95, ("output_gate",)), (2.86, 0.09, ("short_conv",)), (2.80, 0.5, ("output_gate",))], 20
    ):
        proposal = Proposal(
            name=f"child_{number}", motivation="", source="s", author="symbolic", parents=(1,), moves=moves
        )
        run = evidence(bits, nll, source=f"s{number}")
        run = replace(
            run, cost=replace(run.cost, flops_per_token=seed.evidence[-1].cost.flops_per_token * 1.5)
        )
        fitness = score(run, seed.evidence, SPACE, "gain")
        children.append(
            Experiment(
                id=number,
                kind="candidate",
                status="finished",
                proposal=proposal,
                evidence=(run,),
                fitness=fitness,
            )
        )
    return view, seed, children[0], children[1:]


def test_a_finding_says_what_each_task_gained_and_lost_against_the_parent():
    view, seed, child, siblings = family()
    finding = explain(child, seed, siblings, view.seed_runs(), SPACE)
    assert finding.text.startswith(
        "#20 child_20: #1 changed by output gate. Against #1: text 2.7 bits/byte, better by"
    )
    assert "recall 0.95 nats, worse by" in finding.text
    assert "FLOPs a token +50%" in finding.text
    assert "rank 1 of 3 siblings; the best of the others is #22" in finding.text
    assert "Siblings with 'output gate' average" in finding.text
    assert "weakest task is recall" in finding.text
    assert "against the seed" in finding.text
    assert "Against the seed:" not in finding.text  # the parent is the seed: said once


def test_a_finding_calls_a_change_within_the_noise_not_distinguishable():
    view, seed, _, siblings = family()
    finding = explain(siblings[0], seed, (), view.seed_runs(), SPACE)
    assert finding.text.count("not distinguishable") == 2
    assert "better by" not in finding.text


def test_a_finding_recalls_cognitions_by_the_weakest_task():
    view, seed, child, _ = family()
    finding = explain(child, seed, (), view.seed_runs(), SPACE)
    assert {"weak", "recall", "nll", "n16"} <= set(finding.query.split())
    assert "bits" not in finding.query


def test_a_finding_against_another_parent_also_compares_with_the_seed():
    view, _, child, _ = family()
    finding = explain(child, view.experiments[1], (), view.seed_runs(), SPACE)
    assert "Against #2:" in finding.text
    assert "Against the seed:" in finding.text


def test_a_failure_is_told_with_its_phase_and_a_cure():
    proposal = Proposal(
        name="leak", motivation="", source="s", author="person", parents=(1,), moves=("token_shift",)
    )
    failure = Failure(phase="causality", kind="check", message="y at 3 moved with x at 9.")
    experiment = Experiment(id=9, kind="candidate", status="failed", proposal=proposal, failure=failure)
    finding = explain(experiment, study(0).experiments[0], (), (), SPACE)
    assert finding.text == (
        "#9 leak: #1 changed by token shift. Failed in causality (check): y at 3 moved with x at 9. "
        "To mend it: let position t read positions up to t only: check shifts, padding, masks, norms over T."
    )
    assert "causality" in finding.query


def test_a_failure_of_an_unknown_kind_still_becomes_a_finding():
    failure = Failure(phase="weather", kind="rain", message="wet")
    experiment = Experiment(id=9, kind="candidate", status="failed", failure=failure)
    assert explain(experiment, None, (), (), SPACE).text == "#9 unnamed. Failed in weather (rain): wet."


def test_a_finding_of_a_space_without_costs_or_seed_runs_is_still_made():
    run = replace(evidence(2.8, 0.1), cost=Cost(), details={})
    experiment = Experiment(
        id=3, kind="candidate", status="finished", evidence=(run,), fitness=Fitness(formula="gain", value=0.5)
    )
    assert explain(experiment, None, (), (), SPACE).text == "#3 unnamed. Fitness 0.500."
    assert "Cost" not in explain(experiment, None, (), (evidence(2.9, 0.2),), SPACE).text


def test_the_same_arguments_give_the_same_finding():
    view, seed, child, siblings = family()
    first = explain(child, seed, siblings, view.seed_runs(), SPACE)
    assert explain(child, seed, siblings, view.seed_runs(), SPACE) == first
