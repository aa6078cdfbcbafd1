"""Recognise the nearest design of a mixer that was written by someone else.

It goes by the operators that `forward` calls and by what flows into them. What it says is the
nearest design of the grammar, not the program: what it passes over is named, so that a
motivation can say so.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from asi_arch.spaces.linear_attention.changes import fitted
from asi_arch.spaces.linear_attention.design import (
    Design,
    Fusion,
    Keys,
    Output,
    Values,
    choices,
    tidy,
)
from asi_arch.spaces.linear_attention.flow import Flow, argument, called, calls, own, owned, read_flow
from asi_arch.spaces.linear_attention.recognise_memory import (
    CONVOLUTIONS,
    MAPS,
    RECURRENCES,
    doubles,
    nearest,
    of_input,
    recognise_memory,
)

NORMS = ("RMSNorm", "GatedRMSNorm", "LayerNorm", "GroupNorm")
UNDERSTOOD = {*MAPS, *NORMS, "Parameter", "Identity", "SiLU", "Dropout"}


@dataclass(slots=True)
class Mixer:
    """A flow, the calls of its recurrences in order, and what flows into the first one's q, k and v."""

    flow: Flow
    ops: list[ast.Call]
    into: dict[str, list[ast.AST]]


def recognise(source: str) -> tuple[Design, str]:
    """Give the nearest design of any source, and in words what was not understood.

    A source that is no Python, or without a recurrence of `asi_arch.ops`, gives the default design's
    memory.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Design(), "it is not valid Python, so the delta rule stands in for all of it"
    flow = read_flow(tree)
    found = calls(flow.nodes, *RECURRENCES)
    ops = sorted(found, key=lambda call: (call.lineno, call.col_offset))
    into: dict[str, list[ast.AST]] = {c: _reaches(flow, ops, i, c) for i, c in enumerate("qkv")}
    mixer = Mixer(flow=flow, ops=ops[:2], into=into)
    return tidy(fitted(_design(mixer))), _passed_over(mixer, len(ops))


def _reaches(flow: Flow, ops: list[ast.Call], place: int, name: str) -> list[ast.AST]:
    given = argument(ops[0], place, name) if ops else None
    if isinstance(given, ast.BinOp) and isinstance(given.op, ast.Mult):
        given = given.right if name == "k" else given.left  # the rest is the write strength
    others = [a.id for a in (ops[0].args[:3] if ops else []) if isinstance(a, ast.Name) and a is not given]
    return [] if given is None else flow.reaches(given, without=others)


def _design(mixer: Mixer) -> Design:
    if not mixer.ops:
        return Design()
    kernel, convolved, canon = _convolutions(mixer)
    local, window, identity = _paths(mixer)
    return Design(
        canon=canon,
        convolved=convolved,
        kernel=kernel,
        shifted=_shifted(mixer),
        keys=_keys(mixer),
        values=_values(mixer),
        memories=tuple(recognise_memory(mixer.flow, op, i) for i, op in enumerate(mixer.ops)),
        local=local,
        window=window,
        identity=identity,
        fusion=_fusion(mixer.flow),
        output=_output(mixer),
    )


def _convolutions(mixer: Mixer) -> tuple[Any, Any, bool]:
    """Give the kernel, the letters and whether the input itself is convolved."""
    kernels, letters, canon = [], "", False
    for letter, nodes in mixer.into.items():
        for name in dict.fromkeys(owned(nodes)):
            if mixer.flow.made_by(name) not in CONVOLUTIONS:
                continue
            if of_input(mixer.flow, name):
                canon = True
            else:
                kernels.append(_kernel(mixer.flow, name))
                letters += letter
    letters = "".join(c for c in "qkv" if c in letters)
    return nearest(choices(Design, "kernel"), kernels[0] if kernels else 4), letters, canon


def _kernel(flow: Flow, layer: str) -> float:
    made = flow.layers[layer]
    place = 2 if flow.made_by(layer) == "Conv1d" else 1
    return flow.number(argument(made, place, "kernel_size")) or 4


def _shifted(mixer: Mixer) -> str:
    """Give the letters of what is made from a shifted token; a layer of one letter speaks for itself."""
    flow = mixer.flow
    uses = [c for c in flow.nodes if isinstance(c, ast.Call)]
    shifting = {own(c.func) for c in uses if own(c.func) and calls(flow.reaches(c), "token_shift")}
    letters = ""
    for letter, nodes in mixer.into.items():
        layers = {letter, f"{letter}_proj"} & flow.layers.keys()
        letters += letter if (layers & shifting if layers else calls(nodes, "token_shift")) else ""
    return letters + ("g" if _gates(flow) & shifting else "")


def _gates(flow: Flow) -> set[str]:
    """Give the layers that are named as gates are, by the field's words."""
    words = {"gate", "z", "g", "beta", "b", "decay", "dt", "a", "write", "share", "f"}
    linear = {name for name in flow.layers if flow.made_by(name) in ("Linear", "Sequential")}
    return {name for name in linear if words & set(name.removesuffix("_proj").split("_"))}


