"""A language model leads: it designs with tools, its faults go back to it, and what fails is mended."""

import math
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from authored import (
    LINE,
    Messages,
    authored,
    candidates,
    design,
    faults_of,
    hinge,
    id_of,
    model,
    rule,
    view_of,
)
from llm_server import Answer, Asked, Reply, Status, use
from toy import HerePool, toy_study

from asi_arch.errors import SetupError
from asi_arch.report.story import tell
from asi_arch.researcher.brief_text import timeless
from asi_arch.researcher.offers import OPS, offers

KINK = rule(LINE, hinge(0.3))
TOO_DEAR = rule(*[{"kind": "wave", "frequency": f + 0.5, "phase": 0.0} for f in range(6)])


def test_a_model_designs_with_the_study_at_its_hands(tmp_path: Path) -> None:
    calls = [
        use("search_cognition", query="a kink where the slope changes"),
        use("read_experiment", id=2),
        use("read_experiment", id=99),
        use("check", source=TOO_DEAR),
        use("check", source=KINK),
    ]

    def designer(asked: Asked) -> Reply:
        edits = [{"search": '[{"kind"', "replace": '[{"kind": "hinge", "at": 0.3}, {"kind"'}]
        answer = design("", cognitions=["1806.08734/1"], edits=edits)
        return calls[asked.turn] if asked.turn < len(calls) else answer

    with authored(tmp_path, model(designer=designer)) as (study, server):
        messages = Messages()
        study.run(messages)
        [experiment] = candidates(study)
        assert experiment.status == "finished"
        proposal = experiment.proposal
        assert proposal is not None
        assert (proposal.author, proposal.name, proposal.parents) == ("model", "Hinge", (1,))
        assert proposal.source.rstrip().endswith(
            '"terms": [{"kind": "hinge", "at": 0.3}, {"kind": "power", "degree": 1}]}'
        )
        assert proposal.cognitions == ("1806.08734/1",)
        assert len(proposal.references) == 2
        last = server.asked("You design neural")[-1]
        found, second, none, dear, fine = last.results
        assert found.startswith("[1806.08734/1]")
        assert second.startswith("#2 ")
        assert "```python\nRULE" in second or "RULE =" in second
        assert none == "There is no experiment 99; this study has 1 to 5."
        assert "FAILED budget: 73 FLOPs" in dear
        assert "Failed in budget (check)" in dear
        assert fine.endswith("All checks passed.")
        prompt = last.messages[0][1]
        for words in ("## Contract\nA candidate is", "## Parent: #1", "RULE =", "Summary of 2.", "- #1 line"):
            assert words in prompt, words
        assert messages.told[0].startswith("researcher: the language model openai:gpt-5-mini proposes; ")
        roles = [call.role for call in study.archive.calls(experiment.id)]
        assert roles == ["reader", "summariser", "designer", *["judge"] * 3, "analyst"]


