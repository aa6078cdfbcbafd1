"""One call: a question, its tools and corrections, until a typed answer; written down after every turn."""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Generic, Protocol, TypeVar

import anyio.to_thread
from pydantic import TypeAdapter
from pydantic_ai import Agent, ModelRetry, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from asi_arch.calls import Call, Fault, Message, Spending, Turn
from asi_arch.errors import ModelError, SetupError
from asi_arch.llm.budget import check_budget
from asi_arch.llm.scripted import OUTPUT_TOOL
from asi_arch.llm.source import Request, Source, failure
from asi_arch.llm.transcript import in_plain_turns, response_of, transcript
from asi_arch.records import to_json
from asi_arch.settings import Settings

T = TypeVar("T")
PROMPTED = "Answer with one JSON object and nothing around it; this is its JSON schema:\n"
CORRECTIONS = 3  # times that an answer, or the use of a tool, is sent back with its fault
TURNS = 50  # requests in one call
LONGEST_FAULT = 500  # characters; the whole is among the messages
SENT_BACK = "sent back with the fault, and asked again"


class Journal(Protocol):
    """Where calls are kept; an archive is one. Called from several threads at once."""

    def record_call(self, call: Call) -> Call:
        """Write a call, and give it with its id."""
        ...

    def spent(self) -> Spending:
        """Give what all calls came to."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all conversations of a study share. note: is called with every turn, and with its call."""

    settings: Settings
    journal: Journal
    note: Callable[[Call, Turn], None]


class Conversation(Model):
    """A call while it goes on. To the library it is the model: every request of a call comes through it."""

    def __init__(self, call: Call, source: Source, ground: Ground) -> None:
        super().__init__(profile=ModelProfile(supports_json_schema_output=True))
        self.call, self._source, self._ground = call, source, ground
        self._known: tuple[Message, ...] = ()

    @property
    def model_name(self) -> str:
        """Give the model's name as in the settings."""
        return str(self._source)

    @property
    def system(self) -> str:
        """Give what the library calls the provider; ours is none that it knows."""
        return "asi-arch"

    def prepare_messages(
        self, messages: list[ModelMessage], model_request_parameters: ModelRequestParameters | None = None
    ) -> list[ModelMessage]:
        """Leave messages as they are: each provider's model prepares them, so that all are recorded alike."""
        return messages

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Have the source answer, within the budget, and write the turn down."""
        if not self.call.turns:
            self.call = replace(self.call, tools=_offered(model_request_parameters))
        said = transcript(messages)
        asked = said[len(self._known) :]
        self._note_faults(asked)
        check_budget(self._ground.settings, await anyio.to_thread.run_sync(self._ground.journal.spent))
        request = Request(
            role=self.call.role,
            experiment=self.call.experiment,
            options=self.call.options,
            schema=self.call.schema,
            tools=self.call.tools,
            messages=said,
            raw=(in_plain_turns(messages), model_request_parameters),
        )
        reply = await self._source.answer(request)
        turn = replace(reply.turn, asked=asked)
        self.call = replace(self.call, model=reply.model, turns=(*self.call.turns, turn))
        await self.write()
        if turn.answer is None:
            raise failure(reply.model, turn.faults[-1])
        self._ground.note(self.call, turn)
        self._known = (*said, turn.answer)
        return reply.raw or response_of(turn.answer, turn)

    async def write(self) -> None:
        """Write the call down as it stands."""
        self.call = await anyio.to_thread.run_sync(self._ground.journal.record_call, self.call)

    def give_up(self, reason: str) -> str:
        """Note with the last turn that its answer was not sent back any more, and give the call's error."""
        reason = " ".join(reason.partition(". Consider")[0].split())  # without the library's advice
        before = [
            fault.message for turn in self.call.turns for fault in turn.faults if fault.action == SENT_BACK
        ]
        self._note((Fault(kind="answer", message=reason, action="gave up"),))
        last = f"; the fault before: {before[-1]}" if before else ""
        return f"model '{self.call.model}' gave no answer that fits: {reason}{last}"

    def _note_faults(self, asked: Sequence[Message]) -> None:
        """Note with the last turn what was wrong with its answer."""
        found = tuple(
            Fault(kind=_fault_kind(message), message=_in_short(message.text), action=SENT_BACK)
            for message in asked
            if message.faulty
        )
        self._note(found)

    def _note(self, found: tuple[Fault, ...]) -> None:
        if found and self.call.turns:
            *before, last = self.call.turns
            self.call = replace(self.call, turns=(*before, replace(last, faults=last.faults + found)))


