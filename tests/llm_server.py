"""A language model's server on loopback, whose answers a test scripts, in OpenAI's and Anthropic's protocol.

    with Server([Answer({"name": "a"}), Status(429, retry_after=1)]) as server:   # answers in order
    with Server(lambda asked: Answer(...) if asked.about("you design") else Say("no")) as server:
    with Server(by_marker({"You design": designer, "You judge": [Answer({...})]})) as server:

`server.openai` and `server.anthropic` are base URLs; `server.requests` is all that was asked, in order of
arrival. One server serves any number of threads. A script that is a function decides from what was asked
alone, so a study with several workers gets the same answers whatever the order of arrival.
"""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from llm_wire import (
    Answer,
    Asked,
    Garbage,
    Overloaded,
    Reply,
    Reset,
    Say,
    Slow,
    Status,
    Truncated,
    Use,
    events_of,
    read_anthropic,
    read_openai,
    use,
    whole_answer,
)  # fmt: skip

__all__ = [
    "Answer", "Asked", "Garbage", "Overloaded", "Reply", "Reset", "Say", "Server", "Slow", "Status",
    "Truncated", "Use", "by_marker", "first", "in_order", "use",
]  # fmt: skip

Decide = Callable[[Asked], Reply]
Script = Decide | Iterable[Reply]


def in_order(replies: Iterable[Reply]) -> Decide:
    """Give replies one after the other; each is used once, and one too few is an error of the test."""
    left, lock = iter(replies), threading.Lock()

    def decide(asked: Asked) -> Reply:
        with lock:
            return next(left, Status(400, f"the script has no answer for request {asked.number}"))

    return decide


def by_marker(scripts: Mapping[str, Script]) -> Decide:
    """Give each request to the script whose marker stands in its system prompt: one for each role."""
    deciders = {marker: _decider(script) for marker, script in scripts.items()}

    def decide(asked: Asked) -> Reply:
        for marker, decider in deciders.items():
            if marker in asked.system:
                return decider(asked)
        return Status(400, f"no script for the system prompt {asked.system[:60]!r}")

    return decide


def first(faults: Iterable[Reply], then: Script) -> Decide:
    """Give some replies to the first requests, whoever sends them, and let a script answer the rest."""
    left, lock, decider = iter(faults), threading.Lock(), _decider(then)

    def decide(asked: Asked) -> Reply:
        with lock:
            fault = next(left, None)
        return fault or decider(asked)

    return decide


def _decider(script: Script) -> Decide:
    return script if callable(script) else in_order(script)


class Server:
    """The server, a context manager. tokens: (in, out) in every answer; else counted from its length."""

    def __init__(self, script: Script, tokens: tuple[int, int] | None = None) -> None:
        self.requests: list[Asked] = []
        self.tokens = tokens
        self._decide = _decider(script)
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def openai(self) -> str:
        return f"{self.root}/v1"

    @property
    def anthropic(self) -> str:
        return self.root

    def asked(self, words: str) -> list[Asked]:
        """Give the requests that say some words."""
        return [asked for asked in self.requests if asked.about(words)]

    def decide(
        self, protocol: str, headers: Mapping[str, str], body: Mapping[str, Any]
    ) -> tuple[Asked, Reply]:
        read = read_openai if protocol == "openai" else read_anthropic
        system, messages, tools = read(body)
        with self._lock:
            asked = Asked(
                number=len(self.requests), protocol=protocol, model=str(body.get("model")), system=system,
                messages=messages, tools=tools, stream=bool(body.get("stream")), headers=headers, body=body,
            )  # fmt: skip
            self.requests.append(asked)
        return asked, self._decide(asked)


class _Http(ThreadingHTTPServer):
    owner: Server
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        protocol = "openai" if self.path.endswith("/chat/completions") else "anthropic"
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked, reply = self.server.owner.decide(protocol, headers, body)
        while isinstance(reply, Slow):
            if self.server.owner.closing.wait(reply.seconds):
                return self._reset()
            reply = reply.reply
        if isinstance(reply, Reset):
            return self._reset()
        if isinstance(reply, Overloaded) and not asked.stream:
            reply = Status(529 if protocol == "anthropic" else 503, "overloaded", "overloaded_error")
        if isinstance(reply, Status):
            return self._refuse(asked, reply)
        if isinstance(reply, Garbage):
            kind = "text/event-stream" if asked.stream else "application/json"
            event = "event: message_start\n" if protocol == "anthropic" else ""
            return self._send(200, f"{event}data: {reply.body}\n\n" if asked.stream else reply.body, kind)
        if asked.stream:
            return self._stream(asked, reply)
        text = json.dumps(whole_answer(asked, reply, self.server.owner.tokens))
        return self._send(200, text, cut=isinstance(reply, Truncated))

    def _refuse(self, asked: Asked, reply: Status) -> None:
        key = asked.headers.get("authorization", "").removeprefix("Bearer ") or asked.headers.get(
            "x-api-key", ""
        )
        error = {"message": reply.message.replace("KEY", key), "type": reply.kind or "scripted"}
        body = {"type": "error", "error": error} if asked.protocol == "anthropic" else {"error": error}
        extra = {} if reply.retry_after is None else {"retry-after": str(reply.retry_after)}
        self._send(reply.code, json.dumps(body), headers=extra)

    def _send(
        self, code: int, text: str, kind: str = "application/json", cut: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        data = text.encode()
        self.send_response(code)
        for name, value in {"content-type": kind, "content-length": len(data), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = cut or self.close_connection

    def _stream(self, asked: Asked, reply: Any) -> None:
        events = list(events_of(asked, reply, self.server.owner.tokens))
        if isinstance(reply, Truncated):
            events = events[: max(1, len(events) // 2)]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            data = event.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        if isinstance(reply, Truncated):
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
