"""Prove of one graph that outputs depend on no later position and on no other row."""

from dataclasses import dataclass
from typing import Any

import torch

from asi_arch.engineer.graph import DTYPES, Graph, decode_number, decode_plain
from asi_arch.engineer.proof import mixing  # noqa: F401 - its rules join the others
from asi_arch.engineer.proof.rules import RULES, apply
from asi_arch.engineer.proof.values import Abstract, TooCoarseError, constant, unknown

ROWS = 3  # an odd number, so that no row but the middle one stays in place when rows are reversed
LABELLINGS = 3  # positions; rows counted up; rows counted down
ERRORS = (RuntimeError, IndexError, ValueError, TypeError)  # what a graph that does not fit raises


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was proven of one graph.

    causal: no output depends on a later position. separate: no row of the outputs or of the next
    state depends on another row. reason: why not, when one is False; "" otherwise.
    """

    causal: bool
    separate: bool
    reason: str = ""


def prove(graph: Graph) -> Proof:
    """Interpret a graph on labels.

    A proof holds for all parameters, all states and all inputs whose values stay finite, at the
    graph's T, for rows that are treated as three rows are.
    """
    try:
        values = _run(graph)
    except TooCoarseError as error:
        return Proof(causal=False, separate=False, reason=str(error))
    except ERRORS as error:
        words = (str(error).splitlines() or [""])[0][:120]
        return Proof(causal=False, separate=False, reason=f"{type(error).__name__}: {words}")
    y = values[graph.outputs[0]]
    limit = torch.arange(1, graph.length + 1, dtype=torch.int32)[None, :, None]
    late = (y.labels[0] > limit).any(-1).any(0)
    separate = all(_rows_apart(values[i]) for i in graph.outputs)
    reasons = []
    if bool(late.any()):
        at = int(late.int().argmax())
        seen = int(y.labels[0][:, at].max()) - 1
        reasons.append(f"position {at} may depend on position {seen}")
    if not separate:
        reasons.append("a row may depend on another")
    reasons += [f"{name} is not followed" for name in _unfollowed(graph)] if reasons else []
    return Proof(causal=not bool(late.any()), separate=separate, reason="; ".join(reasons))


def _rows_apart(value: Abstract) -> bool:
    if not value.shape or value.shape[0] != ROWS:
        return not bool(value.labels[1:].any())
    row = torch.arange(1, ROWS + 1, dtype=torch.int32).reshape(-1, *[1] * (len(value.shape) - 1))
    return not bool((value.labels[1] > row).any()) and not bool((value.labels[2] > ROWS + 1 - row).any())


def _unfollowed(graph: Graph) -> list[str]:
    names = {name for name, _, _ in graph.nodes} - {"constant", "getitem"}
    return sorted(name for name in names if name not in RULES and not _makes(name))[:3]


def _makes(name: str) -> bool:
    from asi_arch.engineer.proof.rules import _KINDS

    return name.removeprefix("aten.") in _KINDS["make"]


def _run(graph: Graph) -> list[Any]:
    """Give the abstract value, or values, of every input and node."""
    values: list[Any] = [_input(entry.kind, entry.shape, entry.dtype) for entry in graph.inputs]

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(v) for v in value]
        if not isinstance(value, dict):
            return value
        ((key, inner),) = value.items()
        if key == "r":
            return values[inner]
        if key == "b":
            return inner[0] * ROWS + inner[1]
        return DTYPES[inner] if key == "dtype" else decode_plain(key, inner)

    for name, args, kwargs in graph.nodes:
        if name == "constant":
            numbers = [decode_number(v) for v in args[0]]
            values.append(constant(torch.tensor(numbers, dtype=DTYPES[args[2]]).reshape(args[1]), LABELLINGS))
        elif name == "getitem":
            values.append(values[args[0]["r"]][args[1]])
        else:
            decoded = [decode(a) for a in args]
            values.append(apply(name, decoded, {k: decode(v) for k, v in kwargs.items()}, LABELLINGS))
    return values


def _input(kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Abstract:
    sizes = [ROWS if s == -1 else s for s in shape]
    labels = torch.zeros(LABELLINGS, *sizes, dtype=torch.int32)
    if kind != "tensor" and sizes:
        row = torch.arange(1, ROWS + 1, dtype=torch.int32).reshape(-1, *[1] * (len(sizes) - 1))
        labels[1], labels[2] = row, ROWS + 1 - row
    if kind == "x":
        labels[0] = torch.arange(1, sizes[1] + 1, dtype=torch.int32)[None, :, None]
    return unknown(labels, dtype)
