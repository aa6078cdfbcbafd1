"""Bytes from an enemy, read by a format that holds no code, with a limit before anything is parsed."""

import json
import math
import re
from typing import Any

import numpy as np

from asi_arch.errors import CandidateError

MAX_BYTES = 8 * 2**20  # of all graphs of one candidate
MAX_DEPTH = 24  # of lists and objects in each other; a graph needs 8, a state's structure 8 more
STRING = re.compile(r'"(?:[^"\\]|\\.)*+\\?(?:"|\Z)', re.DOTALL)  # one pass, also where no string ends


def refuse(message: str) -> CandidateError:
    """Give the fault of a graph that is not what the worker makes."""
    return CandidateError("graph", "invalid", clean(message))


def clean(text: str) -> str:
    """Give a text of an enemy's that can be stored, shown and printed: no control characters, no halves.

    A lone surrogate cannot be encoded, a zero byte cannot be stored in every database, and an escape
    sequence can rewrite a terminal.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def strict_json(data: bytes | str) -> Any:
    """Parse JSON with nothing that JSON does not have: no NaN, no infinity, no key twice.

    Raises:
        CandidateError: too long, too deep, not ASCII or malformed.
    """
    if len(data) > MAX_BYTES:
        raise CandidateError("graph", "size", f"graphs of {len(data)} bytes (limit {MAX_BYTES})")
    try:
        text = data if isinstance(data, str) else data.decode("ascii")
    except UnicodeDecodeError:
        raise refuse("JSON that is not ASCII") from None
    if _depth(text) > MAX_DEPTH:
        raise refuse(f"lists more than {MAX_DEPTH} deep in JSON")

    def constant(text: str) -> None:
        raise refuse(f"{text} in JSON")

    def finite(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise refuse(f"{text[:20]} in JSON")
        return value

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in items}) != len(items):
            raise refuse("a key twice in JSON")
        return dict(items)

    try:
        return json.loads(text, parse_constant=constant, parse_float=finite, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise refuse(f"not JSON: {str(error)[:100]}") from None


def _depth(text: str) -> int:
    """Give how deep brackets are nested, without a parser that could be nested as deep."""
    codes = np.frombuffer(STRING.sub("", text).encode("ascii", "replace"), np.uint8)
    opened = (codes == ord("[")) | (codes == ord("{"))
    closed = (codes == ord("]")) | (codes == ord("}"))
    return int(np.cumsum(opened.astype(np.int32) - closed).max(initial=0))
