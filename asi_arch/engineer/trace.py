"""Inside the wall: trace one call of a module into a graph as plain data.

The module is traced at two batch sizes and the two graphs must be one: an integer that follows the
batch becomes `{"b": [c, d]}`, which means c * B + d, and anything else that differs is refused, so
no candidate can treat a batch by its size.
"""

import math
import operator
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from asi_arch.engineer.operators import ALLOWED_OPERATORS, RANDOM_OPERATORS
from asi_arch.errors import CandidateError

CANDIDATE_FILE = "<candidate>"
BATCHES = (5, 7)  # unlike each other and unlike any width in use
MAX_CONSTANT = 4096  # elements of all tensors that are neither parameter nor buffer
DROPPED = ("aten._assert_tensor_metadata.default", "aten._assert_async.msg", "aten._assert_scalar.default")
SAME = (
    "aten.lift_fresh_copy.default",
    "aten.detach_.default",
    "aten.lift_fresh.default",
    "aten.alias.default",
)
PURE_DROPOUT = "aten.native_dropout.default"  # what purifying makes of dropout
ADVICE = {
    "item": "a number is read from a tensor (.item(), float(), if); use torch.where, clamp or masks",
    "no_grad": "torch.no_grad() changes gradients silently in a graph; use .detach() on the tensor",
    "autocast": "autocast inside forward is not allowed; the trainer decides on precision",
    "random": "randomness other than nn.Dropout is not allowed in forward",
    "batch": "forward depends on the batch size; treat rows alike (no arithmetic with B)",
    "mutable": "an in-place write to an input, a parameter or a buffer; return new state instead",
}


def candidate_line(error: BaseException) -> str:
    """Give `line 12: code` for the candidate's innermost frame of a traceback, or ""."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == CANDIDATE_FILE]
    return f"line {frames[-1].lineno}: {(frames[-1].line or '').strip()}" if frames else ""


def trace(module: nn.Module, state: Any, length: int, width: int, both: bool = True) -> dict[str, Any]:
    """Trace `module(x, state)` and give its graph as JSON-able data.

    Args:
        module: the candidate's mixer, in train or eval mode.
        state: None, or a function of the batch size that gives a state.
        length: T of `x: [B, T, width]`.
        width: D.
        both: trace at both batch sizes; False gives the raw graph of the first, for comparison only.

    Raises:
        CandidateError: phase `graph` (or `determinism` for randomness), with the line that caused it.
        Exception: what torch makes of a program that it cannot trace; see `explained`.
    """
    graphs = []
    for batch in BATCHES if both else BATCHES[:1]:
        x = torch.zeros(batch, length, width)
        graphs.append(_trace_once(module, x, state(batch) if state else None))
    return graphs[0] if not both else _unify(graphs[0], graphs[1], "graph")


def _trace_once(module: nn.Module, x: torch.Tensor, state: Any) -> dict[str, Any]:
    named = dict(module.named_parameters()) | dict(module.named_buffers())
    if any(t.requires_grad and not t.is_leaf for t in named.values()):
        raise CandidateError(
            "graph", "parameter", "a buffer is computed from parameters in __init__; detach it"
        )

    def call(tensors: dict[str, torch.Tensor], x: torch.Tensor, state: Any) -> Any:
        args = (x,) if state is None else (x, state)
        return torch.func.functional_call(module, tensors, args)

    def make(stack_traces: bool = False) -> fx.GraphModule:
        tracer = make_fx(
            call,
            tracing_mode="fake",
            pre_dispatch=True,
            record_stack_traces=stack_traces,
            _allow_non_fake_inputs=True,  # constants of the candidate's own
        )
        traced: fx.GraphModule = tracer(named, x, state)
        return traced

    traced = make()
    try:
        try:
            return _encode_graph(traced, named, x, state)
        except _ImpureError:
            return _encode_graph(_purify(module, x, state), named, x, state, exported=True)
    except _NodeError as error:
        raise error.located(make) from None


def explained(error: Exception) -> CandidateError:
    """Give the candidate's fault behind whatever torch raised while it traced."""
    name, text = type(error).__name__, str(error).strip().split("\n")[0][:300]
    where = candidate_line(error)
    data_dependent = ("DataDependent", "GuardOnDataDependent")
    if name.startswith(data_dependent) or "_local_scalar_dense" in text or ".numpy() is not" in text:
        return CandidateError("graph", "item", f"{ADVICE['item']} ({where})" if where else ADVICE["item"])
    tail = "".join(traceback.format_exception(error)[-6:])[-2000:]
    return CandidateError("graph", name, f"{name}: {text}" + (f" ({where})" if where else ""), tail)