def _keys(mixer: Mixer) -> Keys:
    nodes, flow = mixer.into["q"], mixer.flow
    feature = "identity"
    if calls(nodes, "elu"):
        feature = "elu1"
    elif calls(nodes, "softmax"):
        feature = "hedgehog" if calls(nodes, "einsum", "matmul", "feature") else "softmax"
    elif calls(nodes, "relu"):
        squared = calls(nodes, "square", "pow") or any(isinstance(n, ast.Pow) for n in nodes)
        feature = "relu2" if squared else "relu"
    elif calls(nodes, "silu") or _activated(flow, nodes):
        feature = "silu"
    norm = "none"
    if calls(nodes, "l2norm", "normalize"):
        norm = "l2"
    elif calls(nodes, "rms_norm") or any(flow.made_by(n) in NORMS for n in owned(nodes)):
        norm = "rms"
    return Keys(
        feature=feature,  # type: ignore[arg-type]
        norm=norm,  # type: ignore[arg-type]
        rotary=bool(calls(nodes, "rotary")),
        half=_sized(flow, "key", ast.FloorDiv) or _halves_width(flow),
        shared=bool(calls(mixer.into["k"], "expand")),
        corrected=any(_subtracts(value, "k") for value in flow.assigned.get("q", [])),
    )


def _activated(flow: Flow, nodes: Iterable[ast.AST]) -> bool:
    """Tell whether a convolution among nodes applies SiLU; `ShortConvolution` does unless told not to."""
    names = [n for n in owned(nodes) if flow.made_by(n) == "ShortConvolution" and not of_input(flow, n)]
    given = [argument(flow.layers[n], 2, "activation") for n in names]
    return any(a is None or (isinstance(a, ast.Constant) and a.value == "silu") for a in given)


def _sized(flow: Flow, word: str, operator: type[ast.operator]) -> bool:
    """Tell whether `__init__` gives a variable named with `word` half or twice a size."""
    for node in flow.initial:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.BinOp() as value) if word in name:
                operands = (value.left, value.right)
                if isinstance(value.op, operator) and 2.0 in map(flow.number, operands):
                    return True
    return False


def _halves_width(flow: Flow) -> bool:
    """Tell whether `__init__` holds `d_model // 2`."""
    for node in flow.initial:
        match node:
            case ast.BinOp(op=ast.FloorDiv(), left=ast.Name(id="d_model"), right=ast.Constant(value=2)):
                return True
    return False


def _subtracts(value: ast.expr, name: str) -> bool:
    match value:
        case ast.BinOp(op=ast.Sub(), right=right):
            return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(right))
    return False


def _values(mixer: Mixer) -> Values:
    nodes, flow = mixer.into["v"], mixer.flow
    silu = bool(calls(nodes, "silu")) or _activated(flow, nodes)
    residual = "none"
    if any(_mixes(value) for value in flow.assigned.get("v", [])):
        residual = "raw"
    elif any(_skips(flow, n) for n in flow.nodes):
        residual = "skip"
    twice = _sized(flow, "value", ast.Mult)
    for name in ("out", "o_proj", "out_proj"):
        match flow.layers.get(name):
            case ast.Call(args=[ast.BinOp(op=ast.Mult()) as width, *_]):
                twice |= 2.0 in map(flow.number, (width.left, width.right))
    return Values(
        activation="silu" if silu else "none",
        residual=residual,  # type: ignore[arg-type]
        twice=twice,
    )


def _mixes(value: ast.expr) -> bool:
    """Tell whether an expression holds `... * (v - raw)`."""
    for node in ast.walk(value):
        match node:
            case ast.BinOp(op=ast.Sub(), left=ast.Name(id="v"), right=ast.Name()):
                return True
    return False


def _skips(flow: Flow, node: ast.AST) -> bool:
    """Tell whether a node is `o + self.PARAMETER * v`."""
    match node:
        case ast.BinOp(op=ast.Add(), right=ast.BinOp(op=ast.Mult(), left=left, right=ast.Name(id="v"))):
            return any(flow.made_by(name) == "Parameter" for name in owned(ast.walk(left)))
    return False


