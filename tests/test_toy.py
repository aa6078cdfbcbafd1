"""The toy space: rules that are read and never run, fitted to a noisy curve."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from asi_arch.cognition.base import CognitionBase
from asi_arch.engineer.pool import LocalPool
from asi_arch.records import Evidence, Job, Progress
from asi_arch.space import load_space
from asi_arch.spaces.toy.engine import examine
from asi_arch.spaces.toy.grammar import ToyGrammar, grammar
from asi_arch.spaces.toy.rule import Term, read_rule, to_bundle

SPACE = load_space("toy")
EXPLORE = SPACE.stages["explore"]


def measured(source: str, report: Callable[[Progress], None] = lambda _: None, **values: object) -> Evidence:
    job = Job(space="toy", name="rule", source=source, stage=EXPLORE)
    return examine(replace(job, **values), report)  # type: ignore[arg-type]


def rule(*terms: str) -> str:
    return f'RULE = {{"terms": [{", ".join(terms)}]}}\n'


LINE, PARABOLA = '{"kind": "power", "degree": 1}', '{"kind": "power", "degree": 2}'


@pytest.mark.parametrize("stem", [s for s in SPACE.baselines() if s not in SPACE.references])
def test_every_baseline_passes_all_checks_and_has_all_scores(stem: str) -> None:
    evidence = measured(SPACE.baseline_source(stem))
    assert evidence.failure is None
    assert [(v.name, v.passed) for v in evidence.checks] == [
        ("source", True),
        ("graph", True),
        ("budget", True),
    ]
    assert set(evidence.metrics) == {spec.name for spec in SPACE.metrics}
    assert evidence.curve[-1][0] == EXPLORE.steps
    assert evidence.curve[-1][1] < evidence.curve[0][1]


@pytest.mark.parametrize("path", sorted((SPACE.folder / "rejects").glob("*.py")), ids=lambda p: p.stem)
def test_every_reject_falls_to_its_own_check(path: object) -> None:
    evidence = measured(path.read_text())  # type: ignore[attr-defined]
    assert evidence.failure is not None
    assert evidence.failure.phase == path.stem  # type: ignore[attr-defined]
    assert [v.name for v in evidence.checks if not v.passed] == [path.stem]  # type: ignore[attr-defined]
    assert not evidence.metrics


def test_every_check_has_a_reject() -> None:
    checks = {v.name for v in measured(rule(LINE)).checks}
    assert {path.stem for path in (SPACE.folder / "rejects").glob("*.py")} == checks


def test_the_reference_breaks_the_budget_and_is_trained_only_if_asked() -> None:
    source = SPACE.baseline_source("lookup_table")
    refused, trained = measured(source), measured(source, enforce=False)
    assert refused.failure is not None
    assert refused.failure.phase == "budget"
    assert trained.failure is None
    assert [v.name for v in trained.checks if not v.passed] == ["budget"]
    assert trained.metrics["inside"].value < measured(rule(LINE)).metrics["inside"].value


def test_two_runs_with_one_seed_agree_bit_for_bit_and_another_seed_differs() -> None:
    first, again, other = (measured(rule(LINE, PARABOLA), seed=seed) for seed in (5, 5, 6))
    assert (first.curve, first.metrics) == (again.curve, again.metrics)
    assert first.metrics != other.metrics


def test_order_and_layout_make_no_new_graph_but_a_number_does() -> None:
    first = measured(rule(LINE, PARABOLA))
    same = measured('"""Other words."""\nRULE={"terms":[{"degree":2,"kind":"power"},' + LINE + "]}")
    other = measured(rule(LINE, '{"kind": "power", "degree": 3}'))
    assert same.graph_hash == first.graph_hash != other.graph_hash
    assert same.source_hash != first.source_hash


def test_a_bundle_trains_as_its_source_does_without_new_checks() -> None:
    checked = measured(rule(PARABOLA, LINE), stage=None)
    assert checked.stage == "checks"
    assert not checked.metrics
    trained = measured("not even Python", bundle=checked.bundle)
    assert trained.metrics == measured(rule(PARABOLA, LINE)).metrics != {}
    assert not trained.checks


@pytest.mark.parametrize("steps", [60, 20_000])
def test_a_rule_that_diverges_fails_in_training_with_a_reason(steps: int) -> None:
    stage = replace(EXPLORE, steps=steps)
    evidence = measured(rule('{"kind": "power", "degree": 1, "gain": 64}'), stage=stage)
    assert evidence.failure is not None
    assert (evidence.failure.phase, evidence.failure.kind) == ("train", "nan")
    assert "diverged by step" in evidence.failure.message
    assert evidence.graph_hash


@pytest.mark.parametrize(
    ("source", "phase", "words"),
    [
        ("RULE = {", "source", "literal"),
        ("import os\n" + rule(LINE), "source", "one assignment"),
        ('RULE = {"terms": [__import__("os")]}', "source", "calls and names"),
        ('RULE = {"terms": 3}', "source", "and nothing else"),
        (rule(LINE).replace("RULE", "RULES"), "source", "one assignment"),
        (rule('{"kind": "power", "degree": 1.5}'), "graph", "whole number from 1 to 8"),
        (rule('{"kind": "power", "degree": True}'), "graph", "whole number"),
        (rule('{"kind": "wave", "frequency": 99, "phase": 0}'), "graph", "0.25 to 16.0"),
        (rule('{"kind": "wave", "frequency": 1}'), "graph", "phase"),
        (rule('{"kind": "hinge", "at": 0, "width": 1}'), "graph", "a hinge has no width"),
        (rule("[]"), "graph", "term 0 has no kind"),
        (rule('{"kind": "hinge", "at": 1e999}'), "graph", "at must be"),
    ],
)
def test_a_broken_rule_is_refused_with_the_reason(source: str, phase: str, words: str) -> None:
    evidence = measured(source)
    assert evidence.failure is not None
    assert evidence.failure.phase == phase
    assert words in evidence.failure.message


def test_progress_is_told_in_order() -> None:
    told: list[Progress] = []
    measured(rule(LINE), told.append)
    phases = [p.phase for p in told]
    assert phases[0] == "check"
    assert phases[-1] == "evaluate"
    steps = [p.done for p in told if p.phase == "train"]
    assert steps == sorted(steps)
    assert steps[-1] == EXPLORE.steps


def test_the_grammar_reads_what_it_writes() -> None:
    toy, draw = grammar(), random.Random(0)
    design = read_rule(SPACE.baseline_source("wave"))
    for _ in range(300):
        move = draw.choice(toy.moves())
        changed = move.change(design, read_rule(SPACE.baseline_source("parabola")))
        design = design if changed is None else changed
        source = toy.render(design, toy.title(design), 'A "quote", a \\ and\na RULE = line.')
        assert toy.read(source) == (design, "")
        assert measured(source, stage=None).graph_hash


def test_every_move_applies_somewhere_and_changes_the_graph() -> None:
    toy = grammar()
    rich = read_rule(
        rule(LINE, '{"kind": "bump", "at": 0, "width": 0.5}', '{"kind": "hinge", "at": 0}',
             '{"kind": "wave", "frequency": 2, "phase": 0}'))  # fmt: skip
    for move in toy.moves():
        changed = move.change(rich, (Term("power", (7,)),))
        assert changed is not None, move.name
        assert to_bundle(changed) != to_bundle(rich), move.name
    assert len({move.name for move in toy.moves()}) == len(toy.moves())


def test_the_grammar_reads_a_person_s_file_and_says_so() -> None:
    design, note = ToyGrammar().read("RULE={'terms':[" + LINE + "]}")
    assert design == (Term("power", (1,)),)
    assert "layout" in note


def test_the_cognitions_back_the_moves_and_answer_weaknesses() -> None:
    base = CognitionBase(SPACE.folder / "cognition")
    cited = {arxiv for move in grammar().moves() for arxiv in move.cites}
    assert cited == {cognition.paper.arxiv for cognition in base.all()}
    assert base.recall("the error outside is large", 1)[0].paper.arxiv == "2006.08195"


def test_the_pool_of_this_machine_measures_what_the_engine_does() -> None:
    job = Job(space="toy", name="rule", source=rule(LINE, PARABOLA), seed=4, stage=EXPLORE)
    with LocalPool(SPACE, workers=1) as pool:
        evidence = pool.run(job)
    assert evidence.metrics == examine(job, lambda _: None).metrics
