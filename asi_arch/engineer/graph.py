"""The validated graph: bytes from an enemy in, a module that we built out.

Nothing in the bytes is believed: operators come from a list by exact name, arguments are held
against each operator's own schema, and shapes are derived again (`cost.py`).
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import fx, nn

from asi_arch.engineer.operators import ALLOWED_OPERATORS, INITIAL_OPERATORS
from asi_arch.engineer.strict import refuse
from asi_arch.errors import CandidateError
from asi_arch.ops.operators import INLINE

MAX_NODES = 4000
MAX_LIST = 4096
MAX_LITERALS = 4096  # numbers in all constants of one graph
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
DTYPES = {str(d).split(".")[1]: d for d in (*FLOATS, torch.int64, torch.int32, torch.bool)}
FORMATS = {str(m).split(".")[1]: m for m in (torch.contiguous_format, torch.preserve_format)}
STRINGS = frozenset(
    "none tanh floor trunc sum mean constant reflect replicate circular same valid amax amin prod fro".split()
)
DROPOUT = "aten.dropout.default"
MAX_DROPOUT = 0.5
NAME = re.compile(r"[\w.]{1,200}", re.ASCII)  # of tensors and operators: what can be stored and shown
EINSUM = re.compile(r"[A-Za-z ,.]{1,64}(->[A-Za-z .]{0,32})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input of a graph. kind: `tensor` (parameter or buffer), `x` or `state`.

    shape: -1 stands for the batch.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One call of a mixer. Values are numbered: inputs first, then nodes.

    nodes: (operator, args, kwargs) as they came. outputs: y, then the leaves of the state.
    structure: the state's nesting: None, "t", a list or a dict.
    """

    inputs: tuple[Input, ...]
    nodes: tuple[tuple[str, list[Any], dict[str, Any]], ...]
    outputs: tuple[int, ...]
    structure: Any

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the parameters and buffers that it takes, in order."""
        return tuple(i.name for i in self.inputs if i.kind == "tensor")

    @property
    def length(self) -> int:
        """T of its x."""
        return next(i.shape[1] for i in self.inputs if i.kind == "x")

    def state_inputs(self) -> tuple[Input, ...]:
        """Give the inputs that are leaves of a state."""
        return tuple(i for i in self.inputs if i.kind == "state")


def parse_graph(data: Any) -> Graph:
    """Validate one graph.

    Raises:
        CandidateError: phase `graph`; the message names the operator and the argument.
    """
    if not (isinstance(data, dict) and set(data) == {"inputs", "nodes", "outputs", "state"}):
        raise refuse("a graph has inputs, nodes, outputs and state")
    if not isinstance(data["inputs"], list) or len(data["inputs"]) > MAX_LIST:
        raise refuse("inputs")
    inputs = tuple(_parse_input(entry) for entry in data["inputs"])
    if [i.kind for i in inputs].count("x") != 1:
        raise refuse("a graph takes one x")
    nodes = parse_nodes(data["nodes"], len(inputs), ALLOWED_OPERATORS)
    count = len(inputs) + len(nodes)
    outputs = data["outputs"]
    if not (isinstance(outputs, list) and 1 <= len(outputs) <= 1 + leaves(data["state"])):
        raise refuse("outputs")
    if not all(_is_reference(o, count) for o in outputs) or len(outputs) != 1 + leaves(data["state"]):
        raise refuse("outputs are y and the leaves of the state")
    numbers = tuple(o["r"] for o in outputs)
    made = [nodes[n - len(inputs)][0] for n in numbers if n >= len(inputs)]
    if any(name not in ("constant", "getitem") and _gives_many(name) for name in made):
        raise refuse("an output that is several tensors")
    return Graph(inputs=inputs, nodes=nodes, outputs=numbers, structure=data["state"])


def leaves(structure: Any, depth: int = 0) -> int:
    """Count the tensors in a state's structure.

    Raises:
        CandidateError: it is no structure.
    """
    if structure is None or structure == "t":
        return int(structure == "t")
    if isinstance(structure, list | dict) and len(structure) <= 64 and depth < 8:
        values = structure.values() if isinstance(structure, dict) else structure
        return sum(leaves(value, depth + 1) for value in values)
    raise refuse("the structure of a state")


def _parse_input(entry: Any) -> Input:
    if not (isinstance(entry, dict) and set(entry) == {"kind", "name", "shape", "dtype"}):
        raise refuse("an input")
    kind, name, shape, dtype = entry["kind"], entry["name"], entry["shape"], entry["dtype"]
    if kind not in ("tensor", "x", "state") or not is_name(name):
        raise refuse("an input's kind or name")
    if not isinstance(dtype, str) or dtype not in DTYPES or not isinstance(shape, list) or len(shape) > 8:
        raise refuse(f"input {name}: dtype {str(dtype)[:20]} (allowed {', '.join(DTYPES)})")
    sizes = tuple(-1 if s == {"b": [1, 0]} else s for s in shape)
    if not all(type(s) is int and (0 <= s < 2**24 or (s == -1 and i == 0)) for i, s in enumerate(sizes)):
        raise refuse(f"input {name}: shape {str(shape)[:80]}; the batch is the first dimension")
    return Input(kind=kind, name=name, shape=sizes, dtype=DTYPES[dtype])


def parse_nodes(
    data: Any, num_inputs: int | None, allowed: frozenset[str]
) -> tuple[tuple[str, list[Any], dict[str, Any]], ...]:
    """Validate a list of nodes against the operators' own schemas.

    A node is one value and may use earlier values only. With `num_inputs=None` a node may be several
    values, and a reference to a later one fails where the nodes are run.
    """
    if not isinstance(data, list) or len(data) > MAX_NODES:
        raise CandidateError("graph", "size", f"more than {MAX_NODES} operators")
    nodes: list[tuple[str, list[Any], dict[str, Any]]] = []
    for entry in data:
        if not (isinstance(entry, list) and len(entry) == 3 and is_name(entry[0])):
            raise refuse("a node")
        name, args, kwargs = entry
        if not (isinstance(args, list) and isinstance(kwargs, dict)):
            raise refuse(f"{name[:60]}: arguments")
        count = MAX_LIST if num_inputs is None else num_inputs + len(nodes)
        _check_node(name, args, kwargs, count, nodes, allowed)
        nodes.append((name, args, kwargs))
    literals = sum(len(args[0]) for name, args, _ in nodes if name == "constant")
    if literals > MAX_LITERALS:
        message = f"constants of {literals:,} numbers (limit {MAX_LITERALS:,}); make them parameters"
        raise CandidateError("graph", "literal", message)
    return tuple(nodes)


def is_name(value: Any) -> bool:
    """Tell whether a value is a name of a tensor or an operator that can be stored and shown."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _check_node(
    name: str,
    args: list[Any],
    kwargs: Mapping[str, Any],
    count: int,
    nodes: Sequence[Any],
    allowed: frozenset[str],
) -> None:
    first = count - len(nodes)
    if name == "constant":
        _check_constant(args, kwargs)
    elif name == "getitem":
        ok = len(args) == 2 and not kwargs and _is_reference(args[0], count) and type(args[1]) is int
        source = nodes[args[0]["r"] - first][0] if ok and args[0]["r"] >= first else ""
        if not source.startswith(("aten.", "asi_arch.")) or not _gives_many(source):
            raise refuse("getitem belongs after an operator with several outputs")
    elif name not in allowed:
        raise CandidateError("graph", "operator", f"operator {name[:80]} is not allowed")
    else:
        arguments = _schema(name)
        if len(args) > len(arguments):
            raise refuse(f"{name}: {len(args)} arguments")
        by_name = dict(arguments)
        taken = {argument for argument, _ in arguments[: len(args)]}
        given = [(argument, kind, value) for (argument, kind), value in zip(arguments, args, strict=False)]
        for key, value in kwargs.items():
            if key not in by_name or key in taken:
                raise refuse(f"{name}: argument {key[:40]!r}")
            given.append((key, by_name[key], value))
        share = args[1] if len(args) > 1 else kwargs.get("p")
        bounded = isinstance(share, int | float) and 0 <= share <= MAX_DROPOUT
        if name == DROPOUT and not bounded:
            raise refuse(f"dropout of {str(share)[:20]} (limit {MAX_DROPOUT})")
        for argument, kind, value in given:
            if not _fits(value, kind, count):
                raise refuse(f"{name}: {argument} = {str(value)[:60]} is no {kind}")


