"""A discovery taken apart: its parts by grammar or by lines, what each is worth, and the command."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llm_study import journal
from test_grammar import BASELINES, some
from test_verify import searched  # noqa: F401 - a fixture
from toy import HerePool, copy_study

from asi_arch.calls import Message
from asi_arch.errors import SetupError
from asi_arch.llm.models import scripted_models
from asi_arch.llm.scripted import typed
from asi_arch.loop.ablate import (
    NEAREST,
    ablation_runs,
    anatomy,
    contributions,
    hunks,
    taken_back,
)
from asi_arch.loop.grouping import Group, Groups, group_by_model
from asi_arch.loop.verify import Verifier, Watcher
from asi_arch.records import Evidence, Experiment, Failure, Fitness, Proposal
from asi_arch.report.ablation import ablation_table, draw_ablation, told
from asi_arch.settings import Settings
from asi_arch.space import load_space, resolve
from asi_arch.spaces.linear_attention.limits import fault
from asi_arch.spaces.linear_attention.parts import without_each
from asi_arch.spaces.toy.rule import read_rule
from asi_arch.study import Study

TOY = load_space("toy")
RULES = resolve(TOY.grammar)()
OLD = "a = 1\nb = 2\nc = 3\n"
NEW = '"""Words."""\na = 1\nb = 5\nc = 3\nd = 4\n'


def experiment(id: int, source: str, name: str = "mine", kind: Any = "candidate") -> Experiment:
    return Experiment(
        id=id, kind=kind, status="finished",
        proposal=Proposal(name=name, motivation="", source=source, author=""),
        fitness=Fitness(formula="gain", value=0.9 if kind == "candidate" else 0.5),
    )  # fmt: skip


def baselines() -> list[Experiment]:
    names = [n for n in TOY.baselines() if n not in TOY.references]
    return [experiment(i, TOY.baseline_source(n), n, "baseline") for i, n in enumerate(names, start=1)]


# parts


def test_a_known_difference_of_two_mixers_is_named_part_by_part() -> None:
    parts = dict(without_each(BASELINES["kda"], BASELINES["delta_net"]))
    assert set(parts) == {"decay", "output gate"}
    assert parts["decay"].memories[0].decay is None
    assert parts["decay"].output == BASELINES["kda"].output
    assert parts["output gate"].memories == BASELINES["kda"].memories
    between = dict(without_each(BASELINES["kda"], BASELINES["gated_delta_net"]))
    assert set(between) == {"decay", "output gate"}
    assert between["decay"].memories == BASELINES["gated_delta_net"].memories


@pytest.mark.parametrize("base", sorted(BASELINES))
def test_every_mixer_without_a_part_is_valid_and_another(base: str) -> None:
    counted = 0
    for design in some(40):
        found = without_each(design, BASELINES[base])
        counted += len(found)
        assert len({other for _, other in found}) == len({name for name, _ in found}) == len(found)
        for _, other in found:
            assert fault(other) is None
            assert other != design
    assert counted > 80


def test_a_baseline_is_not_apart_from_itself() -> None:
    assert all(without_each(design, design) == () for design in BASELINES.values())


def test_terms_of_a_rule_are_its_parts_and_the_nearest_baseline_is_found() -> None:
    design = (*read_rule(TOY.baseline_source("parabola")), *read_rule(TOY.baseline_source("wave")))
    found = anatomy(experiment(9, RULES.render(design, "mine", "Both.")), baselines(), RULES)
    assert found.baseline.proposal is not None
    assert found.how == "parts of its design"
    assert found.baseline.proposal.name in ("parabola", "wave")
    for part in found.parts:
        assert len(set(read_rule(part.source)) ^ set(design)) == 1


def test_what_the_grammar_does_not_read_exactly_is_told_apart_by_its_lines() -> None:
    own = experiment(9, TOY.baseline_source("parabola").rstrip() + "  # mine\n")
    with pytest.raises(SetupError, match=r"experiment 9 differs from baseline parabola in nothing"):
        anatomy(own, baselines(), RULES)


def test_hunks_are_undone_alone_or_together() -> None:
    places = hunks(OLD, NEW)
    assert len(places) == 3
    assert taken_back(OLD, NEW, places) == OLD
    assert taken_back(OLD, NEW, places[1:2]) == NEW.replace("b = 5", "b = 2")
    assert taken_back(OLD, NEW, []) == NEW


def test_words_for_people_are_no_part_and_lines_are() -> None:
    found = anatomy(experiment(9, NEW), [experiment(1, OLD, "old", "baseline")], None)
    assert [part.name for part in found.parts] == ["lines 3 to 3", "lines 5 to 5"]
    assert found.parts[0].source == NEW.replace("b = 5", "b = 2")


def test_a_model_groups_lines_and_is_asked_again_when_it_names_one_twice(tmp_path: Path) -> None:
    answers = [
        Groups(changes=(Group(name="b", hunks=(2,)), Group(name="d", hunks=(2, 3)))),
        Groups(changes=(Group(name="b and d", hunks=(2, 7)),)),
        Groups(changes=(Group(name="b and d", hunks=(2, 3)),)),
    ]
    asked: list[Any] = []

    def decide(request: Any) -> Message:
        asked.append(request)
        return typed(answers[len(asked) - 1])

    with journal(tmp_path) as archive, scripted_models(Settings(), archive, decide) as models:
        archive.claim("candidate")
        found = anatomy(
            experiment(1, NEW), [experiment(2, OLD, "old", "baseline")], None,
            lambda shown: group_by_model(models, 1, shown),
        )  # fmt: skip
        faults = [fault.message for call in archive.calls() for turn in call.turns for fault in turn.faults]
    assert len(asked) == 3
    assert "one change only" in faults[0]
    assert "there is no piece 7" in faults[1]
    assert [(part.name, part.source) for part in found.parts] == [("b and d", '"""Words."""\n' + OLD)]


# what a part is worth


@pytest.fixture
def study(searched: Path, tmp_path: Path) -> Any:  # noqa: F811
    opened = Study.open(copy_study(searched, tmp_path / "study"), pool=HerePool())
    yield opened
    opened.close()


def best(study: Study) -> Experiment:
    ended = [e for e in study.archive.experiments(kind="candidate") if e.fitness]
    return max(ended, key=lambda e: e.fitness.value if e.fitness else 0.0)


def test_each_part_is_measured_beside_the_whole_and_the_baseline(study: Study, tmp_path: Path) -> None:
    verifier = Verifier(study.bench, 1)
    known, chosen = verifier.replication(), best(study)
    found = anatomy(chosen, known.baselines, RULES)
    runs = ablation_runs(found, known.later, 0, 2)
    verifier.do(lambda: [r for r in runs if r.key not in {d.key for d in study.archive.reruns()}], Watcher(),
                threading.Event())  # fmt: skip
    worth = contributions(found, runs, study.archive.reruns(), known)
    assert worth[0].part == NEAREST
    assert {c.part for c in worth[1:]} == {part.name for part in found.parts}
    gains = [c.comparison.gain for c in worth if c.comparison]
    unable = [c for c in worth if c.failure]  # to do without: the other change makes no rule of the space
    assert unable
    assert len(gains) == len(worth) - len(unable) >= 3
    assert all(f"Without {c.part!r} it does not run" in told(found, worth) for c in unable)
    assert gains[1:] == sorted(gains[1:], reverse=True)
    assert all(c.comparison.low < c.comparison.gain < c.comparison.high for c in worth if c.comparison)
    assert "told apart as parts of its design" in told(found, worth)
    table = ablation_table(found, worth, TOY.metrics)
    assert len(table.rows) == len(worth)
    draw_ablation(found, worth, tmp_path / "ablation.png")
    assert (tmp_path / "ablation.png").read_bytes()[1:4] == b"PNG"
    assert verifier.replication().leads == known.leads  # an ablation makes no lead


def test_a_part_without_which_nothing_runs_is_told_and_not_counted(study: Study) -> None:
    verifier = Verifier(study.bench, 1)
    known, chosen = verifier.replication(), best(study)
    found = anatomy(chosen, known.baselines, RULES)
    runs = ablation_runs(found, known.later, 0, 2)
    verifier.do(lambda: [r for r in runs if r.key not in {d.key for d in study.archive.reruns()}], Watcher(),
                threading.Event())  # fmt: skip
    fault = Failure(phase="source", kind="syntax", message="invalid syntax")
    ended = [
        replace(r, evidence=Evidence(stage="replicate", seed=r.seed, source_hash="", failure=fault))
        if r.part == found.parts[0].name
        else r
        for r in study.archive.reruns()
    ]
    worth = contributions(found, runs, ended, known)
    broken = next(c for c in worth if c.part == found.parts[0].name)
    assert broken.comparison is None
    assert worth[-1] == broken
    assert "does not run: source: invalid syntax" in told(found, worth)
    assert "failed" in next(r for r in ablation_table(found, worth, TOY.metrics).rows if r[0] == broken.part)


def test_the_command_prints_a_table_and_draws_a_figure(study: Study) -> None:
    command = [sys.executable, "-W", "error", "-m", "asi_arch", "ablate"]
    folder = str(study.folder)
    wide = {**os.environ, "COLUMNS": "180"}
    done = subprocess.run([*command, str(best(study).id), "--study", folder, "--seeds", "2"],
                          capture_output=True, text=True, timeout=90, check=False, env=wide)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "fitness lost" in done.stdout
    assert (study.folder / "report" / f"ablation_{best(study).id}.png").exists()
    wrong = subprocess.run([*command, "1", "--study", folder], capture_output=True, text=True, timeout=90,
                           check=False)  # fmt: skip
    assert wrong.returncode == 2
    assert "experiment 1 is no candidate that was measured" in wrong.stderr
