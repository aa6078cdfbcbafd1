"""The one seam to language models: ask the model of a role, get a typed answer."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from asi_arch.calls import Call, Message, Turn
from asi_arch.errors import SetupError
from asi_arch.llm.loop import Loop
from asi_arch.llm.prices import given_prices
from asi_arch.llm.roles import REPLAY, ROLES, Spec, hider, key_of, require_package, specs
from asi_arch.settings import Settings

if TYPE_CHECKING:  # these import the library, which takes a second: `ask` does when it is first called
    from asi_arch.llm.conversation import Journal
    from asi_arch.llm.source import Request, Source

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a role's model.

    tools: functions that it may call, any number of times and several at once, each in a thread. Their
    names, docstrings and annotations are what the model is told; they give text, and what they raise,
    `ask` raises. For a replay they must give the same text again, so no times and no dates.
    experiment: whose question it is; None for one of the study.
    """

    role: str
    system: str
    prompt: str
    tools: Sequence[Callable[..., str]] = ()
    experiment: int | None = None


class Models:
    """Language models by role. Thread-safe; whoever makes it closes it.

    Use `open_models`, or `scripted_models`. stop: once it is set, whoever waits in `ask` gets StoppedError
    within a moment, and so does every later `ask`; a study puts its own event here when it runs.

    Args:
        settings: the study's.
        journal: the study's archive: every call is written there after each of its turns.
        named: the model of each role that has one.
        make: gives the source of a model.
        hide: takes keys out of a text before it is sent, kept or shown.
        say: is told what a person should know, such as a price that is unknown; each thing once.
    """

    def __init__(
        self,
        settings: Settings,
        journal: "Journal",
        named: Mapping[str, Spec],
        make: "Callable[[Spec], Source]",
        hide: Callable[[str], str] = str,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.stop = threading.Event()
        self._settings, self._journal, self._named = settings, journal, dict(named)
        self._make, self._hide, self._say = make, hide, say
        self._lock, self._loop = threading.Lock(), Loop()
        self._sources: dict[Spec, Source] = {}
        self._told: set[str] = set()

    def __repr__(self) -> str:
        """Give the models by role."""
        return f"Models({', '.join(f'{role}={spec}' for role, spec in self._named.items())})"

    def name(self, role: str) -> str | None:
        """Give the model of a role as in the settings; None when it has none, and `ask` cannot be called."""
        spec = self._named.get(role)
        return None if spec is None else str(spec)

    def ask(self, kind: type[T], question: Question, review: Callable[[T], str | None] | None = None) -> T:
        """Ask the model of a role, and give its answer.

        Rate limits, server errors and broken connections are waited out; an answer of another kind, or one
        that `review` refuses, is sent back with the fault; both a bounded number of times, all recorded.

        Args:
            kind: of the answer: a dataclass, a pydantic model, or `str` for plain text.
            question: what is asked.
            review: gives None for a good answer, else what is wrong with it, for the model. Runs in a thread.

        Raises:
            ModelError: there is no answer that can be used.
            BudgetError: the study's budget is spent; nothing was asked.
            SetupError: the key is refused, the model is not there, or a replay has no such answer.
            StoppedError: `stop` was set, or the models were closed.
        """
        from asi_arch.llm.conversation import Conversation, Ground, Talk, agent_of, converse, schema_of

        spec = self._named.get(question.role)
        if spec is None:
            raise SetupError(f"role {question.role!r} has no model; set model, or model_{question.role}")
        talk = Talk(
            kind=kind,
            system=self._hide(question.system),
            hide=self._hide,
            tools=question.tools,
            review=review,
            answers=self._settings.model_answers,
        )
        call = Call(
            role=question.role,
            model=str(spec),
            experiment=question.experiment,
            options=_options(self._settings),
            schema=schema_of(kind),
            started_at=time.time(),
        )
        ground = Ground(settings=self._settings, journal=self._journal, note=self._note)
        conversation = Conversation(call, self._source(spec), ground)
        return self._loop.run(converse(agent_of(talk), self._hide(question.prompt), conversation), self.stop)

    def close(self) -> None:
        """Give up what is being asked, and close connections. Idempotent; a later `ask` starts anew."""
        with self._lock:
            sources, self._sources = self._sources, {}
        self._loop.close(partial(_close, list(sources.values())))

    def __enter__(self) -> "Models":
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _source(self, spec: Spec) -> "Source":
        with self._lock:
            if spec not in self._sources:
                self._sources[spec] = self._make(spec)
            return self._sources[spec]

    def _note(self, call: Call, turn: Turn) -> None:
        """Say once for each model that its price is unknown, when a budget counts on it."""
        if turn.dollars is None and self._settings.budget_dollars and call.model not in self._told:
            self._told.add(call.model)
            if self._say is not None:
                self._say(
                    f"the price of {call.model} is unknown: budget_dollars does not count it, budget_tokens "
                    "and budget_calls do; model_prices can name it"
                )


def open_models(
    settings: Settings,
    journal: "Journal",
    environ: Mapping[str, str],
    load: Callable[[Path], Sequence[Call]],
    say: Callable[[str], None] | None = None,
) -> Models | None:
    """Give the models that settings and environment name; None when they name none.

    Args:
        settings: the study's; the keys `model*` and `budget*` count.
        journal: the study's archive.
        environ: the environment; keys of providers are read from nowhere else.
        load: gives the calls of a replay's path: `archive.journal.load_calls`.
        say: see `Models`.

    Raises:
        SetupError: a setting names no model, a key or a package is missing, or a replay cannot be read.
    """
    named = specs(settings, environ)
    given_prices(settings.model_prices)
    keys = {spec: key_of(spec, environ) for spec in named.values()}
    for spec in keys:
        require_package(spec)
    recorded = {spec: load(Path(spec.name)) for spec in keys if spec.provider == REPLAY}
    hide = hider(environ)

    def make(spec: Spec) -> "Source":
        if spec in recorded:
            from asi_arch.llm.replay import Replay

            return Replay(str(spec), recorded[spec])
        from asi_arch.llm.live import Live

        return Live(spec, keys[spec], settings, hide)

    return Models(settings, journal, named, make, hide, say) if named else None


def scripted_models(settings: Settings, journal: "Journal", decide: "Callable[[Request], Message]") -> Models:
    """Give models that are a function, in every role; see `scripted.Scripted`."""
    from asi_arch.llm.scripted import Scripted

    spec = Spec(provider="scripted", name="function")
    return Models(settings, journal, dict.fromkeys(ROLES, spec), lambda _: Scripted(decide))


def _options(settings: Settings) -> dict[str, int | float | str]:
    """Give what answers depend on beside the model and the texts; only what differs from the defaults."""
    names = ("model_temperature", "model_tokens", "model_answers")
    default = Settings()
    values = {name: getattr(settings, name) for name in names}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


async def _close(sources: "Sequence[Source]") -> None:
    for source in sources:
        await source.close()