def _check_constant(args: list[Any], kwargs: Mapping[str, Any]) -> None:
    ok = len(args) == 3 and not kwargs and isinstance(args[0], list) and len(args[0]) <= MAX_LIST
    ok = ok and all(_is_number(v) for v in args[0]) and isinstance(args[2], str) and args[2] in DTYPES
    ok = ok and isinstance(args[1], list) and all(type(s) is int and 0 <= s <= MAX_LIST for s in args[1])
    if not ok or len(args[1]) > 8 or math.prod(args[1]) != len(args[0]):
        raise refuse("a constant is values, shape and dtype")
    dtype = DTYPES[args[2]]
    if dtype in (torch.int32, torch.int64):
        limits = torch.iinfo(dtype)
        if not all(type(v) is int and limits.min <= v <= limits.max for v in args[0]):
            raise refuse(f"a constant of {args[2]} with numbers that are none")


@lru_cache(maxsize=1024)
def operator_of(name: str) -> Callable[..., Any]:
    """Give the operator of an allowed name. Never call it with a name that is not on a list."""
    assert name in ALLOWED_OPERATORS or name in INITIAL_OPERATORS
    space, packet, overload = name.split(".")
    found: Callable[..., Any] = getattr(getattr(getattr(torch.ops, space), packet), overload)
    return found