class _ImpureError(Exception):
    """The graph holds in-place operators, so the slower, purifying export is needed."""


class _NodeError(Exception):
    """A node that is refused; the line is found by tracing once more with stack traces."""

    def __init__(self, node: fx.Node, phase: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.node, self.phase, self.kind, self.message = node, phase, kind, message

    def located(self, make: Callable[[bool], fx.GraphModule]) -> CandidateError:
        """Give the candidate's fault with its source line."""
        nodes = {n.name: n for n in make(True).graph.nodes}
        stack = str(nodes[self.node.name].meta.get("stack_trace", "")) if self.node.name in nodes else ""
        lines = [part.strip() for part in stack.split("\n")]
        marks = [i for i, part in enumerate(lines) if CANDIDATE_FILE in part]
        where = ""
        if marks:
            number = lines[marks[-1]].split("line ")[-1].split(",")[0]
            code = lines[marks[-1] + 1] if marks[-1] + 1 < len(lines) else ""
            where = f" (line {number}: {code})"
        return CandidateError(self.phase, self.kind, self.message + where)


def _purify(module: nn.Module, x: torch.Tensor, state: Any) -> fx.GraphModule:
    """Functionalise a module that writes in place; refuse writes that outlive the call."""
    args = (x,) if state is None else (x, state)
    program = torch.export.export(module, args, strict=False).run_decompositions({})
    for spec in program.graph_signature.output_specs:
        if spec.kind.name != "USER_OUTPUT":
            raise CandidateError("graph", "mutable", f"{ADVICE['mutable']} ({spec.target})")
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and str(node.target) == "aten.copy.default":
            _replace_copy(graph, node)  # aten.copy has no derivative in eager mode
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    pure: fx.GraphModule = program.graph_module
    pure.meta["signature"] = program
    return pure


def _replace_copy(graph: fx.Graph, node: fx.Node) -> None:
    target, source = node.args[0], node.args[1]
    assert isinstance(target, fx.Node)
    assert isinstance(source, fx.Node)
    with graph.inserting_before(node):
        if source.meta["val"].dtype != target.meta["val"].dtype:
            source = graph.call_function(torch.ops.aten.to.dtype, (source, target.meta["val"].dtype))
        new = graph.call_function(torch.ops.aten.expand.default, (source, list(node.meta["val"].shape)))
    new.meta = node.meta
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _encode_graph(
    traced: fx.GraphModule,
    named: dict[str, torch.Tensor],
    x: torch.Tensor,
    state: Any,
    exported: bool = False,
) -> dict[str, Any]:
    encoder = _Encoder(traced)
    live = _live(traced.graph)
    if exported:
        encoder.exported_inputs(traced.meta["signature"], x)
    else:
        encoder.traced_inputs(named, x, state)
    for node in traced.graph.nodes:
        if node.op in ("call_function", "get_attr") and node in live:
            encoder.node(node)
    outputs = _flat(next(n for n in traced.graph.nodes if n.op == "output").args[0])
    return {"inputs": encoder.inputs, "nodes": encoder.nodes, "outputs": [encoder.value(o) for o in outputs]}


def _flat(values: Any) -> list[fx.Node]:
    leaves: list[Any] = torch.utils._pytree.tree_leaves(values)
    return [leaf for leaf in leaves if isinstance(leaf, fx.Node)]


def _live(graph: fx.Graph) -> set[fx.Node]:
    """Give the nodes that an output depends on, and those whose very presence matters."""
    live: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        target = str(node.target)
        asserts = target in DROPPED or (target.startswith("aten._assert") or "sym_constrain" in target)
        effect = node.op == "call_function" and not asserts and _has_effect(node.target)
        if node.op == "output" or node in live or effect:
            live.add(node)
            live.update(node.all_input_nodes)
    return live


def _has_effect(target: Any) -> bool:
    if target is operator.getitem:
        return False
    if isinstance(target, torch._ops.OpOverload):
        return bool(target._schema.is_mutable) and str(target) not in SAME
    return True


class _Encoder:
    """Numbers the values of one graph and writes its nodes as data."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        self.ids: dict[fx.Node, int] = {}
        self.inputs: list[dict[str, Any]] = []
        self.nodes: list[list[Any]] = []
        self.constants = 0
        self.count = 0
        self.dropouts: set[int] = set()  # values whose first output is the value itself

    def traced_inputs(self, named: dict[str, torch.Tensor], x: torch.Tensor, state: Any) -> None:
        """Number the placeholders of `make_fx`: tensors by name, then x, then the state's leaves."""
        leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(state) if leaf is not None]
        tensors = list(named.items())
        tensors += [("x", x)] + [(f"state.{i}", leaf) for i, leaf in enumerate(leaves)]
        placeholders = [n for n in self.traced.graph.nodes if n.op == "placeholder"]
        kept = [n for n in placeholders if n.meta.get("val") is not None or n.users]
        assert len(kept) >= len(tensors), "a placeholder for each tensor"
        for node, (name, tensor) in zip(kept, tensors, strict=False):
            kind = "tensor" if name in named else "x" if name == "x" else "state"
            self._input(node, kind, name, tensor)

    def exported_inputs(self, program: Any, x: torch.Tensor) -> None:
        """Number the placeholders of an exported program in the same form."""
        states = 0
        constants = []
        for node in (n for n in self.traced.graph.nodes if n.op == "placeholder"):
            spec = next(s for s in program.graph_signature.input_specs if s.arg.name == node.name)
            value = node.meta.get("val")
            if not isinstance(value, torch.Tensor):
                continue
            if spec.kind.name in ("PARAMETER", "BUFFER"):
                self._input(node, "tensor", spec.target, value)
            elif spec.kind.name == "CONSTANT_TENSOR":
                constants.append((node, program.constants[spec.target]))
            elif not any(i["kind"] == "x" for i in self.inputs):
                self._input(node, "x", "x", value)
            else:
                self._input(node, "state", f"state.{states}", value)
                states += 1
        for node, tensor in constants:  # inputs are numbered first
            self._constant(node, tensor)

    def _input(self, node: fx.Node, kind: str, name: str, tensor: torch.Tensor) -> None:
        self._number(node)
        shape, dtype = [int(n) for n in tensor.shape], str(tensor.dtype).split(".")[1]
        self.inputs.append({"kind": kind, "name": name, "shape": shape, "dtype": dtype})

    def _constant(self, node: fx.Node, tensor: torch.Tensor) -> None:
        self.constants += tensor.numel()
        if self.constants > MAX_CONSTANT:
            message = f"tensors of {self.constants} elements that are neither parameter nor buffer; "
            raise _NodeError(node, "graph", "constant", message + "use register_buffer")
        with torch.utils._python_dispatch._disable_current_modes():
            value = [number(v) for v in tensor.detach().reshape(-1).tolist()]
        shape, dtype = list(tensor.shape), str(tensor.dtype).split(".")[1]
        self._number(node)
        self.nodes.append(["constant", [value, shape, dtype], {}])

    def _number(self, node: fx.Node) -> None:
        self.ids[node] = self.count
        self.count += 1

    def node(self, node: fx.Node) -> None:
        """Write one node, or raise what is wrong with it."""
        if node.op == "get_attr":
            self._constant(node, getattr(self.traced, str(node.target)))
            return
        name = _operator_name(node)
        if name in DROPPED:
            return
        if name in SAME:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            self.ids[node] = self.ids[source]
            return
        args = [self.value(a) for a in node.args]
        kwargs = {k: self.value(a) for k, a in node.kwargs.items() if k != "pin_memory"}
        eval_dropout = name == "aten.dropout.default" and len(args) == 3 and args[2] is False
        if eval_dropout or (name == "aten.clone.default" and not kwargs):
            self.ids[node] = args[0]["r"]  # the identity, where nothing is written in place
            return
        if name == "getitem" and args[0]["r"] in self.dropouts and args[1] == 0:
            self.ids[node] = args[0]["r"]
            return
        if name == PURE_DROPOUT:
            self.dropouts.add(self.count)
            name = "aten.dropout.default"
        if name != "getitem" and name not in ALLOWED_OPERATORS:
            raise _NodeError(node, "graph", "operator", f"operator {name} is not allowed")
        self._number(node)
        self.nodes.append([name, args, kwargs])

    def value(self, value: Any) -> Any:
        """Write one argument."""
        if isinstance(value, fx.Node):
            return {"r": self.ids[value]}
        if isinstance(value, list | tuple):
            return [self.value(v) for v in value]
        return plain(value)


