"""The operators as torch sees them: opcheck, one node in an exported graph, refusals, inline twins."""

import itertools
from functools import cache

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from asi_arch import ops
from asi_arch.ops import naive
from asi_arch.ops.operators import INLINE

torch.set_num_threads(1)

SHAPES = {
    "q": (2, 9, 2, 4),
    "k": (2, 9, 2, 4),
    "v": (2, 9, 2, 3),
    "beta": (2, 9, 2),
    "initial_state": (2, 2, 4, 3),
    "x": (2, 9, 5),
    "weight": (5, 4),
    "bias": (5,),
    "state": (2, 3, 5),
}
DECAYS = {"retention": (2,), "simple_gla": (2, 9, 2), "gla": (2, 9, 2, 4), "gated_delta_rule": (2, 9, 2)}
DECAYS["kda"] = DECAYS["gla"]
ARGUMENTS = {
    "linear_attention": ("q", "k", "v"),
    "retention": ("q", "k", "v", "g"),
    "simple_gla": ("q", "k", "v", "g"),
    "gla": ("q", "k", "v", "g"),
    "delta_rule": ("q", "k", "v", "beta"),
    "gated_delta_rule": ("q", "k", "v", "g", "beta"),
    "kda": ("q", "k", "v", "g", "beta"),
    "short_conv": ("x", "weight"),
}
OPTIONAL = dict.fromkeys(ARGUMENTS, ("initial_state",)) | {"short_conv": ("bias", "state")}


def make(name, optional=True):
    """Give the tensors of an operator by name, wanting gradients."""
    torch.manual_seed(0)
    names = ARGUMENTS[name] + (OPTIONAL[name] if optional else ())
    given = {n: torch.randn(DECAYS[name] if n == "g" else SHAPES[n]) for n in names}
    for n, t in given.items():
        if n == "k":
            given[n] = F.normalize(t, dim=-1)
        if n in ("g", "beta"):
            given[n] = t.sigmoid() if n == "beta" else -t.sigmoid()
    return {n: t.requires_grad_() for n, t in given.items()}


def key(name):
    return f"asi_arch.{name}.default"


class Wrapped(nn.Module):
    """One operator, or its inline twin, whose other tensors are made of x [B, T, 4] by one linear map."""

    def __init__(self, name, run):
        super().__init__()
        self.name = name
        self.run = run
        self.map = nn.Linear(4, 2 * 4)
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x):
        if self.name == "short_conv":
            return self.run(x, self.weight)
        y = self.map(x).unflatten(-1, (2, 4))
        given = {"q": y, "k": ops.l2norm(y), "v": y, "beta": y[..., 0].sigmoid()}
        decay = F.logsigmoid(y)
        given["g"] = {1: decay[0, 0, :, 0], 3: decay[..., 0], 4: decay}[len(DECAYS.get(self.name, (0,)))]
        return self.run(*(given[n] for n in ARGUMENTS[self.name]))


@cache
def export(name, run):
    batch = torch.export.Dim("B", min=1, max=1024)
    module = Wrapped(name, run)
    x = torch.randn(3, 9, 4)
    program = torch.export.export(module, (x,), strict=False, dynamic_shapes={"x": {0: batch}})
    return module, program.run_decompositions({})


# torch.export copies its own tree specifications in a way that torch itself calls deprecated
exports = pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")


def test_every_public_operator_has_an_inline_twin():
    assert set(INLINE) == {key(name) for name in ARGUMENTS}


