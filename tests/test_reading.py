"""A language model chooses among what words and meaning found: a real server, studies, and the command."""

import os
import re
import subprocess
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from authored import Messages, a_hinge_for_each, authored, candidates, faults_of, id_of, model
from llm_server import Answer, Asked, Reply, Server, Slow, Status
from llm_study import CANARY, served
from symptoms import readings, recall_at_5, symptoms
from toy import toy_study

from asi_arch.cognition.base import SHOWN, CognitionBase
from asi_arch.cognition.reading import PICKED, Reader, reading_prompt
from asi_arch.errors import StoppedError
from asi_arch.seats.seats import Seats
from asi_arch.settings import Settings
from asi_arch.space import BUILT_IN
from asi_arch.study import Study

LINEAR = CognitionBase(BUILT_IN / "linear_attention" / "cognition")
QUERY = "loses recall at long range"


def shown_in(asked: Asked) -> list[str]:
    """The ids that a reader is shown, in order."""
    return [line.split()[1] for line in asked.text.splitlines() if line.startswith("## ")]


def found_ids(count: int = SHOWN) -> list[str]:
    return [match.cognition.id for match in LINEAR.search(QUERY, count)]


def test_what_a_model_chose_comes_first_and_the_others_as_they_were_found(tmp_path: Path) -> None:
    found = found_ids()
    picks = [found[30], found[3]]
    with served(tmp_path, lambda _: Answer({"ids": picks})) as (models, archive, server):
        matches = LINEAR.search(QUERY, 6, partial(Reader(models).choose, None))
        [asked] = server.requests
        [call] = archive.calls()
    assert [m.cognition.id for m in matches] == [*picks, *found[:3], found[4]]
    assert [m.read_rank for m in matches] == [1, 2, 0, 0, 0, 0]
    assert matches[0].word_rank == 31
    assert (call.role, call.experiment) == ("reader", None)
    assert QUERY in asked.text
    shown = shown_in(asked)
    assert shown == found
    assert len(shown) == SHOWN
    first = LINEAR.get(found[0])
    assert first is not None
    assert first.title in asked.text
    assert " ".join(first.trigger.split()) in asked.text


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (["9999.99999/1"], "'9999.99999/1' is none of the pieces"),
        (found_ids(PICKED + 1), f"at most {PICKED}"),
    ],
    ids=["unknown", "too many"],
)
def test_a_wrong_choice_goes_back_with_the_fault(tmp_path: Path, wrong: list[str], word: str) -> None:
    right = found_ids(2)[::-1]

    def reply(asked: Asked) -> Reply:
        return Answer({"ids": wrong if asked.turn == 0 else right})

    with served(tmp_path, reply) as (models, _, server):
        matches = LINEAR.search(QUERY, 2, partial(Reader(models).choose, None))
        assert word in server.requests[-1].text
    assert [m.cognition.id for m in matches] == right


def test_no_choice_at_all_is_an_answer_and_nothing_found_is_not_asked_of(tmp_path: Path) -> None:
    with served(tmp_path, lambda _: Answer({"ids": []})) as (models, archive, server):
        choose = partial(Reader(models).choose, None)
        matches = LINEAR.search(QUERY, 5, choose)
        assert [m.cognition.id for m in matches] == found_ids(5)
        assert not archive.calls()[0].error
        assert LINEAR.search("", 5, choose) == ()
        assert CognitionBase.of(()).search(QUERY, 5, choose) == ()
        assert len(server.requests) == 1


def test_who_is_stopped_while_a_model_reads_is_not_kept_waiting(tmp_path: Path) -> None:
    stop = threading.Event()

    def hang(_: Asked) -> Reply:
        threading.Timer(0.2, stop.set).start()
        return Slow(20.0)

    with served(tmp_path, hang) as (models, _, _server):
        models.stop = stop
        with pytest.raises(StoppedError):
            LINEAR.search(QUERY, 5, partial(Reader(models).choose, None))


def known_in(text: str) -> list[str]:
    """The ids of knowledge in a brief, in order."""
    return re.findall(r"^\[(\d{4}\.\d{5}/\d)\]", text, re.MULTILINE)


def test_a_brief_shows_what_the_model_chose_for_it_and_fills_up_with_what_it_had(tmp_path: Path) -> None:
    chosen: list[list[str]] = []
    briefs: dict[int, str] = {}

    def reader(asked: Asked) -> Reply:
        chosen.append(shown_in(asked)[::-1][: 1 + len(chosen)])  # one more each time
        return Answer({"ids": chosen[-1]})

    def designer(asked: Asked) -> Reply:
        briefs[id_of(asked)] = asked.text
        return a_hinge_for_each(asked)

    script = model(reader=reader, designer=designer)
    with authored(tmp_path / "study", script, experiments=3) as (study, _):
        study.run()
        assert [e.status for e in candidates(study)] == ["finished"] * 3
        calls = {call.experiment: call for call in study.archive.calls() if call.role == "reader"}
        assert set(calls) == set(briefs)  # one question for each proposal
        assert not faults_of(study, "reader")
        wanted = min(study.settings.num_cognitions, len(study.cognition.all()))
    assert [len(picks) for picks in chosen] == [1, 2, 3]
    for picks, (_, text) in zip(chosen, sorted(briefs.items()), strict=True):
        known, sure = known_in(text), (wanted + 1) // 2
        assert len(known) == wanted
        assert known[: min(len(picks), sure)] == picks[:sure]
        assert len(set(picks) & set(known)) == min(len(picks), wanted)


