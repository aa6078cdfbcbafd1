"""Recognise a memory: what a call of a recurrence updates, forgets and writes, from what flows into it."""

import ast
from collections.abc import Iterable
from typing import Any

from asi_arch.spaces.linear_attention.design import TIME_SCALES, Decay, Memory, choices
from asi_arch.spaces.linear_attention.flow import Flow, argument, called, calls, own, owned

RECURRENCES = {
    "linear_attention": ("additive", None),
    "retention": ("additive", "fixed"),
    "simple_gla": ("additive", "scalar"),
    "gla": ("additive", "channel"),
    "delta_rule": ("delta", None),
    "gated_delta_rule": ("delta", "scalar"),
    "kda": ("delta", "channel"),
}
CONVOLUTIONS = ("ShortConvolution", "Conv1d")
MAPS = ("Linear", "Sequential", *CONVOLUTIONS)


def recognise_memory(flow: Flow, op: ast.Call, place: int) -> Memory:
    """Give the memory of the recurrence that a call runs, the first or the second of its mixer."""
    update, kind = RECURRENCES[called(op)]
    given = argument(op, 3, "g") if kind else None
    nodes = flow.reaches(given) if given is not None else []
    decay = _decay(flow, kind, nodes, place) if kind else None
    steps = 1
    for call in calls(flow.reaches(op.args[0]) if op.args else [], "repeat_interleave"):
        steps = int(nearest((1, 2, 3), flow.number(argument(call, 0, "repeats")) or 1))
    values = flow.reaches(op.args[2]) if len(op.args) > 2 else []
    return Memory(
        update=update,  # type: ignore[arg-type]
        steps=steps if place == 0 else 1,  # type: ignore[arg-type]
        decay=decay,
        write=_write(flow, op, update, kind is not None),  # type: ignore[arg-type]
        normalised=update == "additive" and any(_ones(flow, call) for call in calls(values, "pad")),
    )


def _ones(flow: Flow, pad: ast.Call) -> bool:
    return flow.number(argument(pad, 3, "value")) == 1.0


def _write(flow: Flow, op: ast.Call, update: str, decays: bool) -> str:
    values = _factor(flow, op.args[2] if len(op.args) > 2 else None)
    if update == "delta":
        beta = argument(op, 4 if decays else 3, "beta")
        nodes = flow.reaches(beta) if beta is not None else []
        if not calls(nodes, "sigmoid"):
            return "full"
        if calls(values, "sigmoid"):
            return "apart"
        return "double" if any(doubles(flow, n) for n in nodes) else "sigmoid"
    keys = flow.reaches(op.args[1]) if len(op.args) > 1 else []
    if calls(keys, "expm1"):
        return "tied"
    if calls(values, "softplus"):
        return "step"
    return "sigmoid" if calls(values, "sigmoid") else "full"


def _factor(flow: Flow, value: ast.expr | None) -> list[ast.AST]:
    """Give what flows into the factor that is applied to the values on their way into an op."""
    match value:
        case ast.BinOp(op=ast.Mult(), right=right):
            return flow.reaches(right)
    return []


def doubles(flow: Flow, node: ast.AST) -> bool:
    """Tell whether a node is twice a sigmoid."""
    match node:
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            two = 2.0 in (flow.number(left), flow.number(right))
            return two and bool(calls(ast.walk(node), "sigmoid"))
    return False


def _decay(flow: Flow, kind: str, nodes: list[ast.AST], place: int) -> Decay:
    layers = [n for n in owned(nodes) if flow.made_by(n) in MAPS and not of_input(flow, n)]
    if not layers and kind in ("fixed", "scalar"):
        learned = any(flow.made_by(n) == "Parameter" for n in owned(nodes))
        kind = "learned" if learned else "fixed"
    form = "softplus"
    if calls(nodes, "logsigmoid"):
        form = "logsigmoid"
    elif calls(nodes, "sigmoid"):
        numbers = {flow.number(n) for n in nodes}
        mild = any(n is not None and 0.5 < abs(n) < 0.7 for n in numbers)
        form = "recurrent" if calls(nodes, "softplus") else "mild" if mild else "bounded"
    ranks = [r for r in (_rank(flow, n) for n in layers) if r]
    return Decay(
        kind=kind,  # type: ignore[arg-type]
        form=form,  # type: ignore[arg-type]
        scale=_scale(flow, place),  # type: ignore[arg-type]
        rank=nearest(choices(Decay, "rank"), ranks[0] if ranks else 16),
    )


def _rank(flow: Flow, layer: str) -> float | None:
    """Give the width of a two-layer projection's bottleneck, if it is a number."""
    match flow.layers[layer]:
        case ast.Call(args=[ast.Call(args=[_, width, *_]), ast.Call(), *_]):
            return flow.number(width)
    return None


def _scale(flow: Flow, place: int) -> str:
    """Give the time scales of the start: as this grammar writes them, or Mamba-2's 0.001 to 0.1."""
    nodes = flow.initial
    lines = sorted(calls(nodes, "linspace"), key=lambda call: call.lineno)
    written = [tuple(flow.number(a) for a in call.args[:2]) for call in lines]
    known = {tuple(float(t.bit_length() - 1) for t in pair): name for name, pair in TIME_SCALES.items()}
    scales = [known[pair] for pair in written if pair in known]  # type: ignore[index]
    if scales:
        return scales[min(place, len(scales) - 1)]
    numbers = {flow.number(n) for n in nodes}
    return "wide" if {0.001, 0.1} <= numbers else "medium"


def nearest(values: Iterable[Any], wanted: float) -> Any:
    """Give the value that is nearest to the wanted one; the first of two as near."""
    return min(values, key=lambda value: abs(value - wanted))


def of_input(flow: Flow, layer: str) -> bool:
    """Tell whether a convolution is called on the mixer's input as it is."""
    if flow.made_by(layer) not in CONVOLUTIONS:
        return False
    uses = [c for c in flow.nodes if isinstance(c, ast.Call)]
    given = [c.args[0] for c in uses if own(c.func) == layer and c.args]
    return any(isinstance(a, ast.Name) and a.id == flow.input for a in given)
