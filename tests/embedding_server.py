"""A server of embeddings on loopback, in OpenAI's protocol: the vector of a text counts its words by hash."""

import hashlib
import json
import re
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WIDTH = 256


def vector(text: str) -> list[float]:
    """Give a vector in which texts with equal words are near: the place of a word is its hash."""
    row = [0.0] * WIDTH
    for word in re.findall(r"[a-z]+", text.lower()):
        row[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % WIDTH] += 1.0
    return row


class EmbeddingServer:
    """The server, a context manager. faults: statuses of the first answers. texts: all that was asked.

    limit: texts after which everything is refused; None for never.
    """

    def __init__(self, faults: Sequence[int] = (), limit: int | None = None) -> None:
        self.texts: list[str] = []
        self.limit = limit
        self.models: set[str] = set()
        self.faults, self.lock = list(faults), threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> "EmbeddingServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    owner: EmbeddingServer
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        owner = self.server.owner
        assert self.path == "/v1/embeddings"
        with owner.lock:
            fault = owner.faults.pop(0) if owner.faults else 0
            if owner.limit is not None and len(owner.texts) >= owner.limit:
                fault = 402
            if not fault:
                owner.texts += body["input"]
                owner.models.add(body["model"])
        if fault:
            key = self.headers.get("authorization", "").removeprefix("Bearer ")
            return self._send(fault, {"error": {"message": f"scripted refusal of {key}", "type": "scripted"}})
        rows = [
            {"object": "embedding", "index": i, "embedding": vector(text)}
            for i, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        rows.reverse()  # the protocol promises an index, and no order
        return self._send(200, {"object": "list", "data": rows, "model": body["model"], "usage": usage})

    def _send(self, status: int, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
