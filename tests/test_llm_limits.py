"""Limits of asking models hold: time, stop and Ctrl-C; budgets; keys stay; each role has its model."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from llm_server import Answer, Slow, Status, first, use
from llm_study import CANARY, DESIGN, GOOD, KEYS, QUESTION, Design, check, checks_first, journal, served

from asi_arch.archive.journal import load_calls, save_calls
from asi_arch.errors import BudgetError, ModelError, SetupError, StoppedError
from asi_arch.llm.models import open_models, scripted_models
from asi_arch.llm.prices import given_prices, price
from asi_arch.llm.roles import ROLES, Spec, describe, specs
from asi_arch.llm.scripted import typed
from asi_arch.settings import Settings, load_settings, to_toml

PROTOCOLS = ("openai", "anthropic")
WITH_TOOL = replace(QUESTION, tools=(check,))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("asi_arch.llm.live.FIRST_WAIT", 0.01)


def test_a_time_limit_ends_each_try(tmp_path, monkeypatch):
    monkeypatch.setattr("asi_arch.llm.live.TRIES", 2)
    with served(tmp_path, lambda _: Slow(30.0), model_seconds=1.0) as (models, _, server):
        began = time.monotonic()
        with pytest.raises(ModelError, match=r"timeout.*no answer within 1 s \(model_seconds\)"):
            models.ask(Design, QUESTION)
        assert 2.0 <= time.monotonic() - began < 6.0
        assert len(server.requests) == 2


def test_a_stop_frees_all_who_wait_and_a_new_event_lets_them_ask_again(tmp_path):
    slow = threading.Event()
    with served(tmp_path, lambda _: GOOD if slow.is_set() else Slow(30.0)) as (models, archive, _):
        stop = models.stop
        threading.Timer(0.5, stop.set).start()
        began = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(models.ask, Design, QUESTION) for _ in range(4)]
            assert all(isinstance(future.exception(), StoppedError) for future in waiting)
        assert time.monotonic() - began < 5.0
        with pytest.raises(StoppedError):
            models.ask(Design, QUESTION)
        slow.set()
        models.stop = threading.Event()
        assert models.ask(Design, QUESTION) == DESIGN
        assert [call.error for call in archive.calls()] == [""]


def test_closed_models_free_who_waits_and_may_be_asked_anew(tmp_path):
    slow = threading.Event()
    with served(tmp_path, lambda _: GOOD if slow.is_set() else Slow(30.0)) as (models, _, server):
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(models.ask, Design, QUESTION)
            while not (server.requests or future.done()):
                time.sleep(0.01)
            models.close()
            assert isinstance(future.exception(), StoppedError)
        slow.set()
        assert models.ask(Design, QUESTION) == DESIGN


ASKER = """
import sys
from pathlib import Path
from llm_server import Slow
from llm_study import Design, QUESTION, served
with served(Path(sys.argv[1]), lambda _: print("asked", flush=True) or Slow(60.0)) as (models, _, server):
    try:
        models.ask(Design, QUESTION)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print("closed", flush=True)
