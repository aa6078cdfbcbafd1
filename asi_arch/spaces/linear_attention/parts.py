"""What sets two mixers apart, part by part, and each mixer with one of these parts taken back."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from asi_arch.spaces.linear_attention.changes import fitted, with_first
from asi_arch.spaces.linear_attention.design import Design, tidy
from asi_arch.spaces.linear_attention.limits import fault

Take = Callable[[Design, Design], Design]


def without_each(design: Design, base: Design) -> tuple[tuple[str, Design], ...]:
    """Give the design once for each part in which it differs from a base, with the base's there instead.

    What no longer fits together is dropped, as for moves. A part without which no valid design is left,
    or the same one, is left out; so is the second of two that come to the same.
    """
    found: dict[Design, str] = {}
    for name, take in _parts():
        other = tidy(fitted(take(design, base)))
        if other != design and fault(other) is None:
            found.setdefault(other, name)
    return tuple((name, other) for other, name in found.items())


def _parts() -> Iterator[tuple[str, Take]]:
    yield "residual convolution of the input", _fields("canon")
    yield "short convolutions", _fields("convolved", "kernel")
    yield "token shift", _fields("shifted")
    for name in ("feature", "norm", "rotary", "half", "shared", "corrected"):
        yield f"keys: {name}", _inner("keys", name)
    for name in ("activation", "residual", "twice"):
        yield f"values: {name}", _inner("values", name)
    yield "update rule", _first("update")
    yield "delta steps", _first("steps")
    yield "decay", _first("decay")
    yield "form of the decay", _decay("form")
    yield "time scales of the decay", _decay("scale")
    yield "rank of the decay", _decay("rank")
    yield "write strength", _first("write")
    yield "normalised read", _first("normalised")
    yield (
        "second memory",
        lambda design, base: replace(design, memories=(design.memories[0], *base.memories[1:])),
    )
    yield "local convolution of values", _fields("local")
    yield "window attention", _fields("window")
    yield "identity path", _fields("identity")
    yield "fusion", _fields("fusion")
    yield "output norm", _inner("output", "norm")
    yield "output gate", _inner("output", "gate", "rank")


def _fields(*names: str) -> Take:
    return lambda design, base: replace(design, **_values(base, names))


def _inner(part: str, *names: str) -> Take:
    def take(design: Design, base: Design) -> Design:
        inner: Any = getattr(design, part)
        return replace(design, **{part: replace(inner, **_values(getattr(base, part), names))})

    return take


def _first(name: str) -> Take:
    def take(design: Design, base: Design) -> Design:
        return with_first(design, replace(design.memories[0], **_values(base.memories[0], (name,))))

    return take


def _decay(name: str) -> Take:
    """Take a field of the first memory's decay, where both have one; else nothing."""

    def take(design: Design, base: Design) -> Design:
        own, other = design.memories[0].decay, base.memories[0].decay
        if own is None or other is None:
            return design
        return with_first(design, replace(design.memories[0], decay=replace(own, **_values(other, (name,)))))

    return take


def _values(node: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(node, name) for name in names}