@lru_cache(maxsize=1024)
def _schema(name: str) -> tuple[tuple[str, str], ...]:
    schema = operator_of(name)._schema  # type: ignore[attr-defined]
    return tuple((argument.name, str(argument.real_type)) for argument in schema.arguments)


@lru_cache(maxsize=1024)
def _gives_many(name: str) -> bool:
    returns = operator_of(name)._schema.returns  # type: ignore[attr-defined]
    return len(returns) > 1 or "List" in str(returns[0].type)


def _is_reference(value: Any, count: int) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"r"}
        and type(value["r"]) is int
        and 0 <= value["r"] < count
    )


def _is_batch(value: Any) -> bool:
    ok = (
        isinstance(value, dict)
        and set(value) == {"b"}
        and isinstance(value["b"], list)
        and len(value["b"]) == 2
    )
    return ok and all(type(v) is int and abs(v) < 2**31 for v in value["b"])


def _is_number(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) == {"f"} and value["f"] in ("inf", "-inf")
    return type(value) in (int, float, bool) and abs(value) < 2**64


def _fits(value: Any, kind: str, count: int) -> bool:
    """Tell whether a decoded argument fits a schema's type."""
    if kind.startswith("Optional["):
        return value is None or _fits(value, kind[9:-1], count)
    if kind.startswith("List["):
        return (
            isinstance(value, list)
            and len(value) <= MAX_LIST
            and all(_fits(v, kind[5:-1], count) for v in value)
        )
    if kind == "Tensor":  # a Python number may stand for a tensor: mul.Tensor(x, 0.25)
        return _is_reference(value, count) or _is_number(value) or _is_batch(value)
    if kind in ("int", "SymInt"):
        return (type(value) is int and abs(value) < 2**63) or _is_batch(value)
    if kind in ("number", "Scalar", "float"):
        return _is_number(value) or _is_batch(value)
    if kind == "bool":
        return type(value) is bool
    if kind == "str":
        text = value.get("s") if isinstance(value, dict) and set(value) == {"s"} else None
        return isinstance(text, str) and (text in STRINGS or EINSUM.fullmatch(text) is not None)
    keys = {"ScalarType": "dtype", "Device": "device", "MemoryFormat": "mf", "Layout": "layout"}
    if kind not in keys or not (isinstance(value, dict) and set(value) == {keys[kind]}):
        return False
    inner = value[keys[kind]]
    if kind == "ScalarType":
        return isinstance(inner, str) and inner in DTYPES
    return kind != "MemoryFormat" or (isinstance(inner, str) and inner in FORMATS)


