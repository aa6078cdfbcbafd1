"""What a conversation asks of whoever answers: a provider, a record or a script."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from asi_arch.calls import Fault, Message, Turn
from asi_arch.errors import ModelError, SetupError


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to a model: the whole conversation so far, and what its answer must be like.

    options, schema, tools: as in `Call`. raw: the same in the library's terms, for a provider.
    """

    role: str
    experiment: int | None
    options: Mapping[str, int | float | str]
    schema: str
    tools: str
    messages: tuple[Message, ...]
    raw: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of a request. raw: the answer in the library's terms, if a provider gave one.

    turn: all but `asked`; without an answer, the last of its faults says why there is none.
    model: that the call is noted with.
    """

    turn: Turn
    model: str
    raw: Any = field(default=None, repr=False)


class Source(Protocol):
    """Answers requests. All its methods but `__str__` run on one event loop."""

    async def answer(self, request: Request) -> Reply:
        """Give what came of a request. Raises SetupError when a record lacks it."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...

    def __str__(self) -> str:
        """Give the model's name as in the settings."""
        ...


SETUP = {
    "401": "refused the key",
    "403": "refused the key",
    "404": "is not there",
    "quota": "has no credit left",
}


def failure(model: str, fault: Fault) -> ModelError | SetupError:
    """Give the exception for a fault that ended a request."""
    if fault.kind in SETUP:
        return SetupError(f"model '{model}' {SETUP[fault.kind]} ({fault.kind}): {fault.message}")
    return ModelError(f"model '{model}' gave no answer ({fault.kind}): {fault.message}")


def key_of(request: Request) -> str:
    """Give the hash of all that an answer depends on; ids that a provider drew are not among it."""
    content = [
        request.role,
        sorted(request.options.items()),
        request.schema,
        request.tools,
        [plain(message) for message in request.messages],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def plain(message: Message) -> list[Any]:
    """Give what a message says to a model, without ids and thoughts."""
    uses = [[use.tool, use.arguments] for use in message.uses]
    return [message.author, message.text, message.tool, uses]
