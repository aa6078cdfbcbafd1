"""What was said to language models and by them: records of every call, which the archive keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What went wrong between us and a language model, and what was done about it.

    kind: an HTTP status such as `429`; `timeout`, `connection`, `garbled` (no answer that can be read),
    `answer`, `tool` (one that does not fit what was asked), `setting` (refused by the provider).
    action: in words, such as "waited 2.0 s and asked again".
    """

    kind: str
    message: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """A model's wish to have a tool run. arguments: JSON text as the model wrote it, valid or not."""

    tool: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation with a language model.

    author: `tool` messages are what a tool gave, or what was wrong with how it was used.
    thoughts: reasoning that a provider shows. tool, use: name and `ToolUse.id` that a `tool` message is for.
    faulty: it tells the model what was wrong with its answer.
    """

    author: Literal["system", "user", "model", "tool"]
    text: str = ""
    thoughts: str = ""
    uses: tuple[ToolUse, ...] = ()
    tool: str = ""
    use: str = ""
    faulty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request to a language model, tries included.

    asked: what is new since the answer of the turn before. answer: None when none came.
    model: that answered, as the provider names it. tokens_cached: of `tokens_in`, those from a cache.
    dollars: None when the price is unknown. seconds: from the first try to the answer, waits included.
    faults: in order; those of an answer that was sent back are with the turn of that answer.
    """

    asked: tuple[Message, ...]
    answer: Message | None = None
    model: str = ""
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    dollars: float | None = None
    seconds: float = 0.0
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One question to a language model, with the whole conversation until its typed answer.

    id: 0 until an archive gives one. experiment: whose question it is; None for one of the study.
    model: as in the settings, such as "openai:gpt-5-mini". options: what else the answers depend on, such
    as the temperature. schema, tools: JSON text of the answer's JSON schema and of the tools offered.
    answer: JSON text of the typed answer; "" while there is none. error: why there is none.
    """

    role: str
    model: str
    id: int = 0
    experiment: int | None = None
    options: Mapping[str, int | float | str] = field(default_factory=dict)
    schema: str = ""
    tools: str = ""
    turns: tuple[Turn, ...] = ()
    answer: str = ""
    error: str = ""
    started_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What a study's calls of language models came to.

    requests: answers of models. dollars: of those whose price is known. unpriced: the others.
    """

    calls: int = 0
    requests: int = 0
    tokens: int = 0
    dollars: float = 0.0
    unpriced: int = 0