def _offered(parameters: ModelRequestParameters) -> str:
    """Give the tools that are offered, but for the one that takes the answer, as JSON text."""
    tools = parameters.function_tools
    offered = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters_json_schema}
        for tool in tools
    ]
    return json.dumps(offered, sort_keys=True)


def _in_short(text: str) -> str:
    """Give feedback on an answer in one line: its errors by field, where there are any."""
    try:
        found = json.loads(text)["error"]
    except (ValueError, TypeError, KeyError):
        found = text
    if isinstance(found, list):
        pairs = [("/".join(map(str, error["loc"])), error["msg"]) for error in found]
        found = "; ".join(": ".join(filter(None, pair)) for pair in pairs)
    return " ".join(str(found).split())[:LONGEST_FAULT]


def _fault_kind(message: Message) -> str:
    return "answer" if message.tool in ("", OUTPUT_TOOL) else "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk(Generic[T]):
    """What an agent is made of: the kind of answer, the system prompt, the tools, and the reviewer.

    hide: takes keys out of what tools give.
    """

    kind: type[T]
    system: str
    tools: Sequence[Callable[..., str]]
    review: Callable[[T], str | None] | None
    answers: str  # the setting `model_answers`
    hide: Callable[[str], str]


def agent_of(talk: Talk[T]) -> Agent[object, T]:
    """Make the library's agent for a talk."""
    output, system = _form_of(talk)
    agent: Agent[object, T] = Agent(
        output_type=output,
        system_prompt=system,
        tools=[_hiding(tool, talk.hide) for tool in talk.tools],
        retries=CORRECTIONS,
        name="asi-arch",
    )
    if talk.review is not None:
        agent.output_validator(_reviewed(talk.review, talk.hide))
    return agent


def _form_of(talk: Talk[T]) -> tuple[Any, str]:
    """Give how the library takes the answer, and the system prompt; many servers take only one of these."""
    if talk.kind is str:
        return str, talk.system
    if talk.answers == "native":
        return NativeOutput(talk.kind), talk.system
    if talk.answers == "prompted":
        return PromptedOutput(talk.kind, template=False), f"{talk.system}\n\n{PROMPTED}{schema_of(talk.kind)}"
    return ToolOutput(talk.kind, name=OUTPUT_TOOL), talk.system


def _hiding(tool: Callable[..., str], hide: Callable[[str], str]) -> Callable[..., str]:
    @wraps(tool)
    def run(*given: Any, **named: Any) -> str:
        return hide(tool(*given, **named))

    return run


def schema_of(kind: type[object]) -> str:
    """Give the JSON schema of a kind of answer as JSON text."""
    return json.dumps(TypeAdapter(kind).json_schema(), sort_keys=True)


def _reviewed(review: Callable[[T], str | None], hide: Callable[[str], str]) -> Callable[[T], Awaitable[T]]:
    async def validate(answer: T) -> T:
        fault = await anyio.to_thread.run_sync(review, answer)
        if fault:
            raise ModelRetry(hide(fault))
        return answer

    return validate


async def converse(agent: Agent[object, T], prompt: str, conversation: Conversation) -> T:
    """Hold a conversation until its typed answer.

    Raises:
        ModelError: there was none; SetupError, BudgetError: there can be none now.
    """
    error = ""
    try:
        limits = UsageLimits(request_limit=TURNS)
        done = await agent.run(prompt, model=conversation, usage_limits=limits)
        conversation.call = replace(conversation.call, answer=to_json(done.output))
        return done.output
    except (ModelError, SetupError) as fault:
        error = str(fault)
        raise
    except AgentRunError as fault:
        error = conversation.give_up(str(fault))
    finally:
        conversation.call = replace(conversation.call, error=error)
        if conversation.call.turns:
            await conversation.write()
    raise ModelError(error)