@pytest.mark.parametrize(
    ("name", "optional"), [*((name, True) for name in ARGUMENTS), ("kda", False), ("short_conv", False)]
)
def test_opcheck_passes(name, optional):
    given = make(name, optional)
    torch.library.opcheck(getattr(torch.ops.asi_arch, name).default, (), given)


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_operator_and_inline_function_agree(name):
    for optional in (False, True):
        given = make(name, optional)
        got, want = getattr(ops, name)(**given), INLINE[key(name)](**given)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        weights = [torch.randn_like(t) for t in got]
        leaves = list(given.values())
        grads = zip(
            torch.autograd.grad(got, leaves, weights), torch.autograd.grad(want, leaves, weights), strict=True
        )
        for a, b in grads:
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_inline_functions_take_the_operators_arguments_by_position_and_by_name(name):
    given = make(name)
    tail = () if name == "short_conv" else (0.5,)
    by_position = INLINE[key(name)](*given.values(), *tail)
    by_name = INLINE[key(name)](**given, **({} if name == "short_conv" else {"scale": 0.5}))
    operator = getattr(torch.ops.asi_arch, name).default(*given.values(), *tail)
    schema = [a.name for a in getattr(torch.ops.asi_arch, name).default._schema.arguments]
    assert schema == [*given, *(["scale"] if tail else [])]
    for a, b, c in zip(by_position, by_name, operator, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


@exports
@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_an_exported_graph_holds_one_pure_node_and_runs_with_every_batch(name):
    module, program = export(name, getattr(ops, name))
    calls = [n for n in program.graph.nodes if n.op == "call_function" and "asi_arch" in str(n.target)]
    assert [str(n.target) for n in calls] == [key(name)]
    for n in program.graph.nodes:
        if isinstance(n.target, torch._ops.OpOverload):
            assert not n.target._schema.is_mutable
    graph = program.module()
    for batch in (1, 2, 5):
        x = torch.randn(batch, 9, 4)
        assert all(torch.equal(a, b) for a, b in zip(graph(x), module(x), strict=True))


@exports
@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_an_inline_function_replaces_its_node(name):
    module, program = export(name, getattr(ops, name))
    graph = program.module()
    for n in graph.graph.nodes:
        if str(n.target) == key(name):
            n.target = INLINE[key(name)]
    graph.recompile()
    x = torch.randn(5, 9, 4)
    for a, b in zip(graph(x), module(x), strict=True):
        assert torch.equal(a, b)
    graph(x)[0].sum().backward()
    module(x)[0].sum().backward()
    weight = "weight" if name == "short_conv" else "map.weight"
    torch.testing.assert_close(graph.get_parameter(weight).grad, module.get_parameter(weight).grad)


@exports
@pytest.mark.parametrize("name", ["retention", "kda", "short_conv"])
def test_inline_functions_trace_with_a_batch_of_any_size(name):
    module, program = export(name, INLINE[key(name)])
    graph = program.module()
    for batch in (1, 5):
        x = torch.randn(batch, 9, 4)
        for a, b in zip(graph(x), module(x), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_inline_functions_differentiate_on_fake_tensors(name):
    given = make(name)
    with FakeTensorMode() as mode:
        leaves = {n: mode.from_tensor(t) for n, t in given.items()}
        o, state = INLINE[key(name)](**leaves)
        grads = torch.autograd.grad(o.sum() + state.sum(), list(leaves.values()))
    assert [g.shape for g in grads] == [t.shape for t in given.values()]


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_shapes_and_dtypes_are_known_on_fake_tensors(name):
    given = {n: t.detach().bfloat16() for n, t in make(name).items()}
    real = getattr(ops, name)(**given)
    with FakeTensorMode() as mode:
        fake = getattr(ops, name)(**{n: mode.from_tensor(t) for n, t in given.items()})
    for a, b in zip(fake, real, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
    assert real[0].dtype == torch.bfloat16
    assert real[1].dtype == (torch.bfloat16 if name == "short_conv" else torch.float32)


@pytest.mark.parametrize(
    ("name", "argument", "shape", "words"),
    [
        ("linear_attention", "q", (2, 9, 8), r"q is \[2, 9, 8\], wanted \[B, T, H, K\]: split the heads"),
        ("linear_attention", "k", (2, 9, 2, 5), r"k is \[2, 9, 2, 5\], wanted \[2, 9, 2, 4\]"),
        ("linear_attention", "v", (2, 8, 2, 3), r"v is \[2, 8, 2, 3\], wanted \[2, 9, 2, 3\]"),
        ("retention", "g", (2, 9, 2), r"g is .*one fixed log decay per head"),
        ("simple_gla", "g", (2, 9, 2, 4), r"g is .*one log decay per token and head"),
        ("kda", "g", (2, 9, 2), r"g is .*head and key channel"),
        (
            "delta_rule",
            "beta",
            (2, 2, 9),
            r"beta is \[2, 2, 9\], wanted \[2, 9, 2\]: give one write strength",
        ),
        ("gated_delta_rule", "initial_state", (2, 2, 3, 4), r"initial_state is .*carry the state"),
        ("short_conv", "weight", (5, 1, 4), r"weight is \[5, 1, 4\], wanted \[C, W\].*squeeze"),
        ("short_conv", "weight", (4, 5), r"weight is \[4, 5\], wanted \[5, 5\]: give one filter"),
        ("short_conv", "bias", (4,), r"bias is \[4\], wanted \[5\]"),
        ("short_conv", "state", (2, 4, 5), r"state is \[2, 4, 5\], wanted \[2, 3, 5\]: carry"),
    ],
)
def test_a_wrong_shape_is_refused_with_its_name_value_and_cure(name, argument, shape, words):
    given = make(name) | {argument: torch.zeros(shape)}
    with pytest.raises(ValueError, match=words):
        getattr(ops, name)(**given)
    with FakeTensorMode() as mode:
        fakes = {n: mode.from_tensor(t) for n, t in given.items()}
        with pytest.raises(ValueError, match=words):
            getattr(ops, name)(**fakes)


def test_a_sequence_without_tokens_is_refused():
    empty = torch.zeros(2, 0, 2, 4)
    with pytest.raises(ValueError, match="at least one"):
        ops.linear_attention(empty, empty, empty)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_short_conv_equals_its_twin_and_conv1d(width):
    torch.manual_seed(0)
    for length in (1, 2, 3, 31):
        x = torch.randn(2, length, 5, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(5, width, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
        state = torch.randn(2, width - 1, 5, dtype=torch.float64, requires_grad=True)
        leaves = [x, weight, bias, state]
        got, want = ops.short_conv(*leaves), naive.short_conv(*leaves)
        joined = torch.cat([state, x], 1).mT
        conv = F.conv1d(joined, weight.unsqueeze(1), bias, groups=5).mT
        torch.testing.assert_close(got[0], conv)
        weights = [torch.randn_like(t) for t in got]
        grads = [torch.autograd.grad(pair, leaves, weights) for pair in (got, want)]
        for a, b in zip((*got, *grads[0]), (*want, *grads[1]), strict=True):
            torch.testing.assert_close(a, b)


def test_short_conv_without_a_state_starts_with_zeros():
    given = make("short_conv", optional=False)
    zeros = torch.zeros(SHAPES["state"])
    for a, b in zip(ops.short_conv(**given), ops.short_conv(**given, state=zeros), strict=True):
        assert torch.equal(a, b)


def test_short_conv_whole_equals_pieces_equals_token_by_token():
    given = make("short_conv")
    y, state = ops.short_conv(**given)
    for cuts in ((0, 2, 3, 9), tuple(range(10))):
        parts, carried = [], given["state"]
        for start, stop in itertools.pairwise(cuts):
            part, carried = ops.short_conv(given["x"][:, start:stop], given["weight"], given["bias"], carried)
            parts.append(part)
        assert torch.equal(torch.cat(parts, 1), y)
        assert torch.equal(carried, state)


def test_a_compiled_step_keeps_the_operator_and_its_backward_whole():
    targets = []

    def list_nodes(graph, _):
        targets.extend(str(n.target) for n in graph.graph.nodes if n.op == "call_function")
        return make_boxed_func(graph.forward)

    given = make("gated_delta_rule")
    step = torch.compile(ops.gated_delta_rule, backend=aot_autograd(fw_compiler=list_nodes), fullgraph=True)
    o, state = step(**given)
    (o.sum() + state.sum()).backward()
    assert targets.count("asi_arch.gated_delta_rule.default") == 1
    assert targets.count("asi_arch.gated_delta_rule_backward.default") == 1
