"""What a candidate computes, as a hash: equal outputs from equal parameters, whatever operators make them."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from asi_arch.engineer.bundle import Place
from asi_arch.engineer.candidate import Candidate
from asi_arch.engineer.graph import Graph

LENGTH = 257  # beyond every chunk and most windows
TOKENS = (0, 1, 2, 15, 16, 63, 64, 128, 200, 256)  # whose outputs count
DIGITS = 1e6  # of an output's root mean square


def function_hash(candidate: Candidate) -> str:
    """Give a hash that two programs share when they compute the same from the same parameters.

    Parameters are counted in the order in which the graph uses them and get fixed values, in float64;
    outputs count to six digits. What stands in `__init__` counts as it was recorded: another start is
    another experiment. So a forward pass that was rewritten is found, and one whose parameters were fused,
    split or declared in another order is not.

    Returns:
        16 hex digits; "" when an output is not finite, so that nothing can be said.
    """
    digest = hashlib.sha256()
    for place in candidate.places:
        graph = candidate.graph(place, "eval", (LENGTH,))
        order = list(dict.fromkeys(_used(graph)))
        outputs = _outputs(candidate, place, order)
        if not outputs.isfinite().all():
            return ""
        size = outputs.square().mean().sqrt().clamp_min(1e-300)
        digest.update((outputs / size * DIGITS).round().to(torch.int64).numpy().tobytes())
        digest.update(_start(candidate, place, order).encode())
    return digest.hexdigest()[:16]


def _outputs(candidate: Candidate, place: Place, order: list[str]) -> Tensor:
    tensors = dict(candidate.tensors(place, 0.0, torch.float64))
    trained = {name for name, kind, _ in candidate.bundle.initialisation(place).names if kind == "parameter"}
    for number, name in enumerate(order):
        if name in trained and tensors[name].is_floating_point():
            tensors[name] = _values(number, tensors[name].shape)
    x = _values(-1, torch.Size((2, LENGTH, place.d_model)), 1.0)
    with torch.no_grad():
        return candidate.run(place, "eval", (LENGTH,), tensors, x)[0][:, TOKENS]


def _values(number: int, shape: torch.Size, scale: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(2718 + number)
    size = scale or max(1, shape[-1] if len(shape) > 1 else 4) ** -0.5
    return size * torch.randn(shape, generator=generator, dtype=torch.float64)


def _start(candidate: Candidate, place: Place, order: list[str]) -> str:
    """Give how a place's tensors are made, without their names."""
    init = candidate.bundle.initialisation(place)
    numbers = {name: number for name, _, number in init.names}
    return json.dumps([init.nodes, [numbers[name] for name in order]])


def _used(graph: Graph) -> Iterator[str]:
    """Give the names of the tensors of a graph in the order of their uses."""
    for _, args, kwargs in graph.nodes:
        for number in _references([args, kwargs]):
            if number < len(graph.inputs) and graph.inputs[number].kind == "tensor":
                yield graph.inputs[number].name


def _references(value: Any) -> Iterator[int]:
    if isinstance(value, dict) and set(value) == {"r"}:
        yield value["r"]
    elif isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _references(part)
