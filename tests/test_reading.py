"""A language model chooses among what words and meaning found: a real server, studies, and the command."""

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from authored import a_hinge_for_each, authored, candidates, faults_of, id_of, model
from llm_server import Answer, Asked, Reply, Server, Slow, Status
from llm_study import CANARY, served
from symptoms import readings, recall_at_5, symptoms

from asi_arch.cognition.base import SHOWN, CognitionBase
from asi_arch.cognition.reading import PICKED, Reader, reading_prompt
from asi_arch.errors import StoppedError
from asi_arch.settings import Settings
from asi_arch.space import BUILT_IN
from asi_arch.study import Study

LINEAR = CognitionBase(BUILT_IN / "linear_attention" / "cognition")
QUERY = "loses recall at long range"


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
    shown = [line.split()[1] for line in asked.text.splitlines() if line.startswith("## ")]
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


@pytest.mark.parametrize("settings", [{}, {"budget_calls": 1}], ids=["refused", "no budget"])
def test_without_an_answer_the_order_stands(tmp_path: Path, settings: dict[str, Any]) -> None:
    with served(tmp_path, lambda _: Status(400, "no"), **settings) as (models, _, server):
        reader = Reader(models)
        for _ in range(2):  # nothing is kept of a question without an answer
            matches = LINEAR.search(QUERY, 5, partial(reader.choose, None))
            assert [m.cognition.id for m in matches] == found_ids(5)
        assert server.requests


def test_no_choice_at_all_is_an_answer(tmp_path: Path) -> None:
    with served(tmp_path, lambda _: Answer({"ids": []})) as (models, archive, _):
        matches = LINEAR.search(QUERY, 5, partial(Reader(models).choose, None))
        assert [m.cognition.id for m in matches] == found_ids(5)
        assert not archive.calls()[0].error


def test_equal_pieces_are_asked_of_once_and_nothing_found_is_not_asked_of(tmp_path: Path) -> None:
    with served(tmp_path, lambda _: Answer({"ids": found_ids(3)[2:]})) as (models, _, server):
        choose = partial(Reader(models).choose, None)
        first = LINEAR.search(QUERY, 5, choose)
        assert LINEAR.search(QUERY, 9, choose)[:5] == first
        assert LINEAR.search("", 5, choose) == ()
        assert CognitionBase.of(()).search(QUERY, 5, choose) == ()
        assert len(server.requests) == 1
        LINEAR.search(f"{QUERY} and in text", 5, choose)
        assert len(server.requests) == 2


def test_who_is_stopped_while_a_model_reads_is_not_kept_waiting(tmp_path: Path) -> None:
    stop = threading.Event()

    def hang(_: Asked) -> Reply:
        threading.Timer(0.2, stop.set).start()
        return Slow(20.0)

    with served(tmp_path, hang) as (models, _, _server):
        models.stop = stop
        with pytest.raises(StoppedError):
            LINEAR.search(QUERY, 5, partial(Reader(models).choose, None))


def test_a_brief_shows_first_what_the_model_chose_for_it(tmp_path: Path) -> None:
    last: dict[int, str] = {}
    briefs: dict[int, str] = {}

    def reader(asked: Asked) -> Reply:
        shown = [line.split()[1] for line in asked.text.splitlines() if line.startswith("## ")]
        last[len(last)] = shown[-1]
        return Answer({"ids": shown[-1:]})

    def designer(asked: Asked) -> Reply:
        briefs[id_of(asked)] = asked.text
        return a_hinge_for_each(asked)

    script = model(reader=reader, designer=designer)
    with authored(tmp_path / "study", script, experiments=3) as (study, _):
        study.run()
        assert [e.status for e in candidates(study)] == ["finished"] * 3
        calls = [call for call in study.archive.calls() if call.role == "reader"]
        assert calls
        assert {call.experiment for call in calls} <= set(briefs)
        assert not faults_of(study, "reader")
        known = [c.id for c in study.cognition.all()]
    for text in briefs.values():
        places = {id: text.find(id) for id in known if id in text}
        assert min(places, key=lambda id: places[id]) in last.values()


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