def test_without_an_answer_the_brief_stays_as_it_was(tmp_path: Path) -> None:
    briefs: dict[str, list[str]] = {}

    def designer(asked: Asked) -> Reply:
        briefs.setdefault(asked.text.split("# Brief of")[1][:30], []).append(",".join(known_in(asked.text)))
        return a_hinge_for_each(asked)

    for name, reader in (("refused", lambda _: Status(400, "no")), ("none", lambda _: Answer({"ids": []}))):
        script = model(reader=reader, designer=designer)
        with authored(tmp_path / name, script, experiments=2) as (study, _):
            study.run()
            assert [e.status for e in candidates(study)] == ["finished"] * 2
    assert len(briefs) == 2
    assert all(first == second for first, second in briefs.values())


def test_a_spent_budget_ends_the_run_and_is_not_passed_over(tmp_path: Path) -> None:
    values = {"researcher": "symbolic", "model": "", "budget_calls": 2, "workers": 1}
    with Server(lambda _: Answer({"ids": []})) as server:
        values["model_reader"] = f"openai:small@{server.openai}"
        told = Messages()
        with authored(tmp_path / "study", model(), experiments=5, **values) as (study, _):
            study.run(told)
            assert [e.status for e in candidates(study)] == ["finished", "finished", "claimed"]
        assert len(server.requests) == 2
    assert any("what is open stays open" in line for line in told.told)


def test_an_agent_is_seated_without_a_key_and_no_model_reads_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    study = toy_study(tmp_path / "study", seed_runs=1, model="openai:nobody")
    study.prepare()
    with closing(Seats(study, 0)) as seats:
        brief = seats.claim("agent", "", 0.0)
        assert brief is not None
        assert brief.cognitions
        assert study.archive.calls() == []


def test_without_cognition_no_model_reads(tmp_path: Path) -> None:
    with authored(tmp_path / "study", model(), experiments=2, without="cognition") as (study, _):
        study.run()
        assert {call.role for call in study.archive.calls()} >= {"designer", "judge"}
        assert "reader" not in {call.role for call in study.archive.calls()}


def test_a_role_of_its_own_is_read_by_its_model_and_no_other(tmp_path: Path) -> None:
    settings = {"model": "", "model_reader": "openai:small", "researcher": "symbolic"}
    with Server(lambda _: Answer({"ids": []})) as server:
        settings["model_reader"] += f"@{server.openai}"
        with authored(tmp_path / "study", model(), experiments=2, **settings) as (study, _):
            study.run()
            assert {(call.role, call.model) for call in study.archive.calls()} == {("reader", "openai:small")}
            assert [e.status for e in candidates(study)] == ["finished"] * 2


def command(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", "-m", "asi_arch", "cognition", *map(str, words)]
    environ = os.environ | {"OPENAI_API_KEY": CANARY, "COLUMNS": "200"}
    return subprocess.run(line, cwd=cwd, env=environ, capture_output=True, text=True, timeout=90, check=False)


def test_the_command_shows_what_a_run_would_recall(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    Study.create(folder, Settings()).close()
    chosen = found_ids()[40]
    words = ("search", QUERY, "--read", "--count", 2)
    with Server(lambda _: Answer({"ids": [chosen]})) as server:
        value = f"model_reader=openai:small@{server.openai}"
        done = command(*words, "--study", folder, "--set", value, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (line for line in done.stdout.splitlines() if line.startswith("Found by"))
    assert first.startswith("Found by a model that read it, 1.; by words 41.")
    assert "a model" not in second
    assert chosen in done.stdout.splitlines()[0]
    study = Study.open(folder)
    assert [(call.role, call.experiment) for call in study.archive.calls()] == [("reader", None)]
    study.close()
    for more, word in ((("--study", folder), "model_reader=PROVIDER:NAME"), ((), "--study DIR")):
        refused = command(*words, *more, cwd=tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 2)  # how it recalls, and the fault
        assert word in refused.stderr
    with Server(lambda _: Status(400, "no")) as server:
        value = f"model_reader=openai:small@{server.openai}"
        refused = command(*words, "--study", folder, "--set", value, cwd=tmp_path)
    assert refused.returncode == 2
    assert "no model read what was found" in refused.stderr
    assert not refused.stdout


def test_recorded_choices_are_of_pieces_that_are_shown_today_and_reach_the_goal() -> None:
    kept = readings()["words"]
    assert set(kept) == {s.query for s in symptoms()}
    for query, ids in kept.items():
        shown = [match.cognition for match in LINEAR.search(query, SHOWN)]
        assert 1 <= len(ids) <= PICKED
        assert set(ids) <= {c.id for c in shown}, query
        assert len(reading_prompt(query, shown)) < 20_000  # characters, some 5,000 tokens
    tuned = [s for s in symptoms() if not s.held_out]
    assert recall_at_5(kept.__getitem__, tuned) >= 0.8
    assert recall_at_5(readings()["both"].__getitem__, tuned) >= 0.8