def build(graph: Graph, dtype: torch.dtype = torch.float32, dropout: bool = True) -> fx.GraphModule:
    """Build the module of a graph, called as `module(*tensors, x, *state) -> (y, *state)`.

    dtype: what float32 becomes. With float64 every float in the graph does, for exact checks; call
    it under `precision(torch.float64)` then. dropout: False leaves it out, for checks. Our operators
    are built in as differentiable functions, so that nothing is computed twice in the backward pass.
    """
    builder = _Builder(graph, dtype)
    for name, args, kwargs in graph.nodes:
        if name == DROPOUT and not dropout:
            builder.values.append(builder.values[args[0]["r"]])
        else:
            builder.node(name, args, kwargs)
    builder.new.output([builder.values[i] for i in graph.outputs])
    return fx.GraphModule(builder.root, builder.new)


class precision:  # noqa: N801 - used as a function: `with precision(torch.float64):`
    """Make new float tensors of a graph have the given dtype inside a `with`."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __enter__(self) -> None:
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(self.before)


class _Builder:
    def __init__(self, graph: Graph, dtype: torch.dtype) -> None:
        self.root, self.new, self.dtype = nn.Module(), fx.Graph(), dtype
        self.values: list[fx.Node] = []
        self.sizes: dict[tuple[int, int], fx.Node] = {}
        for i, entry in enumerate(graph.inputs):
            self.values.append(self.new.placeholder(f"i{i}"))
            if entry.kind == "x":
                x = self.values[-1]
        self.batch = self.new.call_function(torch.ops.aten.sym_size.int, (x, 0))

    def node(self, name: str, args: list[Any], kwargs: Mapping[str, Any]) -> None:
        """Add one node."""
        if name == "constant":
            self.values.append(self._constant(args))
        elif name == "getitem":
            self.values.append(self.new.call_function(operator.getitem, (self.values[args[0]["r"]], args[1])))
        else:
            target = INLINE.get(name) or operator_of(name)
            decoded = tuple(self._decode(a) for a in args)
            keywords = {key: self._decode(a) for key, a in kwargs.items()}
            self.values.append(self.new.call_function(target, decoded, keywords))

    def _constant(self, args: list[Any]) -> fx.Node:
        values, shape, dtype = args
        tensor = torch.tensor([decode_number(v) for v in values], dtype=self._dtype(DTYPES[dtype])).reshape(
            shape
        )
        name = f"c{len(self.values)}"
        self.root.register_buffer(name, tensor)
        return self.new.get_attr(name)

    def _dtype(self, dtype: torch.dtype) -> torch.dtype:
        exact = self.dtype == torch.float64 and dtype in FLOATS
        return self.dtype if exact or dtype == torch.float32 else dtype

    def _decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._decode(v) for v in value]
        if not isinstance(value, dict):
            return value
        ((key, inner),) = value.items()
        if key == "r":
            return self.values[inner]
        if key == "b":
            return self._size(inner[0], inner[1])
        if key == "dtype":
            return self._dtype(DTYPES[inner])
        return decode_plain(key, inner)

    def _size(self, slope: int, rest: int) -> fx.Node:
        if (slope, rest) not in self.sizes:
            scaled = self.new.call_function(operator.mul, (self.batch, slope))
            self.sizes[slope, rest] = self.new.call_function(operator.add, (scaled, rest))
        return self.sizes[slope, rest]


def decode_number(value: Any) -> float:
    """Give the number of a JSON number or of `{"f": "inf"}`."""
    return float(value["f"]) if isinstance(value, dict) else value


def decode_plain(key: str, value: Any) -> Any:
    """Give an argument that is no reference: a float word, a string, a format, a layout, a device."""
    if key == "f":
        return float(value)
    if key == "mf":
        return FORMATS[value]
    if key == "layout":
        return torch.strided
    return torch.device("cpu") if key == "device" else value
