"""All graphs of one candidate: parsed from the worker's bytes, found by place, hashed as one fact."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from asi_arch.engineer.graph import Graph, build, parse_graph, precision
from asi_arch.engineer.initialise import Initialisation, parse_initialisation, replay
from asi_arch.engineer.strict import clean, refuse, strict_json
from asi_arch.errors import CandidateError

MAX_GRAPHS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a graph stands: width D, number of heads H, index of the layer."""

    d_model: int
    num_heads: int
    layer: int

    def __str__(self) -> str:
        return f"{self.d_model}/{self.num_heads}/{self.layer}"


class Bundle:
    """The graphs and initialisations of one candidate, by place, mode and pieces."""

    def __init__(self, data: bytes | str) -> None:
        """Parse and validate. Raises CandidateError: the worker's own failure, or phase `graph`."""
        found = strict_json(data)
        if isinstance(found, dict) and set(found) == {"failure"}:
            raise _failure(found["failure"])
        if not isinstance(found, dict) or set(found) != {"version", "inits", "layers", "graphs", "traces"}:
            raise refuse("a bundle has version, inits, layers, graphs and traces")
        self._data: dict[str, Any] = found
        if found["version"] != 1 or not all(isinstance(found[k], list) for k in ("inits", "graphs")):
            raise refuse("version or lists")
        if len(found["inits"]) + len(found["graphs"]) > MAX_GRAPHS:
            raise CandidateError("graph", "size", f"more than {MAX_GRAPHS} different graphs")
        self.layers = _index(found["layers"], len(found["inits"]))
        self.traces = _index(found["traces"], len(found["graphs"]))
        self._graphs: dict[int, Graph] = {}
        self._inits: dict[int, Initialisation] = {}

    def number(self, place: Place, mode: str, lengths: Sequence[int]) -> int:
        """Give the number of a graph; equal graphs have one number. mode: `train`, `eval` or `raw`."""
        key = _key(place, mode, lengths)
        if key not in self.traces:
            raise refuse(f"no graph for {key}")
        return self.traces[key]

    def has(self, place: Place, mode: str, lengths: Sequence[int]) -> bool:
        """Tell whether there is a graph for a place, a mode and some pieces."""
        return _key(place, mode, lengths) in self.traces

    def graph(self, place: Place, mode: str, lengths: Sequence[int]) -> Graph:
        """Give the validated graph of the last piece of `lengths`, in mode `train` or `eval`."""
        number = self.number(place, mode, lengths)
        if number not in self._graphs:
            self._graphs[number] = parse_graph(self._data["graphs"][number])
        graph = self._graphs[number]
        x = next(i for i in graph.inputs if i.kind == "x")
        if x.shape != (-1, lengths[-1], place.d_model) or x.dtype != torch.float32:
            raise refuse(f"x of shape {x.shape} where T is {lengths[-1]}")
        return graph

    def initialisation(self, place: Place) -> Initialisation:
        """Give the validated initialisation of a layer."""
        number = self.layers.get(str(place))
        if number is None:
            raise refuse(f"no initialisation for {place}")
        if number not in self._inits:
            self._inits[number] = parse_initialisation(copy.deepcopy(self._data["inits"][number]))
        return self._inits[number]

    def tensors(self, place: Place, seed: int) -> dict[str, Tensor]:
        """Replay a layer's initialisation and give its parameters and buffers by name."""
        return replay(self.initialisation(place), seed)

    def joined(self, other: "Bundle") -> "Bundle":
        """Give the graphs of both; where both have a place, this one's stands."""
        data = copy.deepcopy(self._data)
        for key, index, found in (("inits", "layers", other.layers), ("graphs", "traces", other.traces)):
            offset = len(data[key])
            data[key] += other._data[key]
            data[index] = {place: offset + number for place, number in found.items()} | data[index]
        return Bundle(json.dumps(data, allow_nan=False))

    def subset(self, places: Sequence[Place], lengths: Sequence[int]) -> str:
        """Give the JSON of the train and eval graphs of some places: all that training needs."""
        data: dict[str, Any] = {"version": 1, "inits": [], "layers": {}, "graphs": [], "traces": {}}
        inits: dict[int, int] = {}
        graphs: dict[int, int] = {}
        for place in places:
            old = self.layers[str(place)]
            if old not in inits:
                inits[old] = len(inits)
                data["inits"].append(self._data["inits"][old])
            data["layers"][str(place)] = inits[old]
            for mode in ("train", "eval"):
                old = self.number(place, mode, lengths)
                if old not in graphs:
                    graphs[old] = len(graphs)
                    data["graphs"].append(self._data["graphs"][old])
                data["traces"][_key(place, mode, lengths)] = graphs[old]
        return json.dumps(data, separators=(",", ":"), allow_nan=False)

    def hash(self) -> str:
        """Give the hash of what is computed: names of tensors and keys of states do not count."""
        data = copy.deepcopy(self._data)
        for graph in data["graphs"]:
            for i, entry in enumerate(graph["inputs"]):
                entry["name"] = i
            graph["state"] = None
        for init in data["inits"]:
            init["out"] = [[kind, number] for _, kind, number in init["out"]]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _key(place: Place, mode: str, lengths: Sequence[int]) -> str:
    return f"{place}/{mode}/{'+'.join(map(str, lengths))}"


