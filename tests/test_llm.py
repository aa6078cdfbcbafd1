"""Models are asked over HTTP: typed answers, faults that are mended, limits that hold, keys that stay."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from llm_server import Answer, Garbage, Overloaded, Reset, Say, Slow, Status, Truncated, Use, first, use
from llm_study import DESIGN, GOOD, QUESTION, Design, check, checks_first, served

from asi_arch.errors import ModelError, SetupError
from asi_arch.llm.conversation import CORRECTIONS
from asi_arch.llm.live import TRIES
from asi_arch.llm.models import Question

PROTOCOLS = ("openai", "anthropic")
WITH_TOOL = replace(QUESTION, tools=(check,))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("asi_arch.llm.live.FIRST_WAIT", 0.01)


@pytest.mark.parametrize(
    ("protocol", "settings", "streams"),
    [
        ("openai", {}, False),
        ("openai", {"model_stream": "on"}, True),
        ("anthropic", {}, True),  # its client streams what may become long
        ("anthropic", {"model_tokens": 4000}, False),
        ("anthropic", {"model_tokens": 4000, "model_stream": "on"}, True),
    ],
)
def test_a_typed_answer_comes_after_a_tool_was_really_called(tmp_path, protocol, settings, streams):
    with served(tmp_path, checks_first, protocol, **settings) as (models, archive, server):
        assert models.ask(Design, WITH_TOOL) == DESIGN
        assert [asked.stream for asked in server.requests] == [streams] * 2
        assert server.requests[1].results == ["passed: y = x"]
        assert server.requests[0].tools == ("check", "final_result")
        (call,) = archive.calls()
    assert (call.role, call.experiment, call.error) == ("designer", None, "")
    assert call.answer == '{"name":"gated","source":"y = x"}'
    said = [m for turn in call.turns for m in (*turn.asked, turn.answer)]
    assert [m.author for m in said] == ["system", "user", "model", "tool", "model"]
    assert said[0].text == "You design."
    assert said[3].text == "passed: y = x"
    assert all(turn.tokens_in > 0 and turn.tokens_out > 0 and turn.seconds > 0 for turn in call.turns)
    assert '"description": "the program\'s text."' in call.tools


@pytest.mark.parametrize("answers", ["native", "prompted"])
def test_servers_without_tools_give_typed_answers_as_text(tmp_path, answers):
    with served(tmp_path, [GOOD], model_answers=answers) as (models, _, server):
        assert models.ask(Design, QUESTION) == DESIGN
        assert server.requests[0].tools == ()
        assert [m["role"] for m in server.requests[0].body["messages"]] == ["system", "user"]
        assert server.requests[0].about('"source"') == (answers == "prompted")


def test_halves_of_characters_do_no_harm(tmp_path):
    def broken(source: str) -> str:
        """Check a source."""
        return "half \ud83d of it"

    script = [use("broken", source="x"), Say("half \ud83d of it")]
    with served(tmp_path, script) as (models, archive, server):
        question = replace(QUESTION, prompt="half \ud83d of it", tools=(broken,))
        assert models.ask(str, question) == "half ? of it"
        assert [asked.last for asked in server.requests] == ["half ? of it"] * 2
        assert archive.calls()[0].turns[1].answer.text == "half ? of it"


def test_plain_text_is_a_kind_of_answer_too(tmp_path):
    with served(tmp_path, [Say("Gates help.")]) as (models, archive, _):
        assert models.ask(str, QUESTION) == "Gates help."
        assert archive.calls()[0].answer == '"Gates help."'


@pytest.mark.parametrize("threads", [8, 32])
def test_many_threads_ask_at_once_and_each_gets_its_own_answer(tmp_path, threads):
    def script(asked):
        word = asked.messages[0][1]
        return use("check", source=word) if asked.turn == 0 else Answer({"name": word, "source": asked.last})

    with served(tmp_path, script) as (models, archive, _):
        for _ in range(threads):
            archive.claim("candidate")

        def ask(i):
            return models.ask(Design, replace(WITH_TOOL, prompt=f"word {i}", experiment=i + 1))

        with ThreadPoolExecutor(threads) as pool:
            answers = list(pool.map(ask, range(threads)))
        assert answers == [Design(name=f"word {i}", source=f"passed: word {i}") for i in range(threads)]
        assert {call.experiment for call in archive.calls()} == set(range(1, threads + 1))
        assert archive.calls(3)[0].turns[0].asked[1].text == "word 2"
        assert archive.spent().requests == 2 * threads


FAULTS = {
    "429": Status(429, "slow down", retry_after=0.05),
    "500": Status(500, "broken"),
    "garbled": Garbage(),
    "connection": Reset(),
    "timeout": Slow(30.0),
    "overloaded": Overloaded(),
    "truncated": Truncated(),
}
KINDS = {"overloaded": ("500", "503", "529"), "truncated": ("connection", "garbled")}


@pytest.mark.parametrize("stream", ["off", "on"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_fault_of_a_server_is_waited_out_and_written_down(tmp_path, protocol, stream):
    script = first(FAULTS.values(), checks_first)
    settings = {"model_stream": stream, "model_seconds": 1.0, "model_tokens": 4000}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asi_arch.llm.live.TRIES", 9)
        with served(tmp_path, script, protocol, **settings) as (models, archive, server):
            assert models.ask(Design, WITH_TOOL) == DESIGN
            assert len(server.requests) == len(FAULTS) + 2
            (call,) = archive.calls()
    found = call.turns[0].faults
    assert len(found) == len(FAULTS)
    for fault, name in zip(found, FAULTS, strict=True):
        assert fault.kind in KINDS.get(name, (name,)), fault
        assert fault.action.startswith("waited 0.")
        assert fault.action.endswith("s and asked again")
    assert [found[0].message, found[1].message] == ["slow down", "broken"]


def test_a_server_that_never_recovers_is_given_up_after_a_bounded_number_of_tries(tmp_path):
    with served(tmp_path, lambda _: Status(503, "down for today")) as (models, archive, server):
        with pytest.raises(ModelError, match=r"gave no answer \(503\): down for today"):
            models.ask(Design, QUESTION)
        assert len(server.requests) == TRIES
        (call,) = archive.calls()
    assert call.turns[0].answer is None
    assert [fault.action for fault in call.turns[0].faults][-1] == "gave up"
    assert "down for today" in call.error


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status(401, "Incorrect key KEY"), "refused the key"),
        (Status(404, "no such model"), "is not there"),
        (Status(402, "pay first", "billing_error"), "no credit left"),
        (Status(429, "wait", retry_after=3600), "429"),
    ],
)
def test_what_waiting_cannot_mend_is_not_waited_for(tmp_path, protocol, status, words):
    with served(tmp_path, lambda _: status, protocol) as (models, archive, server):
        with pytest.raises((SetupError, ModelError), match=words) as caught:
            models.ask(Design, QUESTION)
        assert len(server.requests) == 1
        assert archive.calls()[0].error == str(caught.value)
    assert "\n" not in str(caught.value)


FAULTY = {
    "wrong type": Answer({"name": 1, "source": "y"}),
    "malformed": Answer('{"name": "a", "sou'),
    "no answer": Say("I would rather talk."),
    "no such tool": use("compile", source="y"),
    "wrong arguments": use("check", text="y"),
    "refused": Answer({"name": "bad", "source": "y"}),
}


@pytest.mark.parametrize("fault", FAULTY)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_faulty_answer_is_sent_back_with_its_fault(tmp_path, protocol, fault):
    def review(design):
        return "`bad` is no name for a design" if design.name == "bad" else None

    with served(tmp_path, [FAULTY[fault], GOOD], protocol) as (models, archive, server):
        assert models.ask(Design, WITH_TOOL, review) == DESIGN
        (call,) = archive.calls()
    (noted,) = call.turns[0].faults
    assert noted.kind == ("tool" if fault in ("no such tool", "wrong arguments") else "answer")
    assert noted.action == "sent back with the fault, and asked again"
    assert server.requests[1].turn == 1
    if fault == "refused":
        assert "`bad` is no name for a design" in server.requests[1].last
    systems = [m for m in server.requests[1].body["messages"] if m["role"] == "system"]
    assert len(systems) == (protocol == "openai")


def test_answers_that_stay_faulty_are_given_up(tmp_path):
    words = "no answer that fits: .*; the fault before: name: Input should be a valid string"
    with served(tmp_path, lambda _: FAULTY["wrong type"]) as (models, archive, server):
        with pytest.raises(ModelError, match=words) as caught:
            models.ask(Design, QUESTION)
        assert len(server.requests) == CORRECTIONS + 1
        (call,) = archive.calls()
    assert call.error == str(caught.value)
    actions = [fault.action for turn in call.turns for fault in turn.faults]
    assert actions == ["sent back with the fault, and asked again"] * CORRECTIONS + ["gave up"]


def test_a_temperature_that_a_model_does_not_take_is_left_out(tmp_path):
    def script(asked):
        refusal = Status(400, "Unsupported value: 'temperature' does not support 0.5 with this model.")
        return refusal if "temperature" in asked.body else GOOD

    with served(tmp_path, script, name="qwen3", model_temperature=0.5) as (models, archive, server):
        models.ask(Design, QUESTION)
        models.ask(Design, QUESTION)
        assert ["temperature" in asked.body for asked in server.requests] == [True, False, False]
        assert archive.calls()[0].turns[0].faults[0].action == "asked again without a temperature"
        assert archive.calls()[0].options == {"model_temperature": 0.5}


@pytest.mark.parametrize(
    ("protocol", "name", "sent"),
    [("openai", "gpt-4o", True), ("openai", "gpt-5", False), ("anthropic", "claude-opus-4-6", True)],
)
def test_a_temperature_is_sent_where_a_model_is_known_to_take_it(tmp_path, protocol, name, sent):
    with served(tmp_path, [GOOD], protocol, name=name, model_temperature=0.5) as (models, archive, server):
        models.ask(Design, QUESTION)
        assert server.requests[0].body.get("temperature") == (0.5 if sent else None)
        assert [fault.kind for fault in archive.calls()[0].turns[0].faults] == ([] if sent else ["setting"])


def test_a_tool_may_ask_a_model_itself_and_what_it_raises_rises(tmp_path):
    with served(tmp_path, []) as (models, archive, server):

        def opinion(source: str) -> str:
            """Ask a colleague."""
            if source == "break":
                raise LookupError("the tool is broken")
            return models.ask(str, Question(role="judge", system="You judge.", prompt=source))

        def script(asked):
            if "judge" in asked.system:
                return Say("good")
            return use("opinion", source=asked.messages[0][1]) if asked.turn == 0 else GOOD

        server._decide = script
        assert models.ask(Design, replace(QUESTION, tools=(opinion,))) == DESIGN
        with pytest.raises(LookupError):
            models.ask(Design, replace(QUESTION, prompt="break", tools=(opinion,)))
        assert [(call.role, bool(call.answer)) for call in archive.calls()] == [
            ("designer", True), ("judge", True), ("designer", False)]  # fmt: skip


def test_several_calls_of_tools_run_in_one_turn(tmp_path):
    both = Use((("check", {"source": "a"}), ("check", {"source": "b"})))
    with served(tmp_path, [both, GOOD]) as (models, archive, _):
        assert models.ask(Design, WITH_TOOL) == DESIGN
        (call,) = archive.calls()
    assert [message.text for message in call.turns[1].asked] == ["passed: a", "passed: b"]


def test_a_model_that_only_uses_tools_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("asi_arch.llm.conversation.TURNS", 5)
    with served(tmp_path, lambda _: use("check", source="y")) as (models, archive, server):
        with pytest.raises(ModelError, match="request_limit of 5"):
            models.ask(Design, WITH_TOOL)
        assert len(server.requests) == len(archive.calls()[0].turns) == 5
