"""What a model's server is asked and says, read and written in OpenAI's and in Anthropic's protocol."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

OUTPUT_TOOL = "final_result"  # the tool by which the client takes a typed answer


@dataclass(frozen=True)
class Asked:
    """One request. messages: (author, text) pairs; a tool's result has author `tool`."""

    number: int
    protocol: str
    model: str
    system: str
    messages: tuple[tuple[str, str], ...]
    tools: tuple[str, ...]
    stream: bool
    headers: Mapping[str, str] = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)

    @property
    def last(self) -> str:
        return self.messages[-1][1] if self.messages else ""

    @property
    def text(self) -> str:
        """All that the request says, to look for words in."""
        return "\n".join([self.system, *(text for _, text in self.messages)])

    @property
    def turn(self) -> int:
        """How often the model has answered in this conversation: 0 at its first request."""
        return sum(author == "assistant" for author, _ in self.messages)

    @property
    def results(self) -> list[str]:
        """Results of tools so far; feedback on a faulty answer is one too."""
        return [text for author, text in self.messages if author == "tool"]

    def about(self, words: str) -> bool:
        return words in self.text


@dataclass(frozen=True)
class Say:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Use:
    """Calls of tools: (name, arguments) pairs; a string goes out as it is, valid or not."""

    calls: tuple[tuple[str, Mapping[str, Any] | str], ...]
    text: str = ""


def use(name: str, **arguments: Any) -> Use:
    return Use(((name, arguments),))


@dataclass(frozen=True)
class Answer:
    """A typed answer: by the output tool, or as JSON text where there is none. A string may be malformed."""

    values: Mapping[str, Any] | str


@dataclass(frozen=True)
class Status:
    """A refusal. message: of the error; "KEY" in it becomes the key that was sent, as some servers do."""

    code: int
    message: str = "scripted refusal"
    kind: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class Truncated:
    """Half of an answer, then the connection closes."""

    reply: Say | Use | Answer = Say("an answer of which only the first half will arrive")


@dataclass(frozen=True)
class Garbage:
    """Status 200 with a body that is no JSON."""

    body: str = '{"choices": [{"message": {"role": "assis'


@dataclass(frozen=True)
class Reset:
    """The connection is reset before anything is answered."""


@dataclass(frozen=True)
class Slow:
    """An answer after some seconds; given up at once when the server closes."""

    seconds: float
    reply: "Reply" = Say("late")


@dataclass(frozen=True)
class Overloaded:
    """In a stream: a first piece, then an error event; without a stream, status 529 or 503."""


Reply = Say | Use | Answer | Status | Truncated | Garbage | Reset | Slow | Overloaded


Read = tuple[str, tuple[tuple[str, str], ...], tuple[str, ...]]


def _plain(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(piece.get("text", "") for piece in content if piece.get("type") == "text")


def read_openai(body: Mapping[str, Any]) -> Read:
    system, messages = [], []
    for message in body["messages"]:
        text = _plain(message.get("content"))
        if message["role"] in ("system", "developer"):
            system.append(text)
        else:
            messages.append((message["role"], text))
    tools = tuple(tool["function"]["name"] for tool in body.get("tools") or ())
    return "\n".join(system), tuple(messages), tools


def read_anthropic(body: Mapping[str, Any]) -> Read:
    messages: list[tuple[str, str]] = []
    for message in body["messages"]:
        content = message["content"]
        pieces = [{"type": "text", "text": content}] if isinstance(content, str) else content
        results = [piece for piece in pieces if piece["type"] == "tool_result"]
        messages += [("tool", _plain(piece.get("content"))) for piece in results]
        if len(results) < len(pieces):
            messages.append((message["role"], _plain(pieces)))
    return (
        _plain(body.get("system")),
        tuple(messages),
        tuple(tool["name"] for tool in body.get("tools") or ()),
    )


def _parts(asked: Asked, reply: Any) -> tuple[str, list[tuple[str, str, str]]]:
    """Give an answer's text and its calls as (id, tool, arguments as JSON text)."""
    if isinstance(reply, Truncated):
        reply = reply.reply
    if isinstance(reply, Answer):
        text = reply.values if isinstance(reply.values, str) else json.dumps(reply.values)
        reply = Use(((OUTPUT_TOOL, text),)) if OUTPUT_TOOL in asked.tools else Say(text)
    if isinstance(reply, Say):
        return reply.text, []
    if isinstance(reply, Overloaded):
        return "a first piece", []
    calls = []
    for place, (name, given) in enumerate(reply.calls):
        arguments = given if isinstance(given, str) else json.dumps(given)
        calls.append((f"call_{asked.turn}_{place}", name, arguments))
    return reply.text, calls


def _usage(asked: Asked, answer: str, tokens: tuple[int, int] | None) -> tuple[int, int]:
    return tokens or (max(1, len(asked.text) // 4), max(1, len(answer) // 4))


def whole_answer(asked: Asked, reply: Any, tokens: tuple[int, int] | None) -> dict[str, Any]:
    text, calls = _parts(asked, reply)
    tokens_in, tokens_out = _usage(asked, text + "".join(arguments for _, _, arguments in calls), tokens)
    if asked.protocol == "anthropic":
        content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        content += [
            {"type": "tool_use", "id": id, "name": name, "input": _object(arguments)}
            for id, name, arguments in calls
        ]
        return {
            "id": f"msg_{asked.number}", "type": "message", "role": "assistant", "model": asked.model,
            "content": content, "stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": tokens_in, "output_tokens": tokens_out},
        }  # fmt: skip
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    if calls:
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in calls
        ]
    reason = "tool_calls" if calls else "stop"
    return {
        "id": f"chatcmpl-{asked.number}", "object": "chat.completion", "created": int(time.time()),
        "model": asked.model, "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out,
                  "total_tokens": tokens_in + tokens_out},
    }  # fmt: skip