GOOD = {"source": KINK, "name": "Kink"}
FAULTY: dict[str, tuple[dict[str, Any], str]] = {
    "both": ({"edits": [{"search": "RULE", "replace": "RULE"}]}, "not both"),
    "neither": ({"source": ""}, "not neither"),
    "absent": ({"source": "", "edits": [{"search": "rule", "replace": "x"}]}, "text occurs 0"),
    "twice": ({"source": "", "edits": [{"search": '"', "replace": "x"}]}, "edit 1: its search"),
    "name": ({"name": "no name!"}, "name: 'no name!'"),
    "motivation": ({"motivation": "Better."}, "motivation: say what is weak"),
    "cognition": ({"cognitions": ["1706.03762/9"]}, "there is no 1706.03762/9"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTY)
def test_what_is_wrong_with_an_answer_goes_back_to_the_author(tmp_path: Path, fault: str) -> None:
    values, words = FAULTY[fault]

    def designer(asked: Asked) -> Reply:
        return design(**(GOOD | values if asked.turn == 0 else GOOD))

    with authored(tmp_path, model(designer=designer)) as (study, server):
        study.run()
        assert [e.status for e in candidates(study)] == ["finished"]
        [told] = faults_of(study, "designer")
        assert words in told
        assert words in server.asked("You design neural")[-1].last


def mended(asked: Asked) -> Reply:
    return Answer({"note": "Too many waves; one hinge keeps the idea.", "source": KINK})


def test_what_fails_a_check_is_mended_and_every_attempt_is_kept(tmp_path: Path) -> None:
    def mender(asked: Asked) -> Reply:
        if "Attempts before" not in asked.text:
            return Answer({"note": "Fewer waves.", "source": TOO_DEAR.replace("5.5", "6.5")})
        return mended(asked)

    script = model(designer=lambda _: design(TOO_DEAR, name="Waves"), mender=mender)
    with authored(tmp_path, script) as (study, server):
        study.run()
        [experiment] = candidates(study)
        assert experiment.status == "finished"
        assert experiment.proposal is not None
        assert (experiment.proposal.source, experiment.proposal.name) == (KINK, "Waves")
        assert [a.source for a in experiment.attempts] == [TOO_DEAR, TOO_DEAR.replace("5.5", "6.5")]
        assert [a.failure.phase for a in experiment.attempts] == ["budget", "budget"]
        assert [a.note[:5] for a in experiment.attempts] == ["Fewer", "Too m"]
        assert [e.stage for e in experiment.attempts[0].evidence] == ["checks"]
        assert [e.stage for e in experiment.evidence] == ["checks", "explore"]
        asked = server.asked("You mend programs")[0].messages[0][1]
        for words in (
            "Failed in budget (check): 73 FLOPs",
            "the limit is 64",
            "Often the cure",
            "bends there",
            TOO_DEAR,
        ):
            assert words.strip() in asked, words
        assert study.archive.get(experiment.id) == experiment


def test_attempts_are_bounded_and_the_last_failure_stands(tmp_path: Path) -> None:
    def mender(asked: Asked) -> Reply:
        tried = asked.text.count("- failed in")
        return Answer({"note": f"Try {tried}.", "source": TOO_DEAR.replace("5.5", f"{6 + tried}.5")})

    script = model(designer=lambda _: design(TOO_DEAR), mender=mender)
    with authored(tmp_path, script, mend_attempts=2) as (study, _):
        study.run()
        [experiment] = candidates(study)
        assert (experiment.status, len(experiment.attempts)) == ("failed", 2)
        assert experiment.failure is not None
        assert experiment.failure.phase == "budget"
        assert [call.role for call in study.archive.calls(experiment.id)].count("mender") == 2


DIVERGES = rule({"kind": "power", "degree": 1, "gain": 100.0}, hinge(0.3))


def test_a_training_that_diverged_goes_to_the_mender_with_its_step_and_curve(tmp_path: Path) -> None:
    script = model(designer=lambda _: design(DIVERGES), mender=mended)
    with authored(tmp_path, script) as (study, server):
        study.run()
        [experiment] = candidates(study)
        assert experiment.status == "finished"
        [attempt] = experiment.attempts
        assert (attempt.failure.phase, attempt.failure.kind) == ("train", "nan")
        assert [e.stage for e in attempt.evidence] == ["checks", "explore"]
        asked = server.asked("You mend programs")[0].text
        assert "the loss diverged by step" in asked
        assert "normalise queries" in asked


def test_a_mended_program_that_is_known_goes_back_to_the_mender(tmp_path: Path) -> None:
    def mender(asked: Asked) -> Reply:
        if asked.turn == 0:
            return Answer({"note": "The same again.", "source": f"# another layout\n{TOO_DEAR}"})
        if asked.turn == 1:
            return Answer({"note": "The seed.", "source": rule(LINE)})
        return mended(asked)

    script = model(designer=lambda _: design(TOO_DEAR), mender=mender)
    with authored(tmp_path, script) as (study, _):
        study.run()
        [experiment] = candidates(study)
        assert experiment.status == "finished"
        faults = faults_of(study, "mender")
        assert [f"experiment {id} has it" in fault for id, fault in zip((5, 1), faults, strict=True)] == [
            True
        ] * 2


def test_a_mended_graph_that_is_known_goes_back_to_the_author(tmp_path: Path) -> None:
    seed_again = rule({**LINE, "gain": 1.0})
    script = model(
        designer=lambda asked: design(TOO_DEAR if "all refused" not in asked.text else KINK),
        mender=lambda _: Answer({"note": "Only a line is left.", "source": seed_again}),
    )
    with authored(tmp_path, script) as (study, _):
        study.run()
        [experiment] = candidates(study)
        assert experiment.status == "finished"
        assert experiment.proposal is not None
        assert experiment.proposal.source == KINK
        assert [(r.of, r.basis) for r in experiment.repeats] == [(1, "graph")]
        assert len(experiment.attempts) == 1


def test_a_mender_that_gives_no_answer_leaves_the_failure_as_it_is(tmp_path: Path) -> None:
    script = model(designer=lambda _: design(TOO_DEAR), mender=lambda _: Status(400, "too long"))
    with authored(tmp_path, script) as (study, _):
        study.run()
        [experiment] = candidates(study)
        assert (experiment.status, experiment.attempts) == ("failed", ())
        [call] = [call for call in study.archive.calls() if call.role == "mender"]
        assert "too long" in call.error


WAVE = {"kind": "wave", "frequency": 3.0, "phase": -3.0}


def test_what_is_the_same_program_graph_function_or_idea_goes_back_with_what_it_repeats(
    tmp_path: Path,
) -> None:
    turned = {**WAVE, "phase": -3.0 + 2 * math.pi}
    tries = ['"""Said otherwise."""\n' + KINK, rule(hinge(0.3), LINE), rule(turned), rule(hinge(0.31))]

    def designer(asked: Asked) -> Reply:
        if id_of(asked) < 7:
            return design(KINK if id_of(asked) == 5 else rule(WAVE), name=f"First{id_of(asked)}")
        refusals = asked.text.count("\n- Try")
        return design(tries[refusals], name=f"Try{refusals}") if refusals < 4 else design(rule(WAVE, LINE))

    def novelty(asked: Asked) -> Reply:
        known = "The new idea: Try3" in asked.text
        return Answer({"repeats": 5 if known else 0, "reason": "A hinge beside a line, both times."})

    with authored(tmp_path, model(designer=designer, novelty=novelty), experiments=3) as (study, server):
        study.run()
        *_, last = candidates(study)
        assert last.status == "finished"
        found = [(repeat.name, repeat.of, repeat.basis) for repeat in last.repeats]
        assert found[:2] == [("Try0", 5, "program"), ("Try1", 5, "graph")]
        assert found[2:] == [("Try2", 6, "function"), ("Try3", 5, "idea")]
        told = server.asked("You design neural")[-1].messages[0][1].partition("all refused")[2]
        assert "- Try0: the same program as experiment 5" in told
        assert "- Try3: the same idea as experiment 5: A hinge beside a line, both times." in told
        assert "orthogonal design" in told
        assert [job.stage for job in study.pool.jobs].count(study.bench.stage) == 4 + 3  # type: ignore[attr-defined]


def test_the_check_tool_says_that_a_graph_is_known(tmp_path: Path) -> None:
    def designer(asked: Asked) -> Reply:
        return use("check", source=rule({**LINE, "gain": 1.0})) if asked.turn == 0 else design(KINK)

    with authored(tmp_path, model(designer=designer)) as (study, server):
        study.run()
        [text] = server.asked("You design neural")[-1].results
        assert "it is not new, and would be refused: the graph is that of experiment 1" in text


def test_a_source_that_was_checked_in_the_conversation_is_not_checked_again(tmp_path: Path) -> None:
    def designer(asked: Asked) -> Reply:
        return use("check", source=KINK) if asked.turn == 0 else design(KINK)

    pool = HerePool()
    with authored(tmp_path, model(designer=designer), pool) as (study, _):
        study.run()
        assert [(job.name, job.stage is None) for job in pool.jobs if job.source == KINK] == [
            ("preview", True), ("Hinge", False)]  # fmt: skip


def test_a_mix_of_researchers_gives_each_id_to_one_by_its_own_draw(tmp_path: Path) -> None:
    values = {"researcher": "symbolic:0.5,model:0.5", "experiments": 12}
    with authored(tmp_path / "a", model(), **values) as (study, _):
        messages = Messages()
        study.run(messages)
        authors = [e.proposal.author for e in candidates(study) if e.proposal]
        assert messages.told[0].startswith("researcher: the symbolic researcher 50%, the language model")
    assert 3 <= authors.count("model") <= 9
    assert set(authors) == {"model", "symbolic"}
    with authored(tmp_path / "b", model(), **values) as (study, _):
        study.run()
        assert [e.proposal.author for e in candidates(study) if e.proposal] == authors


def test_a_spent_budget_ends_the_run_cleanly_and_more_of_it_goes_on(tmp_path: Path) -> None:
    with authored(tmp_path, model(), experiments=4, workers=2, budget_calls=3) as (study, _):
        messages = Messages()
        study.run(messages)
        assert any(e.status in ("claimed", "proposed") for e in candidates(study))
        [said] = [text for text in messages.told if "budget" in text]
        assert said.startswith("the budget for language models is spent: ")
        assert said.endswith("what is open stays open")
    with authored(tmp_path, model(), experiments=4, budget_calls=0) as (study, _):
        study.run()
        assert [e.status for e in candidates(study)] == ["finished"] * 4


def test_an_author_that_stays_silent_fails_its_experiments_and_soon_ends_the_run(tmp_path: Path) -> None:
    script = model(designer=lambda _: Status(400, "no thanks"))
    with authored(tmp_path, script, experiments=9) as (study, _):
        messages = Messages()
        study.run(messages)
        assert [e.status for e in candidates(study)] == ["failed"] * 3
        failures = [e.failure for e in candidates(study)]
        assert all(
            f and (f.phase, f.kind) == ("author", "silent") and "no thanks" in f.message for f in failures
        )
        assert messages.told[-1].startswith("no proposal came 3 times in a row; the last time, model")
        assert [part.title for part in tell(view_of(study), candidates(study)[0], study.archive.calls(5))]


def test_a_refused_key_ends_the_run_with_one_line_and_the_experiment_stays_open(tmp_path: Path) -> None:
    script = model(designer=lambda _: Status(401, "bad key"))
    with authored(tmp_path, script, experiments=2) as (study, _):
        with pytest.raises(SetupError, match="refused the key"):
            study.run()
        assert [e.status for e in candidates(study)] == ["claimed"]


def test_no_key_and_no_model_change_nothing_and_the_run_says_who_leads(tmp_path: Path) -> None:
    study, messages = toy_study(tmp_path, experiments=1), Messages()
    study.run(messages)
    [experiment] = candidates(study)
    assert experiment.proposal is not None
    assert experiment.proposal.author == "symbolic"
    assert messages.told == [
        "researcher: the symbolic researcher proposes; "
        "--set model=PROVIDER:NAME has a language model do it (docs/models.md)"
    ]
    assert study.archive.calls() == []
    study.close()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"researcher": "model"}, "there is none; set model"),
        ({"researcher": "robot"}, "must be one of 'auto', 'symbolic', 'model', 'agent', or a mix"),
        ({"researcher": "model:x"}, "must be one of"),
        ({"model": "openai:gpt-5"}, "export OPENAI_API_KEY"),
    ],
)
def test_a_researcher_that_is_not_there_is_refused_with_the_cure(
    tmp_path: Path, values: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SetupError, match=words), closing(toy_study(tmp_path, **values)) as study:
        study.run()