def _index(value: Any, count: int) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > 4 * MAX_GRAPHS:
        raise refuse("an index")
    if not all(type(v) is int and 0 <= v < count for v in value.values()):
        raise refuse("an index points nowhere")
    return value


def _failure(value: Any) -> CandidateError:
    ok = isinstance(value, list) and len(value) == 4 and all(isinstance(v, str) for v in value)
    phases = ("source", "contract", "graph", "determinism")
    if not ok or value[0] not in phases:
        return refuse("a failure")
    kind, message, trace = (clean(text) for text in (value[1][:40], value[2][:1000], value[3][-4000:]))
    return CandidateError(value[0], kind, message, trace)


class GraphMixer(nn.Module):
    """A mixer made of a candidate's graphs and replayed tensors, called as `mixer(x) -> y`.

    x, y: [B, T, D] with the one T that its graphs have. The train graph serves in train mode, the
    eval graph in eval mode. Parameters are trainable, buffers are not.
    """

    def __init__(self, bundle: Bundle, place: Place, length: int, seed: int) -> None:
        """Replay and build. Raises CandidateError: phase `graph`."""
        super().__init__()
        init = bundle.initialisation(place)
        tensors = replay(init, seed)
        self.graphs = {mode == "train": bundle.graph(place, mode, (length,)) for mode in ("train", "eval")}
        if not set(self.graphs[True].tensors) | set(self.graphs[False].tensors) <= set(tensors):
            raise refuse("a graph takes a tensor that __init__ does not make")
        self.order: dict[bool, tuple[Tensor, ...]] = {}
        shared: dict[int, Tensor] = {}
        for name, kind, _ in init.names:
            tensor = tensors[name]
            if id(tensor) not in shared:
                slot = f"t{len(shared)}_" + name.replace(".", "__")  # no name can be one of this class's own
                if kind == "parameter" and tensor.is_floating_point():
                    self.register_parameter(slot, nn.Parameter(tensor))
                else:
                    self.register_buffer(slot, tensor)
                shared[id(tensor)] = getattr(self, slot)
        self.slots = {name: next(k for k, v in self.named_all() if v is shared[id(tensors[name])])
                      for name, _, _ in init.names}  # fmt: skip
        self.modules_by_dtype: dict[tuple[bool, torch.dtype], fx.GraphModule] = {}

    def named_all(self) -> list[tuple[str, Tensor]]:
        """Give parameters and buffers with their names."""
        return [*self.named_parameters(), *self.named_buffers()]

    def forward(self, x: Tensor) -> Tensor:
        """Mix a sequence. x: [B, T, D] -> [B, T, D]."""
        key = (self.training, torch.float64 if x.dtype == torch.float64 else torch.float32)
        graph = self.graphs[self.training]
        if key not in self.modules_by_dtype:
            self.modules_by_dtype[key] = build(graph, key[1])
        tensors = [getattr(self, self.slots[name]) for name in graph.tensors]
        if key[1] == torch.float64:
            with precision(torch.float64):
                return self._call(self.modules_by_dtype[key], tensors, x)
        return self._call(self.modules_by_dtype[key], tensors, x)

    @staticmethod
    def _call(module: fx.GraphModule, tensors: list[Tensor], x: Tensor) -> Tensor:
        y: Tensor = module(*tensors, x)[0]
        return y