def _object(arguments: str) -> Any:
    """Anthropic sends arguments as an object; what is none goes out as the text that it is."""
    try:
        return json.loads(arguments)
    except json.JSONDecodeError:
        return arguments


def _pieces(text: str) -> Iterator[str]:
    size = max(1, len(text) // 3)
    yield from (text[start : start + size] for start in range(0, len(text), size))


def events_of(asked: Asked, reply: Any, tokens: tuple[int, int] | None) -> Iterator[str]:
    whole = whole_answer(asked, reply, tokens)
    events = _openai_events if asked.protocol == "openai" else _anthropic_events
    yield from events(asked, whole, reply)


def _openai_events(asked: Asked, whole: dict[str, Any], reply: Any) -> Iterator[str]:
    choice = whole["choices"][0]
    head = {
        "id": whole["id"],
        "object": "chat.completion.chunk",
        "created": whole["created"],
        "model": asked.model,
    }

    def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
        return _data({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(choice["message"]["content"] or ""):
        yield chunk({"content": piece})
    if isinstance(reply, Overloaded):
        yield _data({"error": {"message": "overloaded", "type": "server_error", "code": "server_error"}})
        return
    for place, call in enumerate(choice["message"].get("tool_calls", ())):
        name = {"name": call["function"]["name"], "arguments": ""}
        yield chunk(
            {"tool_calls": [{"index": place, "id": call["id"], "type": "function", "function": name}]}
        )
        for piece in _pieces(call["function"]["arguments"]):
            yield chunk({"tool_calls": [{"index": place, "function": {"arguments": piece}}]})
    yield chunk({}, choice["finish_reason"])
    yield _data({**head, "choices": [], "usage": whole["usage"]})
    yield "data: [DONE]\n\n"


def _anthropic_events(asked: Asked, whole: dict[str, Any], reply: Any) -> Iterator[str]:
    def event(kind: str, **values: Any) -> str:
        return f"event: {kind}\n" + _data({"type": kind, **values})

    usage = whole["usage"]
    start = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield event("message_start", message=start)
    texts = {id: arguments for id, _, arguments in _parts(asked, reply)[1]}
    for index, block in enumerate(whole["content"]):
        is_text = block["type"] == "text"
        empty = {**block, "text": ""} if is_text else {**block, "input": {}}
        yield event("content_block_start", index=index, content_block=empty)
        for piece in _pieces(block["text"] if is_text else texts[block["id"]]):
            delta = {"type": "text_delta", "text": piece} if is_text else {
                "type": "input_json_delta", "partial_json": piece}  # fmt: skip
            yield event("content_block_delta", index=index, delta=delta)
        if isinstance(reply, Overloaded):
            yield event("error", error={"type": "overloaded_error", "message": "overloaded"})
            return
        yield event("content_block_stop", index=index)
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=stop, usage={"output_tokens": usage["output_tokens"]})
    yield event("message_stop")


def _data(values: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(values)}\n\n"
