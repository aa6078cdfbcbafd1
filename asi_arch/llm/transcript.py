"""Between the library's messages and ours, which say the same and outlive the library's versions."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    RetryFeedbackPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from asi_arch.calls import Message, ToolUse, Turn


def transcript(messages: Sequence[ModelMessage]) -> tuple[Message, ...]:
    """Give a conversation in our terms, in order."""
    found: list[Message] = []
    for message in messages:
        if isinstance(message, ModelResponse):
            found.append(answer_of(message))
        else:
            found += [_asked(part) for part in message.parts]
    return tuple(found)


def answer_of(response: ModelResponse) -> Message:
    """Give a model's answer in our terms; several pieces of text become one, paragraph by paragraph."""
    parts = response.parts
    uses = [
        ToolUse(
            tool=part.tool_name,
            arguments=_arguments(part),
            id=part.tool_call_id,
        )
        for part in parts
        if isinstance(part, ToolCallPart)
    ]
    return Message(
        author="model",
        text="\n\n".join(part.content for part in parts if isinstance(part, TextPart)),
        thoughts="\n\n".join(part.content for part in parts if isinstance(part, ThinkingPart)),
        uses=tuple(uses),
    )


def cleaned(response: ModelResponse, clean: Callable[[str], str]) -> ModelResponse:
    """Give a model's answer in which every text was cleaned; what a provider signed stays as it is."""
    parts: list[ModelResponsePart] = []
    for part in response.parts:
        if isinstance(part, TextPart | ThinkingPart) and clean(part.content) != part.content:
            parts.append(replace(part, content=clean(part.content)))
        elif isinstance(part, ToolCallPart):
            parts.append(replace(part, args=clean(_arguments(part))))
        else:
            parts.append(part)
    return replace(response, parts=parts)


def _arguments(part: ToolCallPart) -> str:
    return part.args if isinstance(part.args, str) else json.dumps(part.args or {}, ensure_ascii=False)


def response_of(answer: Message, turn: Turn) -> ModelResponse:
    """Give an answer in the library's terms; it has no thoughts, which only their provider could check."""
    parts: list[ModelResponsePart] = [TextPart(answer.text)] if answer.text else []
    parts += [ToolCallPart(use.tool, use.arguments, use.id) for use in answer.uses]
    return ModelResponse(parts=parts, model_name=turn.model)


def _asked(part: ModelRequestPart) -> Message:
    if isinstance(part, SystemPromptPart):
        return Message(author="system", text=part.content)
    if isinstance(part, UserPromptPart):
        assert isinstance(part.content, str), "we ask in text only"
        return Message(author="user", text=part.content)
    if isinstance(part, RetryFeedbackPart):
        return Message(author="user", text=part.model_response(), faulty=True)
    assert isinstance(part, ToolReturnPart), f"no message of ours: {type(part).__name__}"
    return Message(
        author="tool",
        text=part.model_response_str(),
        tool=part.tool_name,
        use=part.tool_call_id,
        faulty=part.outcome == "retried",
    )


def in_plain_turns(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """Give a conversation in which feedback on an answer is a user's message, as in our transcript.

    The library would send some of it as a system message in mid-conversation, which many servers refuse.
    """
    return [
        replace(message, parts=[_plain(part) for part in message.parts])
        if isinstance(message, ModelRequest)
        else message
        for message in messages
    ]


def _plain(part: ModelRequestPart) -> ModelRequestPart:
    return UserPromptPart(part.model_response()) if isinstance(part, RetryFeedbackPart) else part
