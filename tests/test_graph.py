"""The graph that crosses the wall: what is well-formed is rebuilt to the bit, what is not is refused."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn

from asi_arch import ops
from asi_arch.engineer.bundle import Bundle, GraphMixer, Place
from asi_arch.engineer.cost import measure
from asi_arch.engineer.graph import MAX_NODES, build, parse_graph
from asi_arch.engineer.initialise import parse_initialisation, replay
from asi_arch.engineer.recorder import record
from asi_arch.engineer.strict import MAX_BYTES, strict_json
from asi_arch.engineer.trace import trace
from asi_arch.errors import CandidateError

D, T = 16, 8


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(D, 3 * D, bias=False)
        self.beta = nn.Linear(D, 2)
        self.out = nn.Linear(D, D, bias=False)

    def forward(self, x: torch.Tensor, state: Any = None) -> Any:
        q, k, v = (t.unflatten(-1, (2, -1)) for t in self.qkv(x).chunk(3, -1))
        o, state = ops.delta_rule(ops.l2norm(q), ops.l2norm(k), v, self.beta(x).sigmoid(), state)
        return self.out(o.flatten(-2)), state


def raw(module: nn.Module, state: Any = None, structure: Any = "t") -> dict[str, Any]:
    return json.loads(json.dumps(trace(module, state, T, D) | {"state": structure}))


def graph_of(*nodes: list[Any], outputs: list[Any] | None = None, structure: Any = None) -> dict[str, Any]:
    x = {"kind": "x", "name": "x", "shape": [{"b": [1, 0]}, T, D], "dtype": "float32"}
    outs = [{"r": len(nodes)}] if outputs is None else outputs
    return {"inputs": [x], "nodes": [list(n) for n in nodes], "outputs": outs, "state": structure}


def R(i: int) -> dict[str, int]:
    return {"r": i}


def test_a_rebuilt_graph_gives_the_module_to_the_bit_at_every_batch_size() -> None:
    torch.manual_seed(0)
    module = Small()
    graph = parse_graph(raw(module))
    rebuilt = build(graph)
    tensors = [dict(module.named_parameters())[name] for name in graph.tensors]
    for batch in (1, 3, 4, 64):
        x = torch.randn(batch, T, D)
        for ours, theirs in zip(rebuilt(*tensors, x), module(x), strict=True):
            assert torch.equal(ours, theirs)


def test_gradients_of_a_rebuilt_graph_are_the_modules() -> None:
    torch.manual_seed(0)
    module = Small()
    graph = parse_graph(raw(module))
    named = dict(module.named_parameters())
    tensors = [named[name] for name in graph.tensors]
    x = torch.randn(3, T, D)
    ours = torch.autograd.grad(build(graph)(*tensors, x)[0].pow(2).sum(), tensors)
    theirs = torch.autograd.grad(module(x)[0].pow(2).sum(), tensors)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_graph_in_float64_is_exact_where_float32_rounds() -> None:
    torch.manual_seed(0)
    module = Small()
    graph = parse_graph(raw(module))
    tensors = [dict(module.named_parameters())[name].double() for name in graph.tensors]
    x = torch.randn(2, T, D, dtype=torch.float64)
    y = build(graph, torch.float64)(*tensors, x)[0]
    assert y.dtype == torch.float64
    assert (y - module.double()(x)[0]).abs().max() < 1e-12


def test_our_operators_stay_one_node() -> None:
    names = [name for name, _, _ in parse_graph(raw(Small())).nodes]
    assert names.count("asi_arch.delta_rule.default") == 1
    assert len(names) < 30


ATTACKS: dict[str, dict[str, Any]] = {
    "unknown operator": graph_of(["os.system", [{"s": "id"}], {}]),
    "operator by attribute": graph_of(["aten.add.__class__", [R(0), R(0)], {}]),
    "other namespace": graph_of(["prims.add.default", [R(0), R(0)], {}]),
    "memory outside": graph_of(["aten.as_strided.default", [R(0), [10**6], [1]], {}]),
    "uninitialised memory": graph_of(["aten.empty_like.default", [R(0)], {}]),
    "in place": graph_of(["aten.add_.Tensor", [R(0), 1.0], {}]),
    "reads a number": graph_of(["aten.item.default", [R(0)], {}]),
    "randomness": graph_of(["aten.rand_like.default", [R(0)], {}]),
    "control flow": graph_of(["higher_order.cond", [R(0)], {}]),
    "forward reference": graph_of(["aten.add.Tensor", [R(1), R(5)], {}]),
    "its own result": graph_of(["aten.add.Tensor", [R(1), R(0)], {}]),
    "negative reference": graph_of(["aten.add.Tensor", [R(-1), R(0)], {}]),
    "boolean reference": graph_of(["aten.add.Tensor", [{"r": True}, R(0)], {}]),
    "not a number": graph_of(["aten.add.Tensor", [R(0), {"f": "nan"}], {}]),
    "code as a float": graph_of(["aten.add.Tensor", [R(0), {"f": "__import__('os')"}], {}]),
    "code as a string": graph_of(["aten.pad.default", [R(0), [1, 1], {"s": "x'); import os #"}], {}]),
    "unknown keyword": graph_of(["aten.add.Tensor", [R(0), R(0)], {"out": R(0)}]),
    "argument twice": graph_of(["aten.add.Tensor", [R(0), R(0)], {"other": R(0)}]),
    "dropout of nothing said": graph_of(["aten.dropout.default", [R(0)], {}]),
    "dropout of infinity": graph_of(["aten.dropout.default", [R(0), {"f": "inf"}, True], {}]),
    "dropout of nearly all": graph_of(["aten.dropout.default", [R(0), 0.9, True], {}]),
    "quantised type": graph_of(["aten.to.dtype", [R(0), {"dtype": "qint8"}], {}]),
    "float64 by stealth": graph_of(["aten.to.dtype", [R(0), {"dtype": "float64"}], {}]),
    "list as a name": graph_of([["aten.neg.default"], [R(0)], {}]),
    "getitem of a plain tensor": graph_of(["getitem", [R(0), 1], {}]),
    "getitem with a slice": graph_of(["getitem", [R(0), {"s": "a"}], {}]),
    "too many operators": graph_of(*[["aten.neg.default", [R(i)], {}] for i in range(MAX_NODES + 1)]),
    "endless list": graph_of(["aten.cat.default", [[R(0)] * 10**5], {}]),
    "a state that is not given": graph_of(["aten.neg.default", [R(0)], {}], structure=["t"]),
    "structure that is no structure": graph_of(["aten.neg.default", [R(0)], {}], structure={"k": 7}),
    "constant with a lying shape": graph_of(["constant", [[1.0, 2.0], [3], "float32"], {}]),
    "two x": {**graph_of(), "inputs": graph_of()["inputs"] * 2},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_malformed_graph_is_refused(name: str) -> None:
    with pytest.raises(CandidateError) as caught:
        parse_graph(json.loads(json.dumps(ATTACKS[name])))
    assert caught.value.phase == "graph"


HEAVY: dict[str, dict[str, Any]] = {
    "a huge tensor": graph_of(["aten.zeros.default", [[10**6, 10**6]], {}], ["aten.neg.default", [R(0)], {}]),
    "a huge view": graph_of(
        ["aten.expand.default", [R(0), [10**9, 2, T, D]], {}], ["aten.add.Tensor", [R(1), 1.0], {}]
    ),
    "doubling": graph_of(*[["aten.cat.default", [[R(i), R(i)]], {}] for i in range(60)]),
    "shapes that do not fit": graph_of(["aten.matmul.default", [R(0), R(0)], {}]),
}


@pytest.mark.parametrize("name", HEAVY)
def test_shapes_are_derived_anew_and_bounded_before_anything_is_run(name: str) -> None:
    graph = parse_graph(HEAVY[name])
    with pytest.raises(CandidateError, match=r"limit|do not fit"):
        measure(graph, 2)


@pytest.mark.parametrize(
    "text", ["[" * 10**5, '{"a":NaN}', '{"a":1,"a":2}', "1" * 5000, "\xff", " " * (MAX_BYTES + 1)]
)
def test_bytes_that_are_not_strict_json_are_refused(text: str) -> None:
    with pytest.raises(CandidateError):
        strict_json(text)


def test_cost_counts_products_elements_and_new_memory() -> None:
    linear = nn.Linear(D, D, bias=False)
    cost = measure(parse_graph(raw(linear, structure=None)), 3)
    assert cost.flops == 2 * 3 * T * D * D
    assert cost.touched == 2 * 3 * T * D + D * D
    assert cost.peak_bytes == 4 * 3 * T * D
    assert cost.shapes == ((3, T, D),)


def test_an_initialisation_replays_to_the_bit_at_another_seed() -> None:
    _, data = record(Small, 1)
    replayed = replay(parse_initialisation(json.loads(json.dumps(data))), 3)
    torch.manual_seed(3)
    fresh = dict(Small().named_parameters())
    assert fresh.keys() == replayed.keys()
    assert all(torch.equal(fresh[name], replayed[name]) for name in fresh)


def test_replay_leaves_the_generator_as_it_was() -> None:
    _, data = record(Small, 1)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    replay(parse_initialisation(data), 3)
    assert torch.equal(torch.rand(1), expected)


class Unwritten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(4))


class Cherry(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(42)
        self.w = nn.Parameter(torch.randn(4))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4, bias=False)
        self.b = nn.Linear(4, 4, bias=False)
        self.b.weight = self.a.weight


def test_memory_that_was_never_written_is_refused() -> None:
    with pytest.raises(CandidateError, match="never written"):
        replay(parse_initialisation(record(Unwritten, 1)[1]), 0)


def test_a_seed_that_the_candidate_sets_has_no_effect() -> None:
    init = parse_initialisation(record(Cherry, 1)[1])
    assert not torch.equal(replay(init, 1)["w"], replay(init, 2)["w"])


def test_tied_parameters_stay_tied() -> None:
    tensors = replay(parse_initialisation(record(Tied, 1)[1]), 0)
    assert tensors["a.weight"] is tensors["b.weight"]


def test_smuggled_numbers_are_bounded() -> None:
    class Smuggler(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([0.1] * 5000))

    with pytest.raises(CandidateError, match="limit 4096"):
        record(Smuggler, 1)


PLACE = Place(d_model=D, num_heads=2, layer=0)


def bundle_data() -> dict[str, Any]:
    module, init = record(Small, 1)
    graph = raw(module)
    key = f"{PLACE}/{{}}/{T}"
    traces = {key.format("train"): 0, key.format("eval"): 0}
    return {"version": 1, "inits": [init], "layers": {str(PLACE): 0}, "graphs": [graph], "traces": traces}


def test_the_hash_sees_what_is_computed_and_not_what_it_is_called() -> None:
    data = bundle_data()
    renamed = json.loads(json.dumps(data).replace("qkv.weight", "projection.weight"))
    other = copy.deepcopy(data)
    other["graphs"][0]["nodes"][0][0] = "aten.silu.default"
    assert Bundle(json.dumps(data)).hash() == Bundle(json.dumps(renamed)).hash()
    assert Bundle(json.dumps(data)).hash() != Bundle(json.dumps(other)).hash()


def test_a_graph_mixer_trains_like_the_module_it_came_from() -> None:
    mixer = GraphMixer(Bundle(json.dumps(bundle_data())), PLACE, T, seed=3)
    torch.manual_seed(3)
    module = Small()
    losses: list[list[float]] = []
    for model in (mixer, module):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        torch.manual_seed(9)
        losses.append([])
        for _ in range(5):
            y = model(torch.randn(4, T, D))
            loss = (y[0] if isinstance(y, tuple) else y).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
