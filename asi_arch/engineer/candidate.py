"""A candidate as the checks see it: its graphs, its tensors, and how to run one on the other."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from asi_arch.engineer.bundle import Bundle, Place
from asi_arch.engineer.cost import Cost, measure
from asi_arch.engineer.graph import DROPOUT, Graph, build, precision
from asi_arch.engineer.initialise import replay
from asi_arch.engineer.proof.interpret import Proof, prove
from asi_arch.engineer.strict import refuse

COST_BATCH = 2
JITTER = (0.5, 0.1)  # of a parameter's root mean square, and at least


class Candidate:
    """Graphs of one candidate at the checks' size and at the stage's size.

    places: the layers whose graphs differ, each once. stage_places: those that are trained.
    lengths: the stage's T, then every T of the checks in eval mode. Cached: built graphs,
    replayed tensors, costs.
    """

    def __init__(
        self, bundle: Bundle, places: Sequence[Place], stage_places: Sequence[Place], lengths: Sequence[int]
    ) -> None:
        self.bundle = bundle
        self.places = tuple(places)
        self.stage_places = tuple(stage_places)
        self.length, *self.lengths = lengths
        self._modules: dict[tuple[int, torch.dtype], fx.GraphModule] = {}
        self._costs: dict[int, Cost] = {}
        self._proofs: dict[int, Proof] = {}
        self._tensors: dict[tuple[Place, float, torch.dtype], dict[str, Tensor]] = {}

    @property
    def all_places(self) -> tuple[Place, ...]:
        """Places of the checks, then those of the stage."""
        return (*self.places, *self.stage_places)

    def graph(self, place: Place, mode: str, lengths: Sequence[int]) -> Graph:
        """Give the validated graph of the last of some pieces."""
        return self.bundle.graph(place, mode, lengths)

    def cost(self, place: Place, length: int) -> Cost:
        """Give what one eval call at T = `length` costs, for a batch of COST_BATCH."""
        number = self.bundle.number(place, "eval", (length,))
        if number not in self._costs:
            self._costs[number] = measure(self.graph(place, "eval", (length,)), COST_BATCH)
        return self._costs[number]

    def proof(self, place: Place, mode: str, lengths: Sequence[int]) -> Proof:
        """Give what is proven of the graph of the last of some pieces, for all weights."""
        number = self.bundle.number(place, mode, lengths)
        if number not in self._proofs:
            self._proofs[number] = prove(self.graph(place, mode, lengths))
        return self._proofs[number]

    def traced(self, lengths: Sequence[int], train: Sequence[int]) -> Iterator[tuple[Place, str, int]]:
        """Give each (place, mode, T): eval at `lengths` (all, if none), train at `train`, and the stage's."""
        for place in self.places:
            yield from ((place, "eval", length) for length in lengths or self.lengths)
            yield from ((place, "train", length) for length in train)
        for place in self.stage_places:
            yield from ((place, mode, self.length) for mode in ("eval", "train"))

    def tensors(self, place: Place, jitter: float, dtype: torch.dtype) -> dict[str, Tensor]:
        """Give replayed tensors, parameters moved by `jitter`, so that gates closed at the start open.

        A parameter p becomes p + jitter * (0.5 rms(p) + 0.1) * normal. Parameters require gradients.
        """
        key = (place, jitter, dtype)
        if key not in self._tensors:
            init = self.bundle.initialisation(place)
            kinds = {name: kind for name, kind, _ in init.names}
            generator = torch.Generator().manual_seed(17)
            made: dict[int, Tensor] = {}
            named: dict[str, Tensor] = {}
            for name, tensor in replay(init, seed=11).items():
                if id(tensor) not in made:
                    made[id(tensor)] = _moved(tensor, jitter, dtype, generator, kinds[name] == "parameter")
                named[name] = made[id(tensor)]
            self._tensors[key] = named
        return self._tensors[key]

    def run(
        self,
        place: Place,
        mode: str,
        lengths: Sequence[int],
        tensors: dict[str, Tensor],
        x: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run a graph: x [B, T, D] and the leaves of a state -> y, then the leaves of the next state."""
        graph = self.graph(place, mode, lengths)
        exact = torch.float64 if x.dtype == torch.float64 else torch.float32
        key = (self.bundle.number(place, mode, lengths), exact)
        if key not in self._modules:
            self._modules[key] = build(graph, exact, dropout=False)
        inputs = _arrange(graph, tensors, x, state)
        with precision(exact):
            outputs: tuple[Tensor, ...] = tuple(self._modules[key](*inputs))
        return outputs

    def run_pieces(
        self, place: Place, lengths: Sequence[int], tensors: dict[str, Tensor], x: Tensor
    ) -> Tensor:
        """Feed x in pieces, carrying the state; give the outputs as one [B, T, D]."""
        outputs: list[Tensor] = []
        state: tuple[Tensor, ...] = ()
        begin = 0
        for i, length in enumerate(lengths):
            prefix = tuple(lengths[: i + 1])
            if len(set(prefix)) == 1 and len(prefix) > 2 and not self.bundle.has(place, "eval", prefix):
                prefix = self._longest(place, prefix)
            piece = x[:, begin : begin + length]
            y, *after = self.run(place, "eval", prefix, tensors, piece, *state)
            state = tuple(after)
            outputs.append(y)
            begin += length
        return torch.cat(outputs, 1)

    def _longest(self, place: Place, prefix: tuple[int, ...]) -> tuple[int, ...]:
        """Give the longest traced run of equal pieces: with a state of one shape its graph serves all."""
        while not self.bundle.has(place, "eval", prefix):
            prefix = prefix[:-1]
        return prefix

    def num_tokens(self, place: Place, wanted: int, traced: int) -> int:
        """Give how many single tokens can be fed: `wanted`, or `traced` where the state's shape changes."""
        last, before = (self.bundle.number(place, "eval", (1,) * n) for n in (traced, traced - 1))
        return wanted if last == before else traced

    def same_modes(self, place: Place, length: int) -> bool:
        """Tell whether train and eval graphs are one but for dropout."""
        train, evaluate = (self.graph(place, mode, (length,)) for mode in ("train", "eval"))
        return bool(_without_dropout(train) == _without_dropout(evaluate))


def _moved(
    tensor: Tensor, jitter: float, dtype: torch.dtype, generator: torch.Generator, trained: bool
) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    moved = tensor.to(dtype)
    if trained and jitter:
        size = JITTER[0] * moved.pow(2).mean().sqrt() + JITTER[1]
        moved = moved + jitter * size * torch.randn(moved.shape, generator=generator, dtype=torch.float64).to(
            dtype
        )
    return moved.detach().clone().requires_grad_(trained)


def _arrange(graph: Graph, tensors: dict[str, Tensor], x: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
    leaves = iter(state)
    inputs = []
    for entry in graph.inputs:
        if entry.kind == "x":
            inputs.append(x)
        elif entry.kind == "state":
            leaf = next(leaves, None)
            if (
                leaf is None
                or leaf.shape[1:] != entry.shape[1:]
                or (entry.shape[:1] not in ((-1,), leaf.shape[:1]))
            ):
                given = "nothing" if leaf is None else list(leaf.shape)
                raise refuse(
                    f"a state of shape {list(entry.shape)} is taken, {given} was given by the piece before"
                )
            inputs.append(leaf)
        elif entry.name in tensors:
            inputs.append(tensors[entry.name])
        else:
            raise refuse(f"a graph takes {entry.name[:60]!r}, which __init__ does not make")
    return inputs


def _without_dropout(graph: Graph) -> Any:
    """Give nodes and outputs with dropout taken out, so that two modes can be compared."""
    renamed: dict[int, int] = {i: i for i in range(len(graph.inputs))}
    nodes: list[Any] = []

    def new(value: Any) -> Any:
        if isinstance(value, list):
            return [new(v) for v in value]
        if isinstance(value, dict) and set(value) == {"r"}:
            return {"r": renamed[value["r"]]}
        return value

    for i, (name, args, kwargs) in enumerate(graph.nodes):
        if name == DROPOUT:
            renamed[len(graph.inputs) + i] = renamed[args[0]["r"]]
            continue
        renamed[len(graph.inputs) + i] = len(graph.inputs) + len(nodes)
        nodes.append([name, new(args), {key: new(value) for key, value in kwargs.items()}])
    return graph.inputs, nodes, [renamed[o] for o in graph.outputs]
