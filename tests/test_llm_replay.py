"""What was recorded is asked again without a network, byte for byte, and what was not is told in one line."""

import json
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from llm_server import Answer, Say, Slow, Status, first, use
from llm_study import DESIGN, GOOD, KEYS, QUESTION, Design, check, checks_first, journal, served

from asi_arch.archive.journal import load_calls, save_calls
from asi_arch.errors import BudgetError, ModelError, SetupError, StoppedError
from asi_arch.llm.models import Question, open_models
from asi_arch.records import to_json
from asi_arch.settings import Settings

WITH_TOOL = replace(QUESTION, tools=(check,))
JUDGE = Question(role="judge", system="You judge.", prompt="Is it new?")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("asi_arch.llm.live.FIRST_WAIT", 0.01)


def review(design):
    return "call it gated" if design.name != "gated" else None


def conversations(models):
    """A small study's questions: a designer that checks, is corrected and waits; a judge that draws twice."""
    answers = [models.ask(Design, WITH_TOOL, review)]
    answers += [models.ask(str, JUDGE) for _ in range(2)]
    with pytest.raises(ModelError):
        models.ask(Design, replace(QUESTION, role="mender"))
    return answers


def script():
    draws = iter([Say("new"), Say("not new")])

    def decide(asked):
        if asked.about("judge"):
            return next(draws)
        if not asked.tools.count("check"):
            return Status(500, "down")
        steps = [use("check", source="y"), Answer({"name": 1}), Answer({"name": "x", "source": "y"}), GOOD]
        return steps[asked.turn]

    return first([Status(429, "slow down", retry_after=0.02)], decide)


@contextmanager
def replayed(folder, path, **settings):
    with journal(folder) as archive:
        models = open_models(Settings(model=f"replay:{path}", **settings), archive, {}, load_calls)
        assert models is not None
        with models:
            yield models, archive


def bytes_of(calls):
    return [to_json(replace(call, started_at=0.0)) for call in calls]


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", ["off", "on"])
def test_a_study_is_replayed_byte_for_byte_without_a_network(tmp_path, protocol, stream):
    with served(tmp_path / "a", script(), protocol, model_stream=stream) as (models, archive, _):
        answers = conversations(models)
        recorded = archive.calls()
    save_calls(tmp_path / "calls.json", recorded)
    assert load_calls(tmp_path / "calls.json") == recorded
    for number, path in enumerate((tmp_path / "a", tmp_path / "a" / "study.db", tmp_path / "calls.json")):
        with replayed(tmp_path / f"b{number}", path) as (models, archive):
            assert conversations(models) == answers == [DESIGN, "new", "not new"]
            assert bytes_of(archive.calls()) == bytes_of(recorded)
    kinds = [[fault.kind for fault in turn.faults] for turn in recorded[0].turns]
    assert kinds == [["429"], ["answer"], ["answer"], []]


@pytest.fixture
def record(tmp_path):
    """A recorded study of one designer's call, asked with a tool."""
    with served(tmp_path / "a", checks_first) as (models, _, _):
        models.ask(Design, WITH_TOOL)
    return tmp_path / "a"


def louder(source: str) -> str:
    """Check a source.

    Args:
        source: the program's text.
    """
    return f"PASSED: {source}"


louder.__name__ = "check"


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (replace(WITH_TOOL, role="mender"), "request of the mender: no call of that role was recorded"),
        (replace(WITH_TOOL, prompt="Better than KDA, please."),
         r"message 2 \(user\) differs at character 13: recorded 'Better than delta_net, please.', asked "
         r"'Better than KDA, please.', the nearest being call 1"),
        (replace(WITH_TOOL, tools=(louder,)),
         r"message 4 \(tool check\) differs at character 1: recorded 'passed: y = x', asked 'PASSED: y = x'"),
        (QUESTION, "its tools differ"),
    ],
)  # fmt: skip
def test_what_was_not_recorded_is_told_in_one_line_with_the_nearest_difference(
    tmp_path, record, question, words
):
    with replayed(tmp_path / "b", record) as (models, _), pytest.raises(SetupError, match=words) as caught:
        models.ask(Design, question)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"replay:{record} has no answer to a request of the")


