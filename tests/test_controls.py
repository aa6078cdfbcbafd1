"""Controls: a study without a part truly lacks it, says so, and cannot get it back half-way."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from authored import Messages, a_hinge_for_each, authored, candidates, design, model, rule, view_of
from llm_server import Asked, Reply
from toy import HerePool, toy_study

from asi_arch.analyst.fitness import JUDGE
from asi_arch.archive.folder import open_folder
from asi_arch.controls import CONTROLS, PARTS, control_values, tell_controls, without_of
from asi_arch.errors import SetupError
from asi_arch.loop.desk import NO_KNOWLEDGE
from asi_arch.loop.seams import Researcher
from asi_arch.records import Brief, Proposal
from asi_arch.report.markdown import write_report
from asi_arch.seats.seats import Seats
from asi_arch.seats.tools import Tools
from asi_arch.settings import Settings, given_values, load_settings, to_toml
from asi_arch.study import Study


class Reader:
    """A researcher that keeps the briefs that another one gets."""

    def __init__(self, other: Researcher) -> None:
        self.other = other
        self.briefs: list[Brief] = []

    def propose(self, brief: Brief) -> Proposal:
        self.briefs.append(brief)
        return self.other.propose(brief)


def run_read(folder: Path, **values: Any) -> tuple[Study, list[Brief], list[str]]:
    """A toy study that was run, the briefs that its researcher got, and what a person was told."""
    study, watch = toy_study(folder, experiments=24, **values), Messages()
    reader = study._researcher = Reader(study.cast.researcher)
    study.run(watch)
    return study, reader.briefs, watch.told


def origins(study: Study) -> set[str]:
    return {one.origin for e in candidates(study) for one in e.attribution}


def test_a_full_study_has_all_of_it(tmp_path: Path) -> None:
    """What the tests below miss is there otherwise."""
    study, briefs, told = run_read(tmp_path / "study")
    assert any(brief.cognitions for brief in briefs)
    assert any(brief.findings for brief in briefs)
    assert any(brief.trials for brief in briefs)
    assert all(brief.known for brief in briefs)
    assert all(e.finding for e in candidates(study))
    assert origins(study) == {"cognition", "analysis", "original"}
    assert not any("without" in line for line in told)
    study.close()


def test_without_cognition_no_brief_has_any_and_no_move_is_drawn_because_of_one(tmp_path: Path) -> None:
    study, briefs, told = run_read(tmp_path / "study", without="cognition")
    assert len(briefs) >= 24
    assert not any(brief.cognitions for brief in briefs)
    assert any(brief.trials for brief in briefs)
    assert not any(e.proposal.cognitions for e in candidates(study) if e.proposal)
    assert origins(study) == {"analysis", "original"}
    assert not study.cognition.all()
    assert "has no knowledge from papers" in study.cast.desk.search("error outside")
    assert not study.cast.desk.knows("2006.08195/1")
    assert told == [f"without cognition: {PARTS['cognition']}"]
    study.close()


def test_without_analyst_nothing_is_explained_and_nothing_is_learned_of_moves(tmp_path: Path) -> None:
    study, briefs, _ = run_read(tmp_path / "study", without="analyst")
    assert not any(brief.findings or brief.trials for brief in briefs)
    assert any(brief.cognitions for brief in briefs)
    assert not any(e.finding for e in study.archive.experiments())
    drawn = [one for e in candidates(study) for one in e.attribution if one.origin == "analysis"]
    assert all(one.experiments for one in drawn)  # parts of references only: no move for its record
    motivations = [e.proposal.motivation for e in candidates(study) if e.proposal]
    assert not any("in this study" in text or "Tried" in text for text in motivations)
    study.close()


def test_without_analyst_no_model_explains(tmp_path: Path) -> None:
    with authored(tmp_path / "study", model(), without="analyst") as (study, server):
        study.run()
        [one] = candidates(study)
        assert (one.status, one.finding) == ("finished", None)
        assert one.judgement is not None
        assert not server.asked("You explain the result")
        assert [a.basis for a in one.attribution] == ["stated"]


def test_without_judge_nobody_is_asked_and_no_mark_weighs(tmp_path: Path) -> None:
    values = {"judge_weight": 1.0}
    with authored(tmp_path / "full", model(), **values) as (study, _):
        study.run()
        assert [JUDGE in e.fitness.terms for e in candidates(study) if e.fitness] == [True]
    with authored(tmp_path / "study", model(), without="judge", **values) as (study, server):
        study.run()
        [one] = candidates(study)
        assert one.judgement is None
        assert one.fitness is not None
        assert JUDGE not in one.fitness.terms
        assert not server.asked("You judge architectures")
        assert server.asked("You explain the result")


def a_copyist(_: Asked) -> Reply:
    """A designer that has one idea."""
    return design(rule({"kind": "power", "degree": 3}), name="Cube")


def test_without_novelty_a_repeat_is_taken_but_not_trained_again(tmp_path: Path) -> None:
    pool = HerePool()
    values = {"experiments": 3, "without": "novelty", "judge_draws": 0}
    with authored(tmp_path / "study", model(designer=a_copyist), pool, **values) as (study, server):
        study.run()
        first, *others = candidates(study)
        assert first.status == "finished"
        assert [(e.failure.phase, e.failure.kind) for e in others if e.failure] == [
            ("novelty", "duplicate")
        ] * 2
        assert all(f"experiment {first.id}" in e.failure.message for e in others if e.failure)
        assert not any(e.repeats for e in candidates(study))
        assert not server.asked("You judge whether")
        trained = [job for job in pool.jobs if job.stage is not None and job.source.count("degree': 3")]
        assert len(trained) == 1
        assert len(server.asked("You design neural")) == 3


def test_a_full_study_asks_the_copyist_again(tmp_path: Path) -> None:
    values = {"experiments": 2, "judge_draws": 0, "novelty_attempts": 3}
    with authored(tmp_path / "study", model(designer=a_copyist), **values) as (study, server):
        study.run()
        assert [len(e.repeats) for e in candidates(study)] == [0, 3]
        assert len(server.asked("You design neural")) == 4


def test_without_novelty_the_symbolic_researcher_does_not_know_what_was_proposed(tmp_path: Path) -> None:
    study, briefs, _ = run_read(tmp_path / "study", without="novelty", selection="best_of_n")
    assert not any(brief.known for brief in briefs)
    assert len(briefs) == 24  # one for each id: nothing is asked for again
    repeated = [e for e in candidates(study) if e.failure and e.failure.phase == "novelty"]
    assert repeated
    assert not any(e.attribution for e in repeated)
    assert not study.brief(99, 1, ()).known
    study.close()


def test_a_control_chooses_parents_as_it_says_and_answers_no_stagnation(tmp_path: Path) -> None:
    for control in CONTROLS:
        values = control_values(control, {})
        study, briefs, told = run_read(tmp_path / control, **values | {"seed": 1})
        parents = {brief.parent.id for brief in briefs}
        seed = study.bench.seed_id
        assert parents == {seed} if control == "best_of_n" else len(parents) > 6
        assert not any(brief.orthogonal for brief in briefs)
        assert told == [f"control {control}: {CONTROLS[control]}"]
        study.close()


def test_the_report_and_the_board_say_what_is_missing(tmp_path: Path) -> None:
    study = toy_study(tmp_path / "study", without="judge,novelty", selection="random", experiments=1)
    text = write_report(view_of(study), tmp_path / "report").read_text()
    assert f"**A control**, {tell_controls('judge,novelty', 'random')}." in text
    study.close()
    plain = view_of(study)
    plain = replace(plain, settings=Settings(space="toy"))
    assert "A control" not in write_report(plain, tmp_path / "plain").read_text()


def command(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "asi_arch", *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_one_flag_a_part_on_the_command_line_and_a_list_in_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    flags = ["--without", "judge", "--without", "cognition", "--control", "random"]
    base = ["run", "--space", "toy", "--experiments", "1", "--workers", "1", "--study", str(folder)]
    done = command(*base, *flags)
    assert done.returncode == 0, done.stderr
    line = tell_controls("cognition,judge", "random")
    assert sum(line in told for told in done.stdout.splitlines()) == 1
    settings, archive = open_folder(folder)
    archive.close()
    assert (settings.without, settings.selection, settings.patience) == ("cognition,judge", "random", 0)
    assert 'without = ["cognition", "judge"]' in (folder / "settings.toml").read_text()
    refused = command(*base, "--without", "novelty")
    assert refused.returncode == 2
    assert "setting 'without' of study" in refused.stderr
    assert command(*base, "--without", "cognition,judge").returncode == 0


def test_a_list_or_a_text_means_the_same_in_one_order(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    for written in ('["novelty", "analyst"]', '"novelty, analyst"', '["analyst", "novelty", "analyst"]'):
        file.write_text(f"without = {written}\n")
        assert load_settings(file).without == "analyst,novelty"
    assert given_values(overrides=["without=novelty,analyst"]) == {"without": "analyst,novelty"}
    file.write_text(to_toml(load_settings(file)))
    assert load_settings(file).without == "analyst,novelty"
    assert "without = []" in to_toml(Settings())


@pytest.mark.parametrize("written", ["without = 3", "without = [3]", 'without = ["engineer"]'])
def test_a_part_that_a_study_needs_is_refused_with_those_that_it_can_do_without(
    tmp_path: Path, written: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(written)
    with pytest.raises(SetupError, match="without"):
        load_settings(file)


def test_a_wrong_control_and_one_against_another_policy_are_refused() -> None:
    with pytest.raises(SetupError, match="random or best_of_n, not 'evenly'"):
        control_values("evenly", {})
    with pytest.raises(SetupError, match="exclude each other"):
        control_values("random", {"selection": "uct"})
    with pytest.raises(SetupError, match="cognition, analyst, judge, novelty, not without 'engineer'"):
        without_of(["judge", "engineer"])


def test_the_settings_of_an_archive_from_before_are_those_of_a_full_study(tmp_path: Path) -> None:
    study = toy_study(tmp_path / "study")
    noted: Mapping[str, Any] = json.loads(study.archive.facts()["settings"])
    assert noted["without"] == ""
    assert Settings(**{key: value for key, value in noted.items() if key != "without"}) == study.settings
    study.close()


def test_a_designer_of_a_study_without_cognition_reads_of_none(tmp_path: Path) -> None:
    with authored(tmp_path / "study", model(designer=a_hinge_for_each), without="cognition") as (
        study,
        server,
    ):
        study.run()
        [asked] = server.asked("You design neural")
        assert "Knowledge from papers" not in asked.text
        assert [e.status for e in candidates(study)] == ["finished"]


def test_agents_of_a_study_without_novelty_and_cognition_may_repeat_and_find_nothing(tmp_path: Path) -> None:
    study = toy_study(tmp_path / "study", without="cognition,novelty")
    study.prepare()
    with closing(Seats(study, 1)) as seats:
        tools, source = Tools(seats), rule({"kind": "power", "degree": 3})
        assert tools.search_cognition("error outside") == NO_KNOWLEDGE
        ids = []
        for name in ("Cube", "CubeAgain"):
            brief = seats.claim("agent a", "", 0)
            assert brief is not None
            assert not brief.cognitions
            assert "not new" not in tools.check(source, brief.id)
            made = Proposal(name=name, motivation="It bends.", source=source, author="agent a")
            assert seats.submit(brief.id, made, 30).status == "proposed"
            ids.append(brief.id)
        seats.start()
        until = time.monotonic() + 60
        while any(seats.claims.get(id).status == "proposed" for id in ids) and time.monotonic() < until:
            time.sleep(0.05)
        first, second = (seats.claims.get(id) for id in ids)
        assert first.status == "finished"
        assert second.failure is not None
        assert (second.failure.phase, second.failure.kind) == ("novelty", "duplicate")