def plain(value: Any) -> Any:
    """Write an argument that holds no value of the graph. Raises CandidateError: it cannot be written."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str):
        return {"s": value}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).split(".")[1]}
    if isinstance(value, torch.device):
        return {"device": 0}
    if isinstance(value, torch.memory_format):
        return {"mf": str(value).split(".")[1]}
    if isinstance(value, torch.layout):
        return {"layout": 0}
    raise CandidateError(
        "graph", "argument", f"an argument of type {type(value).__name__} cannot be in a graph"
    )


def number(value: float) -> Any:
    """Write a float; JSON has no word for infinity."""
    return value if math.isfinite(value) else {"f": repr(float(value))}


def _operator_name(node: fx.Node) -> str:
    target = node.target
    if target is operator.getitem:
        return "getitem"
    name = str(target)
    if "set_grad_enabled" in name or "inference_mode" in name:
        raise _NodeError(node, "graph", "no_grad", ADVICE["no_grad"])
    if "autocast" in name:
        raise _NodeError(node, "graph", "autocast", ADVICE["autocast"])
    if not isinstance(target, torch._ops.OpOverload):
        raise _NodeError(
            node, "graph", "operator", f"{getattr(target, '__name__', name)} cannot be in a graph"
        )
    if name in ("aten.item.default", "aten._local_scalar_dense.default"):
        raise _NodeError(node, "graph", "item", ADVICE["item"])
    if name in RANDOM_OPERATORS and name != PURE_DROPOUT:
        raise _NodeError(node, "determinism", "random", f"{ADVICE['random']}: {name}")
    if target._schema.is_mutable and name not in SAME:
        raise _ImpureError
    return name


def _unify(a: Any, b: Any, where: str) -> Any:
    """Merge the graphs of two batch sizes; an int that is linear in the batch becomes `{"b": ...}`."""
    if type(a) is int and type(b) is int and a != b:
        slope, rest = divmod(b - a, BATCHES[1] - BATCHES[0])
        if rest == 0:
            return {"b": [slope, a - slope * BATCHES[0]]}
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return {key: _unify(a[key], b[key], where) for key in a}
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        name = str(a[0]) if len(a) == 3 and isinstance(a[0], str) else where
        return [_unify(x, y, name) for x, y in zip(a, b, strict=True)]
    if type(a) is type(b) and a == b:
        return a
    raise CandidateError(
        "graph", "batch", f"{ADVICE['batch']} (at {where}: {str(a)[:60]} against {str(b)[:60]})"
    )