def test_other_settings_and_other_kinds_of_answers_are_other_requests(tmp_path, record):
    with (
        replayed(tmp_path / "b", record, model_temperature=0.5) as (models, _),
        pytest.raises(SetupError, match=r"its options differ: recorded {}, asked {'model_temperature': 0.5}"),
    ):
        models.ask(Design, WITH_TOOL)
    with (
        replayed(tmp_path / "b", record) as (models, _),
        pytest.raises(SetupError, match="its schema differ"),
    ):
        models.ask(str, WITH_TOOL)


def test_a_request_is_answered_as_often_as_it_was_recorded(tmp_path, record):
    with replayed(tmp_path / "b", record) as (models, _):
        assert models.ask(Design, WITH_TOOL) == DESIGN
        with pytest.raises(SetupError, match="it was recorded 1 times, and asked once more"):
            models.ask(Design, WITH_TOOL)


def test_an_experiment_gets_the_answers_that_were_its_own(tmp_path):
    with served(tmp_path / "a", lambda asked: Say(str(asked.number))) as (models, archive, _):
        for _ in range(4):
            archive.claim("candidate")
        for id in (1, 2, 3, 4):
            assert models.ask(str, replace(JUDGE, experiment=id)) == str(id - 1)
    with replayed(tmp_path / "b", tmp_path / "a") as (models, archive):
        for _ in range(4):
            archive.claim("candidate")
        assert [models.ask(str, replace(JUDGE, experiment=id)) for id in (4, 2, 1, 3)] == ["3", "1", "0", "2"]


def test_a_call_that_was_stopped_and_asked_again_is_replayed_as_it_ended(tmp_path):
    stop = threading.Event()

    def hesitant(asked):
        if asked.turn == 1 and not stop.is_set():
            stop.set()
            return Slow(30.0)
        return use("check", source=f"y{stop.is_set()}") if asked.turn == 0 else GOOD

    with served(tmp_path / "a", hesitant) as (models, archive, _):
        models.stop = stop
        with pytest.raises(StoppedError):
            models.ask(Design, WITH_TOOL)
        models.stop = threading.Event()
        assert models.ask(Design, WITH_TOOL) == DESIGN
        assert [len(call.turns) for call in archive.calls()] == [1, 2]
    with replayed(tmp_path / "b", tmp_path / "a") as (models, archive):
        assert models.ask(Design, WITH_TOOL) == DESIGN
        assert archive.calls()[0].turns[0].answer.uses[0].arguments == '{"source": "yTrue"}'


def test_a_budget_ends_a_replay_where_it_ended_the_study(tmp_path):
    with served(tmp_path / "a", checks_first, budget_calls=3) as (models, archive, _):
        models.ask(Design, WITH_TOOL)
        with pytest.raises(BudgetError):
            models.ask(Design, replace(WITH_TOOL, prompt="again"))
        recorded = archive.calls()
    with replayed(tmp_path / "b", tmp_path / "a", budget_calls=3) as (models, archive):
        models.ask(Design, WITH_TOOL)
        with pytest.raises(BudgetError):
            models.ask(Design, replace(WITH_TOOL, prompt="again"))
        assert bytes_of(archive.calls()) == bytes_of(recorded)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[]", ""), ("{", "holds no calls"), ('[{"role": 1}]', "0/role"), (None, "cannot read")],
)
def test_a_file_that_holds_no_calls_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "calls.json"
    if text is not None:
        path.write_text(text)
    if not words:
        assert load_calls(path) == []
        return
    with journal(tmp_path) as archive, pytest.raises(SetupError, match=words) as caught:
        open_models(Settings(model=f"replay:{path}"), archive, KEYS, load_calls)
    assert "\n" not in str(caught.value)


def test_the_file_of_calls_is_json_that_a_person_can_read(tmp_path, record):
    save_calls(tmp_path / "calls.json", load_calls(record))
    (call,) = json.loads((tmp_path / "calls.json").read_text())
    assert call["turns"][1]["asked"][0]["text"] == "passed: y = x"
