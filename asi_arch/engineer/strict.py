"""Bytes from an enemy, read by a format that holds no code, with a limit before anything is parsed."""

import json
from typing import Any

from asi_arch.errors import CandidateError

MAX_BYTES = 8 * 2**20  # of all graphs of one candidate


def refuse(message: str) -> CandidateError:
    """Give the fault of a graph that is not what the worker makes."""
    return CandidateError("graph", "invalid", message)


def strict_json(data: bytes | str) -> Any:
    """Parse JSON with nothing that JSON does not have: no NaN, no key twice.

    Raises:
        CandidateError: too long, too deep or malformed.
    """
    if len(data) > MAX_BYTES:
        raise CandidateError("graph", "size", f"graphs of {len(data)} bytes (limit {MAX_BYTES})")

    def constant(text: str) -> None:
        raise refuse(f"{text} in JSON")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in items}) != len(items):
            raise refuse("a key twice in JSON")
        return dict(items)

    try:
        return json.loads(data, parse_constant=constant, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise refuse(f"not JSON: {str(error)[:100]}") from None
