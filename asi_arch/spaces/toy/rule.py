"""A candidate of the toy space: a list of terms, read from text without running anything."""

import ast
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asi_arch.errors import CandidateError

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of term: a function of x, the ranges of its parameters, and its price.

    ranges: whole bounds mean that the parameter is whole.
    flops: of one value, a transcendental function counted as 8.
    """

    function: Callable[..., float]
    ranges: Mapping[str, Range]
    flops: int


KINDS: Mapping[str, Kind] = {
    "power": Kind(function=lambda x, degree: x**degree, ranges={"degree": (1, 8)}, flops=4),
    "wave": Kind(
        function=lambda x, frequency, phase: math.sin(frequency * x + phase),
        ranges={"frequency": (0.25, 16.0), "phase": (-4.0, 4.0)},
        flops=10,
    ),
    "hinge": Kind(function=lambda x, at: max(0.0, x - at), ranges={"at": (-2.0, 2.0)}, flops=2),
    "bump": Kind(
        function=lambda x, at, width: math.exp(-(((x - at) / width) ** 2)),
        ranges={"at": (-2.0, 2.0), "width": (0.05, 2.0)},
        flops=11,
    ),
}
GAIN: Range = (0.01, 100.0)


@dataclass(frozen=True, slots=True, order=True)
class Term:
    """One term: gain * function(x, *values), the values in the order of the kind's ranges."""

    kind: str
    values: tuple[float, ...]
    gain: float = 1.0

    def __call__(self, x: float) -> float:
        """Give the term's value at x."""
        return self.gain * KINDS[self.kind].function(x, *self.values)

    def fields(self) -> dict[str, str | float]:
        """Give the term as it stands in a source and in a graph."""
        named = dict(zip(KINDS[self.kind].ranges, self.values, strict=True))
        return {"kind": self.kind, **named, **({} if self.gain == 1 else {"gain": self.gain})}


def read_rule(source: str) -> tuple[Term, ...]:
    """Give the terms of a source: an optional docstring and `RULE = {"terms": [...]}`, a literal.

    Raises:
        CandidateError: phase `source`: it is no such text. Phase `graph`: a term is not allowed.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise _fault("source", "syntax", f"not a Python literal: {error}") from None
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    match body:
        case [ast.Assign(targets=[ast.Name(id="RULE")], value=value)]:
            pass
        case _:
            raise _fault("source", "structure", "the text must be one assignment RULE = {...}")
    try:
        rule = ast.literal_eval(value)
    except (ValueError, TypeError, MemoryError, RecursionError):
        message = f"line {value.lineno}: RULE must be a literal; calls and names are not allowed"
        raise _fault("source", "literal", message) from None
    if not isinstance(rule, dict) or set(rule) != {"terms"} or not isinstance(rule["terms"], list):
        raise _fault("source", "structure", 'RULE must be {"terms": [...]} and nothing else')
    return tuple(_term(i, fields) for i, fields in enumerate(rule["terms"]))


def to_bundle(terms: tuple[Term, ...]) -> str:
    """Give the graph of a rule: the order of terms and the layout of the text are gone."""
    return json.dumps({"terms": [term.fields() for term in sorted(terms)]})


def from_bundle(bundle: str) -> tuple[Term, ...]:
    """Give the terms of a graph. Raises CandidateError as `read_rule` does for its terms."""
    return tuple(_term(i, fields) for i, fields in enumerate(json.loads(bundle)["terms"]))


def _term(i: int, fields: object) -> Term:
    if not isinstance(fields, dict) or fields.get("kind") not in KINDS:
        raise _fault("graph", "operator", f"term {i} has no kind out of {', '.join(KINDS)}: {fields!r}")
    ranges = KINDS[fields["kind"]].ranges
    unknown = sorted(str(name) for name in set(fields) - {"kind", "gain", *ranges})
    if unknown:
        raise _fault("graph", "field", f"term {i}: a {fields['kind']} has no {', '.join(unknown)}")
    values = tuple(_number(i, fields, name, low, high) for name, (low, high) in ranges.items())
    gain = _number(i, {"gain": 1.0} | fields, "gain", *GAIN)
    return Term(fields["kind"], values, gain)


def _number(i: int, fields: Mapping[str, object], name: str, low: float, high: float) -> float:
    value: Any = fields.get(name)
    whole = isinstance(low, int)
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        noun = "a whole number" if whole else "a number"
        raise _fault("graph", "range", f"term {i}: {name} must be {noun} from {low} to {high}, not {value!r}")
    return int(value) if whole else float(value)


def _fault(phase: str, kind: str, message: str) -> CandidateError:
    return CandidateError(phase, kind, message)