"""


def test_ctrl_c_ends_a_question_at_once(tmp_path):
    command = [sys.executable, "-W", "error", "-c", ASKER, str(tmp_path)]
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert (out, error, process.returncode) == ("interrupted\nclosed\n", "", 0)
    assert time.monotonic() - began < 10.0


# money


def usage(tokens_in, tokens_out, cached=0):
    from pydantic_ai.usage import RequestUsage

    return RequestUsage(input_tokens=tokens_in, output_tokens=tokens_out, cache_read_tokens=cached)


def test_prices_come_from_the_table_and_what_it_lacks_is_unknown_not_free():
    known = Spec(provider="openai", name="gpt-4o-mini")
    assert price(known, ("gpt-4o-mini",), usage(1000, 100), None) == pytest.approx(0.00021)
    assert price(known, ("gpt-4o-mini",), usage(1000, 100, cached=800), None) < 0.00021
    assert price(known, ("a-new-snapshot", "gpt-4o-mini"), usage(1000, 100), None) == pytest.approx(0.00021)
    assert price(known, ("gpt-4o-mini",), usage(0, 0), None) is None
    assert price(Spec(provider="openai", name="mine"), ("mine",), usage(1, 1), None) is None
    own = replace(known, url="http://127.0.0.1:8000/v1")
    assert price(own, ("gpt-4o-mini",), usage(1000, 100), None) is None
    assert price(own, ("gpt-4o-mini",), usage(1000, 100), given_prices("0.25/2")) == pytest.approx(0.00045)
    for wrong in ("1", "a/b", "1/2/3", "-1/2", "nan/1"):
        with pytest.raises(SetupError, match="model_prices"):
            given_prices(wrong)


@pytest.mark.parametrize(
    ("settings", "answered", "words"),
    [
        ({"budget_calls": 3}, 3, "3 answers, and budget_calls is 3"),
        ({"budget_tokens": 100}, 2, "110 tokens, and budget_tokens is 100"),
        ({"budget_dollars": 0.00015, "model_prices": "1/10"}, 2, "0.0002, and budget_dollars"),
    ],
)
def test_a_budget_ends_asking_and_counts_what_the_archive_holds(tmp_path, settings, answered, words):
    for _ in range(2):  # the second time is a study that is opened again
        with served(tmp_path, lambda _: GOOD, **settings) as (models, archive, server):
            server.tokens = (50, 5)
            with pytest.raises(BudgetError, match=words) as caught:
                [models.ask(Design, QUESTION) for _ in range(10)]
            assert "--set budget_" in str(caught.value)
            assert archive.spent().requests == len(archive.calls()) == answered


def test_a_budget_ends_a_conversation_in_its_middle_and_keeps_what_was_said(tmp_path):
    with served(tmp_path, checks_first, budget_calls=1) as (models, archive, _):
        with pytest.raises(BudgetError):
            models.ask(Design, WITH_TOOL)
        (call,) = archive.calls()
    assert (len(call.turns), call.answer, call.error) == (1, "", "")


def test_an_unknown_price_is_said_once_and_stored_as_unknown(tmp_path):
    said = []
    with served(tmp_path, lambda _: GOOD, say=said.append, budget_dollars=1.0) as (models, archive, _):
        models.ask(Design, QUESTION)
        models.ask(Design, QUESTION)
        assert archive.spent().unpriced == 2
        assert archive.calls()[0].turns[0].dollars is None
    assert len(said) == 1
    assert "price of openai:gpt-5-mini is unknown" in said[0]


# keys


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_key_is_written_nowhere_even_when_a_server_repeats_it(tmp_path, caplog, capfd, protocol):
    caplog.set_level(logging.DEBUG)
    echo = Answer({"name": CANARY, "source": f"key = '{CANARY}'"})
    script = first(
        [Status(500, "you sent KEY"), use("check", source=CANARY), echo], lambda _: Status(401, "no KEY")
    )
    shown = []
    with served(tmp_path, script, protocol, say=shown.append, budget_dollars=1.0) as (
        models,
        archive,
        server,
    ):
        answer = models.ask(Design, replace(WITH_TOOL, prompt=f"my key is {CANARY}"))
        with pytest.raises(SetupError) as caught:
            models.ask(Design, QUESTION)
        assert CANARY in str(server.requests[0].headers)
        shown += [repr(models), repr(vars(models)), repr(caught.value), str(caught.value), str(answer)]
        fault = caught.value
        assert fault.__cause__ is None
        shown += [repr(fault.__context__)]
        save_calls(tmp_path / "calls.json", archive.calls())
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert not [text for text in files if CANARY.encode() in text]
    out = capfd.readouterr()
    assert CANARY not in "".join([*shown, caplog.text, out.out, out.err])
    assert "[key]" in (tmp_path / "calls.json").read_text()


def test_a_key_comes_from_the_environment_only(tmp_path):
    with journal(tmp_path) as archive:
        for settings, environ, words in (
            (Settings(model="openai:gpt-5"), {}, "export OPENAI_API_KEY"),
            (Settings(model="google:gemini"), {}, "export GOOGLE_API_KEY or GEMINI_API_KEY"),
            (Settings(model="openai:a", model_url="http://me:word@host/v1"), KEYS, "password or a query"),
            (Settings(model="openai:a@https://host/v1?key=word"), KEYS, "password or a query"),
            (Settings(model="gpt-5"), KEYS, "setting 'model' is 'gpt-5'; write openai:NAME"),
            (Settings(model_judge="mistral:x"), KEYS, "setting 'model_judge'"),
            (Settings(model="openai:a", model_url="localhost:8000"), KEYS, "no http"),
            (Settings(model="openai:a", model_prices="free"), KEYS, "model_prices"),
        ):
            with pytest.raises(SetupError, match=words) as caught:
                open_models(settings, archive, environ, load_calls)
            assert "word@" not in str(caught.value)
            assert "=word" not in str(caught.value)


# roles


def test_no_model_is_none_and_each_role_may_have_its_own(tmp_path):
    with journal(tmp_path) as archive:
        assert open_models(Settings(), archive, KEYS, load_calls) is None
        only = open_models(Settings(model_judge="openai:gpt-5"), archive, KEYS, load_calls)
        assert only is not None
        assert (only.name("judge"), only.name("designer")) == ("openai:gpt-5", None)
        with pytest.raises(SetupError, match="set model, or model_designer"):
            only.ask(Design, QUESTION)
        only.close()
    settings = Settings(
        model="openai:a",
        model_url="http://host/v1/",
        model_judge="anthropic:b",
        model_mender="openai:c@https://d/v1",
    )
    found = specs(settings, {"ANTHROPIC_BASE_URL": "https://proxy"})
    assert list(found) == list(ROLES)
    assert found["designer"] == Spec(provider="openai", name="a", url="http://host/v1")
    assert found["mender"] == Spec(provider="openai", name="c", url="https://d/v1")
    assert found["judge"] == Spec(provider="anthropic", name="b", url="https://proxy")


def test_an_address_without_its_scheme_is_refused_and_an_at_in_a_model_s_name_is_not():
    for name in ("x@localhost:8000/v1", "x@box:8000", "x@10.0.0.1/v1", "x@api.lab.org/v1"):
        with pytest.raises(
            SetupError, match=rf"write the address with its scheme, such as @http://{name[2:]}"
        ):
            specs(Settings(model=f"openai:{name}"), {})
    for name in ("claude-opus-4@20250514", "@cf/meta/llama", "m@v1.5", "qwen:7b@q4"):
        assert specs(Settings(model=f"openai:{name}"), {})["designer"].name == name


def test_a_server_that_cannot_be_reached_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with journal(tmp_path) as archive:
            models = open_models(Settings(model=f"openai:a@{url}"), archive, KEYS, load_calls, print)
            assert models is not None
            with pytest.raises(ModelError, match=rf"\(connection\): .*, at {url}"):
                models.ask(Design, QUESTION)
            models.close()


def test_one_line_says_which_model_has_which_role():
    assert describe(Settings(), {}).startswith("no language model: set model")
    assert describe(Settings(model="openai:a"), KEYS) == "openai:a for every role"
    assert describe(Settings(model="openai:a"), {}) == "openai:a for every role (OPENAI_API_KEY is not set)"
    some = describe(Settings(model_judge="openai:a", model_url="http://host/v1"), {})
    assert some.startswith("openai:a at http://host/v1 for judge; no model for designer, mender")


def test_a_function_can_be_the_model(tmp_path):
    def decide(request):
        return typed(Design(name=request.role, source=request.messages[-1].text))

    with journal(tmp_path) as archive, scripted_models(Settings(), archive, decide) as models:
        assert models.ask(Design, QUESTION) == Design(name="designer", source=QUESTION.prompt)
        assert archive.calls()[0].model == "scripted"


def test_a_package_that_is_missing_is_named_with_its_cure(tmp_path):
    if find_spec("google") and find_spec("google.genai"):
        pytest.skip("google-genai is installed")
    with journal(tmp_path) as archive, pytest.raises(SetupError, match=r"pip install 'asi-arch\[google\]'"):
        open_models(Settings(model="google:gemini"), archive, {"GEMINI_API_KEY": "x"}, load_calls)


def test_settings_of_models_go_through_their_file(tmp_path):
    settings = Settings(model='openai:a "b" \\', model_temperature=0.5, budget_dollars=2.5)
    (tmp_path / "settings.toml").write_text(to_toml(settings))
    assert load_settings(tmp_path / "settings.toml") == settings
    for wrong in ("model_answers=xml", "model_stream=yes", "model_temperature=-2", "budget_calls=-1"):
        with pytest.raises(SetupError, match=wrong.partition("=")[0]):
            load_settings(overrides=[wrong])
