"""A mixer in the terms of the literature: one frozen tree of choices, and its JSON.

B batch, T time, D width, H heads, K key channels of a head, V value channels of a head.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, get_args, get_type_hints

CANON = 4  # tokens of the residual convolution of the input

Node = TypeVar("Node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decay:
    """How a memory forgets: the log decay g of each step.

    kind: fixed constant per head | learned constant per head | scalar of the token per head |
        channel: of the token for each key channel, through a gate of low rank.
    form: g as a function of the gate z. softplus -exp(a) softplus(z) | logsigmoid logsigmoid(z)/16 |
        bounded -5 sigmoid(z) | mild -exp(-1/2) sigmoid(z) | recurrent -8 softplus(a) sigmoid(z).
    scale: initial time scales in tokens, see `TIME_SCALES`, spread evenly in the logarithm.
    rank: of the gate of kind channel.
    """

    kind: Literal["fixed", "learned", "scalar", "channel"] = "scalar"
    form: Literal["softplus", "logsigmoid", "bounded", "mild", "recurrent"] = "softplus"
    scale: Literal["short", "medium", "long", "wide"] = "medium"
    rank: Literal[4, 8, 16, 32] = 16


TIME_SCALES: Mapping[str, tuple[int, int]] = {
    "short": (16, 2),
    "medium": (128, 16),
    "long": (1024, 128),
    "wide": (1024, 2),
}
"""Initial time scales -1/g in tokens: of the first and of the last head, or channel of a head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One recurrent state S: [K, V] per head.

    update: additive S + k v | delta: replace what the key k holds.
    steps: of the delta rule for each token, each with a key, a value and a strength of its own.
    normalised: an additive memory's output is divided by the sum of its weights, k . q.
    write: strength. full 1 | sigmoid of the token | double: 2 sigmoid, so that eigenvalues of the
        update reach -1 | apart: a sigmoid erases, and 2 sigmoid of another gate scales what is
        written | step: the decay's softplus(z), as a discretised state space has it | tied: 1 - decay
        of each channel.
    """

    update: Literal["additive", "delta"] = "delta"
    steps: Literal[1, 2, 3] = 1
    decay: Decay | None = None
    write: Literal["full", "sigmoid", "double", "apart", "step", "tied"] = "sigmoid"
    normalised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """How queries and keys are made.

    rotary: positions as rotations. half: K is half of D / H. shared: all heads have one query and
        one key, and differ in their values. corrected: read with q - d k, d learned for each head.
    """

    feature: Literal["identity", "silu", "elu1", "relu", "relu2", "softmax", "hedgehog"] = "silu"
    norm: Literal["none", "l2", "rms"] = "l2"
    rotary: bool = False
    half: bool = False
    shared: bool = False
    corrected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """How values are made.

    residual: skip: values are added to what the memory gives | raw: values before convolution and
        activation are mixed with those after. twice: V is twice D / H.
    """

    activation: Literal["none", "silu"] = "silu"
    residual: Literal["none", "skip", "raw"] = "none"
    twice: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """How the outputs of several paths are mixed.

    kind: static weights of a head | token: softmax over all paths | staged: first memory against
        local paths, then inside each group. floor: the least weight of a choice, in percent.
    """

    kind: Literal["static", "token", "staged"] = "static"
    floor: Literal[0, 2, 5] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What happens to the fused output.

    norm: rms: of each head, before the gate | all: of all heads together, after the gate.
    gate: a function of the token; double: 2 sigmoid, which starts at 1. rank: of the gate's
        projection, 0: full.
    """

    norm: Literal["none", "rms", "all"] = "rms"
    gate: Literal["none", "silu", "sigmoid", "double"] = "none"
    rank: Literal[0, 16] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A mixer. The default is DeltaNet, the seed of the space (arXiv:2406.06484).

    canon: the input gets a residual short convolution before all else.
    convolved: which of q, k, v go through a short convolution of `kernel` tokens.
    shifted: which of q, k, v and the gates (g) are made from a mix of this token and the last.
    memories: one or two. Other paths, 0 and False for none: local: kernel of a depthwise
        convolution of the values; window: tokens of softmax attention; identity: the values.
    """

    canon: bool = False
    convolved: Literal["", "q", "k", "v", "qk", "qv", "kv", "qkv"] = "qkv"
    kernel: Literal[2, 3, 4, 6, 8] = 4
    shifted: str = ""
    keys: Keys = Keys()
    values: Values = Values()
    memories: tuple[Memory, ...] = (Memory(),)
    local: Literal[0, 3, 5, 7, 11, 15] = 0
    window: Literal[0, 8, 16, 32] = 0
    identity: bool = False
    fusion: Fusion = Fusion()
    output: Output = Output()

    def num_paths(self) -> int:
        """Give how many outputs are fused."""
        return len(self.memories) + self.num_local_paths()

    def num_local_paths(self) -> int:
        """Give how many of the fused outputs are no memory."""
        return bool(self.local) + bool(self.window) + self.identity

    def num_gates(self) -> int:
        """Give how many parts depend on the token beside q, k and v."""
        writes = sum(m.write in ("sigmoid", "double", "apart") for m in self.memories)
        decays = sum(m.decay is not None and m.decay.kind in ("scalar", "channel") for m in self.memories)
        fused = self.num_paths() > 1 and self.fusion.kind != "static"
        return writes + decays + fused + (self.output.gate != "none")

    def steps(self) -> int:
        """Give the delta steps of a token, which is also the number of its keys and values."""
        return self.memories[0].steps


def choices(node: type, name: str) -> tuple[Any, ...]:
    """Give the values that a field of a node may have, in their order."""
    return get_args(get_type_hints(node)[name])


def tidy(design: Design) -> Design:
    """Give the same mixer with every field that has no effect at its default."""
    base = Design()
    if not design.convolved:
        design = replace(design, kernel=base.kernel)
    if design.num_paths() == 1:
        design = replace(design, fusion=base.fusion)
    if design.output.gate == "none":
        design = replace(design, output=replace(design.output, rank=0))
    uses = "qkvg" if design.num_gates() else "qkv"
    shifted = "".join(c for c in uses if c in design.shifted)
    memories = tuple(replace(m, decay=m.decay and _tidy_decay(m.decay)) for m in design.memories)
    return replace(design, shifted=shifted, memories=memories)


def _tidy_decay(decay: Decay) -> Decay:
    if decay.kind in ("fixed", "learned"):
        decay = replace(decay, form="softplus")
    return decay if decay.kind == "channel" else replace(decay, rank=16)


def to_json(node: Any) -> str:
    """Give a design as one line of JSON that holds only what differs from the defaults."""
    return json.dumps(_plain(node))


def _plain(node: Any) -> Any:
    if isinstance(node, tuple):
        return [_plain(item) for item in node]
    if not is_dataclass(node):
        return node
    base = type(node)()  # type: ignore[misc]
    pairs = ((f.name, getattr(node, f.name)) for f in fields(node))
    return {name: _plain(value) for name, value in pairs if value != getattr(base, name)}


def from_json(text: str) -> Design:
    """Give the design that `to_json` wrote; it may still break a limit.

    Raises:
        ValueError: the text is no JSON, or no design; one line says what is wrong.
    """
    return tidy(_node(Design, json.loads(text)))


NESTED: Mapping[str, type] = {
    "keys": Keys,
    "values": Values,
    "fusion": Fusion,
    "output": Output,
    "decay": Decay,
}


def _node(kind: type[Node], plain: Any) -> Node:
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(plain, dict) or not plain.keys() <= known:
        raise ValueError(f"{plain!r} is no {kind.__name__}")
    return kind(**{name: _value(kind, name, value) for name, value in plain.items()})


def _value(kind: type, name: str, value: Any) -> Any:
    if name == "memories":
        if not isinstance(value, list):
            raise ValueError("memories are a list")
        return tuple(_node(Memory, item) for item in value)
    if name in NESTED:
        return None if name == "decay" and value is None else _node(NESTED[name], value)
    allowed = (True, False) if type(getattr(kind(), name)) is bool else choices(kind, name)
    if name == "shifted":
        fine = isinstance(value, str) and set(value) <= set("qkvg")
    else:
        fine = any(type(value) is type(one) and value == one for one in allowed)
    if not fine:
        raise ValueError(f"{kind.__name__}.{name} cannot be {value!r}")
    return value