def test_ids_that_are_kept_for_agents_are_not_taken_by_a_run(tmp_path: Path) -> None:
    study = toy_study(tmp_path, experiments=8, researcher="symbolic:0.5,agent:0.5")
    study.run()
    assert len(candidates(study)) == 4
    study.close()


def test_what_is_offered_is_all_that_the_operators_export_with_signatures_and_docstrings() -> None:
    text = offers()
    exported = (OPS / "__init__.py").read_text().partition("__all__")[2].split('"')[1::2]
    assert len(exported) == 16
    for name in exported:
        assert re.search(rf"^(class )?{name}\(", text, re.MULTILINE), name
    assert "simple_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, initial_state: Tensor | None=None" in text
    assert "class ShortConvolution(channels: int, kernel_size: int=4, activation: str | None='silu')" in text
    assert "S_t = exp(g_t) S_{t-1} + k_t v_t^T" in text


@pytest.mark.parametrize(
    ("timed", "told"),
    [
        ("Cost against #1: time of a mixer's step +35%. Next.", "Next."),
        ("One. Cost against #1: time of a mixer's step 2.3 times as large, state +3%.",
         "One. Cost against #1: state +3%."),
        ("Cost against the seed: FLOPs a token +3%, time of a mixer's step -12%. Z",
         "Cost against the seed: FLOPs a token +3%. Z"),
        ("FLOPs x 1.02 (limit 2), seconds of the mixer x 4.3 (limit 4)",
         "FLOPs x 1.02 (limit 2), seconds of the mixer above the limit of 4 times the seed's"),
        ("<object at 0x7f3a5c2e1d90> failed", "<object at 0x...> failed"),
        ("no time in it", "no time in it"),
    ],
)  # fmt: skip
def test_what_is_told_to_a_model_holds_no_times(timed: str, told: str) -> None:
    assert timeless(timed) == told