def _paths(mixer: Mixer) -> tuple[Any, Any, bool]:
    """Give the local convolution's kernel, the window and whether values are a path of their own."""
    flow = mixer.flow
    nodes = flow.nodes
    inside = {name for reached in mixer.into.values() for name in owned(reached)}
    used = [n for n in owned(nodes) if flow.made_by(n) in CONVOLUTIONS and n not in inside]
    local = nearest([c for c in choices(Design, "local") if c], _kernel(flow, used[0])) if used else 0
    windows = [flow.number(argument(c, 3, "window")) or 16 for c in calls(nodes, "sliding_window_attention")]
    window = nearest([c for c in choices(Design, "window") if c], windows[0]) if windows else 0
    return local, window, any(_passes_values(n) for n in nodes)


def _passes_values(node: ast.AST) -> bool:
    """Tell whether a node is a weighted, normed copy of the values: `w * rms_norm(v)`."""
    match node:
        case ast.BinOp(op=ast.Mult(), right=ast.Call(args=[ast.Name(id="v")]) as norm):
            return called(norm) == "rms_norm"
    return False


def _fusion(flow: Flow) -> Fusion:
    shares = flow.methods.get("shares")
    if shares is None:
        return Fusion()
    nodes = list(ast.walk(shares))
    learned = {flow.made_by(name) for name in owned(nodes)}
    kind = "staged" if calls(nodes, "sigmoid") else "token" if "Linear" in learned else "static"
    floors = [f for f in choices(Fusion, "floor") if f and f / 100 in {flow.number(n) for n in nodes}]
    return Fusion(kind=kind, floor=floors[0] if floors else 0)  # type: ignore[arg-type]


def _output(mixer: Mixer) -> Output:
    flow = mixer.flow
    inside = {name for reached in mixer.into.values() for name in owned(reached)}
    norms = [n for n in flow.layers if flow.made_by(n) in NORMS and n not in inside]
    nodes = flow.nodes
    norm = "none"
    if norms:
        match flow.layers[norms[0]]:
            case ast.Call(args=[ast.Name(id="d_model") | ast.BinOp(op=ast.Mult()), *_]):
                norm = "all"
            case _:
                norm = "rms"
    elif any(isinstance(a, ast.Name) and a.id == "o" for c in calls(nodes, "rms_norm") for a in c.args):
        norm = "rms" if not flow.methods.get("shares") else "none"
    gate, layer = _output_gate(flow, nodes)
    narrow = layer in flow.layers and flow.made_by(layer) == "Sequential"
    return Output(norm=norm, gate=gate, rank=16 if narrow else 0)  # type: ignore[arg-type]


def _output_gate(flow: Flow, nodes: list[ast.AST]) -> tuple[str, str]:
    """Give the activation of the output gate and its layer."""
    gates = [n for n in ("gate", "g_proj", "z", "z_proj", "gate_proj", "out_gate") if n in flow.layers]
    if not gates:
        return "none", ""
    for call in (n for n in nodes if isinstance(n, ast.Call)):
        if flow.made_by(own(call.func)) == "GatedRMSNorm":
            activation = argument(call, 2, "activation")
            silu = activation is None or getattr(activation, "value", "silu") == "silu"
            return ("silu" if silu else "sigmoid"), gates[0]
    doubled = [n for n in nodes if isinstance(n, ast.expr) and doubles(flow, n)]
    if any(gates[0] in owned(flow.reaches(n)) for n in doubled):
        return "double", gates[0]
    for call in calls(nodes, "silu", "sigmoid"):
        base = call.args[0] if call.args else getattr(call.func, "value", call)
        if gates[0] in owned(flow.reaches(base)):
            return ("silu" if called(call) == "silu" else "sigmoid"), gates[0]
    return "none", ""


def _passed_over(mixer: Mixer, num_ops: int) -> str:
    """Give in words what the reader saw and did not use."""
    flow, parts = mixer.flow, []
    if not num_ops:
        parts.append("no recurrence of asi_arch.ops, so the delta rule stands in for its memory")
    if num_ops > 2:
        parts.append(f"{num_ops - 2} recurrences beyond the second")
    strange = [f"{n} ({flow.made_by(n)})" for n in flow.layers if flow.made_by(n) not in UNDERSTOOD]
    if strange:
        parts.append("layers " + ", ".join(strange))
    return "; ".join(parts)
