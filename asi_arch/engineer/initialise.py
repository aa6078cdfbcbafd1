"""A candidate's initialisation, replayed on our side with our own seed.

The recorded calls are validated like a graph's; `torch.manual_seed` of a candidate is no call and so
has no effect, and memory that was never written shows as NaN and is refused.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from asi_arch.engineer.graph import (
    DTYPES,
    MAX_LIST,
    decode_number,
    decode_plain,
    is_name,
    operator_of,
    parse_nodes,
)
from asi_arch.engineer.operators import INITIAL_OPERATORS
from asi_arch.engineer.strict import refuse
from asi_arch.errors import CandidateError

MAX_ELEMENTS = 2**24  # of any one tensor of a mixer
MAX_MEMORY = 2**27  # elements of all tensors that the calls make
EMPTY = ("aten.empty", "aten.new_empty", "aten.empty_like", "aten.empty_strided")


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialisation:
    """Recorded calls, and which of their values are the tensors of the module.

    names: of each parameter and buffer, with its kind and the number of its value. Two names with
    one number are tied.
    """

    nodes: tuple[tuple[str, list[Any], dict[str, Any]], ...]
    names: tuple[tuple[str, str, int], ...]


def parse_initialisation(data: Any) -> Initialisation:
    """Validate recorded calls.

    Raises:
        CandidateError: phase `graph`.
    """
    if not (isinstance(data, dict) and set(data) == {"nodes", "out"} and isinstance(data["out"], list)):
        raise refuse("an initialisation has nodes and out")
    if not isinstance(data["nodes"], list):
        raise refuse("nodes")
    parts = [n for n in data["nodes"] if isinstance(n, list) and n and n[0] == "as_strided"]
    for node in parts:
        node[0] = "aten.as_strided.default"  # the recorder's own views go through the same checks
    nodes = parse_nodes(data["nodes"], None, INITIAL_OPERATORS)
    names = []
    for entry in data["out"]:
        ok = isinstance(entry, list) and len(entry) == 3 and is_name(entry[0]) and type(entry[2]) is int
        if not ok or entry[1] not in ("parameter", "buffer") or len(data["out"]) > MAX_LIST:
            raise refuse("out")
        names.append((entry[0], entry[1], entry[2]))
    return Initialisation(nodes=nodes, names=tuple(names))


def replay(init: Initialisation, seed: int) -> dict[str, torch.Tensor]:
    """Run recorded calls with a seed of ours and give the tensors by name.

    Returns:
        Parameters and buffers, each contiguous and of its own memory; tied names share one tensor.

    Raises:
        CandidateError: a tensor is too large, not finite, or was never written.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        _require_small(_run(init))
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        values = _run(init)
    finally:
        torch.random.set_rng_state(state)
    return _named(init, values)


def _require_small(values: list[Any]) -> None:
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    largest = max((t.numel() for t in tensors), default=0)
    if largest > MAX_ELEMENTS:
        message = f"a tensor of {largest} elements in __init__ (limit {MAX_ELEMENTS})"
        raise CandidateError("graph", "size", message)
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    if sum(storages.values()) > 4 * MAX_MEMORY:
        message = f"tensors of {sum(storages.values())} bytes in __init__ (limit {4 * MAX_MEMORY})"
        raise CandidateError("graph", "size", message)


def _named(init: Initialisation, values: list[Any]) -> dict[str, torch.Tensor]:
    tensors: dict[int, torch.Tensor] = {}
    named = {}
    for name, _, number in init.names:
        if not 0 <= number < len(values) or not isinstance(values[number], torch.Tensor):
            raise refuse(f"{name} is no tensor")
        if number not in tensors:
            tensors[number] = values[number].detach().clone(memory_format=torch.contiguous_format)
        tensor = tensors[number]
        if not tensor.numel():
            raise refuse(f"{name} has no elements: {list(tensor.shape)}")
        if tensor.is_floating_point() and tensor.isnan().any():
            raise CandidateError(
                "graph", "uninitialised", f"{name} is not a number after __init__ (never written?)"
            )
        if tensor.dtype not in DTYPES.values():
            raise CandidateError("graph", "dtype", f"{name} has dtype {tensor.dtype}")
        named[name] = tensor
    return named


def _run(init: Initialisation) -> list[Any]:
    values: list[Any] = []

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(v) for v in value]
        if not isinstance(value, dict):
            return value
        ((key, inner),) = value.items()
        if key == "r":
            return values[inner]
        return DTYPES[inner] if key == "dtype" else decode_plain(key, inner)

    with torch.no_grad():
        for name, args, kwargs in init.nodes:
            if name == "constant":
                numbers = [decode_number(v) for v in args[0]]
                values.append(torch.tensor(numbers, dtype=DTYPES[args[2]]).reshape(args[1]))
                continue
            try:
                keywords = {key: decode(value) for key, value in kwargs.items()}
                result = (_INSTEAD.get(name) or operator_of(name))(*map(decode, args), **keywords)
            except (RuntimeError, TypeError, ValueError, IndexError, OverflowError) as error:
                raise refuse(f"__init__: {name}: {str(error).splitlines()[0][:120]}") from None
            if name.startswith(EMPTY):
                _blank(name, result)
            several = result if isinstance(result, list | tuple) else [result]
            values.extend(r for r in several if isinstance(r, torch.Tensor))
    return values


def _blank(name: str, tensor: torch.Tensor) -> None:
    """Write NaN to all the memory behind a new tensor, gaps between its elements too."""
    if not tensor.is_floating_point():
        raise refuse(f"__init__: {name} of {tensor.dtype}: memory that was never written; use zeros")
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    torch.as_strided(tensor, (count,), (1,), 0).fill_(float("nan"))


def _view(tensor: torch.Tensor, size: list[int], stride: list[int]) -> torch.Tensor:
    """Give a view. torch's own `_reshape_alias` does not look whether it stays inside the memory."""
    return torch.as_strided(tensor, size, stride, tensor.storage_offset())


_INSTEAD = {"aten._reshape_alias.default": _view}
