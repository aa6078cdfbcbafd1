"""Bytes from an enemy: what is parsed, replayed and stored holds nothing that could harm who reads it."""

import json
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

from asi_arch.engineer.bundle import Bundle, GraphMixer, Place
from asi_arch.engineer.graph import parse_graph, parse_nodes
from asi_arch.engineer.initialise import parse_initialisation, replay
from asi_arch.engineer.operators import ALLOWED_OPERATORS, INITIAL_OPERATORS
from asi_arch.engineer.recorder import record
from asi_arch.engineer.source_rules import MODULES
from asi_arch.engineer.strict import MAX_DEPTH, clean, strict_json
from asi_arch.errors import CandidateError
from asi_arch.ops import __all__ as our_operators

REFUSED = {
    "a number that is none": "[NaN]",
    "infinity in words": "[Infinity]",
    "infinity in digits": "[1e999]",
    "a key twice": '{"a": 1, "a": 2}',
    "deep lists": "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "very deep lists": "[" * 200_000,
    "a string without an end": '"' + '\\"' * 1_000_000,
    "half a document": '{"a": [1,',
    "a number of 5,000 digits": "9" * 5_000,
}


@pytest.mark.parametrize("name", REFUSED)
def test_json_is_refused_with(name: str) -> None:
    with pytest.raises(CandidateError) as caught:
        strict_json(REFUSED[name])
    assert caught.value.message.isprintable()


def test_bytes_that_are_not_ascii_are_refused() -> None:
    with pytest.raises(CandidateError, match="ASCII"):
        strict_json('["ä"]'.encode())


def test_brackets_in_strings_do_not_count_as_depth() -> None:
    assert strict_json(json.dumps(["[" * 99, '"{' * 99])) == ["[" * 99, '"{' * 99]


def test_words_of_a_failure_can_be_stored_and_shown() -> None:
    words = "half \ud800, zero \x00, escape \x1b[2J, right to left \u202e"
    data = json.dumps({"failure": ["source", "import", words, words + "\n\ttrace"]})
    with pytest.raises(CandidateError) as caught:
        Bundle(data)
    error = caught.value
    assert (error.message + error.trace.replace("\n", "").replace("\t", "")).isprintable()
    assert (error.message + error.trace).encode()
    assert clean("plain ä\n\tλ") == "plain ä\n\tλ"


def constant(values: list[Any], shape: list[int], dtype: str) -> list[Any]:
    return ["constant", [values, shape, dtype], {}]


BAD_NODES = {
    "more literals than a graph may have": [constant([0.5] * 4096, [4096], "float32")] * 2,
    "a shape whose product overflows": [constant([], [4096] * 6, "float32")],
    "an infinite integer": [constant([{"f": "inf"}], [1], "int64")],
    "an integer that its type cannot hold": [constant([2**40], [1], "int32")],
    "a name with an escape sequence": [["aten.\x1b[2J", [], {}]],
}


@pytest.mark.parametrize("name", BAD_NODES)
def test_nodes_are_refused_for(name: str) -> None:
    with pytest.raises(CandidateError) as caught:
        parse_nodes(BAD_NODES[name], 0, ALLOWED_OPERATORS)
    assert caught.value.message.isprintable()


def initialisation(*nodes: list[Any], value: int) -> dict[str, torch.Tensor]:
    return replay(parse_initialisation({"nodes": list(nodes), "out": [["w", "parameter", value]]}), seed=0)


def test_memory_of_the_trusted_side_cannot_be_read() -> None:
    own = constant([1.0] * 4, [4], "float32")
    beyond = ["aten._reshape_alias.default", [{"r": 0}, [64], [1]], {}]
    with pytest.raises(CandidateError, match="out of bounds"):
        initialisation(own, beyond, value=1)
    integers = ["aten.empty.memory_format", [[64]], {"dtype": {"dtype": "int64"}}]
    with pytest.raises(CandidateError, match="never written"):
        initialisation(integers, value=0)
    gaps = ["aten.empty_strided.default", [[2], [100]], {}]
    between = ["aten.as_strided.default", [{"r": 0}, [50], [1], 1], {}]
    with pytest.raises(CandidateError, match="never written"):
        initialisation(gaps, between, value=1)


def test_a_parameter_without_elements_is_refused() -> None:
    with pytest.raises(CandidateError, match="no elements"):
        initialisation(["aten.zeros.default", [[0, 97]], {}], value=0)


def test_memory_of_a_replay_is_bounded_before_it_is_taken() -> None:
    large = ["aten.ones.default", [[2**23]], {}]
    with pytest.raises(CandidateError, match="bytes in __init__"):
        initialisation(*[large] * 40, value=0)


def test_a_name_of_a_tensor_may_be_a_name_of_ours() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.order = nn.Parameter(torch.ones(2))
            self.graphs = nn.Parameter(torch.ones(2))
            self.order_ = nn.ModuleDict({"x": nn.Linear(2, 2)})

    _, init = record(Named, 1)
    graph = {
        "inputs": [
            {"kind": "tensor", "name": "graphs", "shape": [2], "dtype": "float32"},
            {"kind": "x", "name": "x", "shape": [{"b": [1, 0]}, 3, 2], "dtype": "float32"},
        ],
        "nodes": [["aten.mul.Tensor", [{"r": 1}, {"r": 0}], {}]],
        "outputs": [{"r": 2}],
        "state": None,
    }
    place = Place(d_model=2, num_heads=1, layer=0)
    traces = {f"{place}/{mode}/3": 0 for mode in ("train", "eval")}
    data = {"version": 1, "inits": [init], "layers": {str(place): 0}, "graphs": [graph], "traces": traces}
    mixer = GraphMixer(Bundle(json.dumps(data)), place, 3, seed=0)
    assert torch.equal(mixer(torch.ones(1, 3, 2)), torch.ones(1, 3, 2))
    graph["inputs"][0]["name"] = "not_made"  # type: ignore[index]
    with pytest.raises(CandidateError, match="does not make"):
        GraphMixer(Bundle(json.dumps(data)), place, 3, seed=0)


def test_an_output_that_is_several_tensors_is_refused() -> None:
    graph = {
        "inputs": [{"kind": "x", "name": "x", "shape": [{"b": [1, 0]}, 3, 2], "dtype": "float32"}],
        "nodes": [["aten.unbind.int", [{"r": 0}, 1], {}]],
        "outputs": [{"r": 1}],
        "state": None,
    }
    with pytest.raises(CandidateError, match="several tensors"):
        parse_graph(graph)


def test_the_lists_hold_only_what_there_is() -> None:
    assert MODULES["asi_arch.ops"] == set(our_operators)
    assert "aten._reshape_alias.default" in INITIAL_OPERATORS  # torch.reshape makes it; ours looks at bounds
    for module, names in MODULES.items():
        if module.startswith("torch"):
            found = import_module(module)
            assert [n for n in names if not hasattr(found, n)] == []
