"""A model that is a function: deterministic, without a network, for tests and tutorials."""

from collections.abc import Callable
from typing import Any

from asi_arch.calls import Message, ToolUse, Turn
from asi_arch.llm.source import Reply, Request
from asi_arch.records import to_json

OUTPUT_TOOL = "final_result"  # a model hands in its typed answer through this tool


def typed(answer: object) -> Message:
    """Give a typed answer, a record or a plain value, as a model's message."""
    return use(OUTPUT_TOOL, to_json(answer))


def use(tool: str, arguments: str) -> Message:
    """Give the use of a tool as a model's message. arguments: JSON text, valid or not."""
    return Message(author="model", uses=(ToolUse(tool=tool, arguments=arguments, id="use"),))


class Scripted:
    """A source that asks a function, on the event loop: it decides from the request alone, and at once.

    Args:
        decide: gives the model's message for a request; what it raises, `ask` raises.
        tokens: (in, out) that every answer is said to have cost.
        dollars: that every answer is said to have cost; None for an unknown price.
    """

    def __init__(
        self,
        decide: Callable[[Request], Message],
        tokens: tuple[int, int] = (0, 0),
        dollars: float | None = None,
    ) -> None:
        self._decide, self._tokens, self._dollars = decide, tokens, dollars

    async def answer(self, request: Request) -> Reply:
        """Give what the function says; see `Source.answer`."""
        tokens: dict[str, Any] = dict(zip(("tokens_in", "tokens_out"), self._tokens, strict=True))
        message = self._decide(request)
        turn = Turn(asked=(), answer=message, model=str(self), dollars=self._dollars, **tokens)
        return Reply(turn=turn, model=str(self))

    async def close(self) -> None:
        """Do nothing."""

    def __str__(self) -> str:
        """Give its name."""
        return "scripted"
