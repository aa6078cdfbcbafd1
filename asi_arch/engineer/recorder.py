"""Inside the wall: record the aten calls of `__init__`, so that no tensor of a candidate need cross.

The trusted side replays the calls with its own seed (`initialise.py`). A value is named by its
storage, offset, shape and stride; a view that no call made is written as `as_strided` of its base.
"""

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from asi_arch.engineer.bounded import place_of
from asi_arch.engineer.operators import INITIAL_OPERATORS
from asi_arch.engineer.trace import MAX_CONSTANT, number, plain
from asi_arch.errors import CandidateError

MAX_ELEMENTS = 2**27  # of all tensors that __init__ makes; each stays alive while it is recorded
READS = {
    "aten._local_scalar_dense.default": ".item(), float() or if on a tensor",
    "aten.equal.default": "a comparison of tensors as a Python bool",
}


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ids: dict[Any, int] = {}
        self.bases: dict[int, int] = {}  # storage -> first value in it
        self.alive: list[torch.Tensor] = []  # so that no storage address is used twice
        self.nodes: list[list[Any]] = []
        self.literals = self.elements = 0
        self.count = 0

    def _add(self, tensor: torch.Tensor) -> int:
        self.alive.append(tensor)
        self.ids[_key(tensor)] = self.count
        if _storage(tensor) not in self.bases:
            self.bases[_storage(tensor)] = self.count
            self.elements += tensor.numel()
            if self.elements > MAX_ELEMENTS:
                message = f"tensors of {self.elements:,} elements in __init__ (limit {MAX_ELEMENTS:,})"
                raise CandidateError("graph", "size", message + place_of(sys._getframe()))
        self.count += 1
        return self.count - 1

    def name(self, tensor: torch.Tensor) -> int:
        """Give the id of a tensor; write how it is had, if no call made it."""
        known = self.ids.get(_key(tensor))
        if known is not None:
            return known
        shape, stride = list(tensor.shape), list(tensor.stride())
        base = self.bases.get(_storage(tensor))
        if base is not None:
            self.nodes.append(["as_strided", [{"r": base}, shape, stride, int(tensor.storage_offset())], {}])
        else:
            self.literals += tensor.numel()
            if self.literals > MAX_CONSTANT:
                message = f"literal tensors of {self.literals} elements in __init__ (limit {MAX_CONSTANT})"
                raise CandidateError("graph", "literal", message + "; compute them with torch operators")
            with _disable_current_modes():
                values = [number(v) for v in tensor.detach().reshape(-1).tolist()]
            self.nodes.append(["constant", [values, shape, str(tensor.dtype).split(".")[1]], {}])
        return self._add(tensor)

    def _write(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return {"r": self.name(value)}
        if isinstance(value, torch.Generator):
            raise CandidateError(
                "graph", "generator", "a random generator of its own in __init__; use the default"
            )
        if isinstance(value, list | tuple):
            return [self._write(v) for v in value]
        return plain(value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one aten call and write it down."""
        kwargs = {k: v for k, v in (kwargs or {}).items() if k not in ("pin_memory", "generator") or v}
        name = str(func)
        if name in READS:
            raise CandidateError("graph", "item", f"{READS[name]} in __init__; keep it in tensors")
        if name not in INITIAL_OPERATORS:
            raise CandidateError("graph", "operator", f"{name} is not allowed in __init__")
        written = [[self._write(a) for a in args], {k: self._write(v) for k, v in kwargs.items()}]
        result = func(*args, **kwargs)
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._add(tensor)
        self.nodes.append([name, *written])
        return result


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _key(tensor: torch.Tensor) -> Any:
    shape, stride = tuple(tensor.shape), tuple(tensor.stride())
    return (_storage(tensor), tensor.storage_offset(), shape, stride, tensor.dtype)


def record(make: Callable[[], nn.Module], seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """Build a module and give it with its initialisation as data.

    Returns:
        The module, and `{"nodes": [[operator, args, kwargs], ...], "out": [[name, kind, id], ...]}`
        where kind is `parameter` or `buffer`, in the module's order.

    Raises:
        CandidateError: a value is read into Python, or an operator is not allowed.
    """
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    recorder = _Recorder()
    with recorder:
        module = make()
        tensors: list[tuple[str, str, torch.Tensor]] = []
        tensors += [(name, "parameter", t) for name, t in module.named_parameters(remove_duplicate=False)]
        tensors += [(name, "buffer", t) for name, t in module.named_buffers(remove_duplicate=False)]
        out = [[name, kind, recorder.name(t)] for name, kind, t in tensors]
    return module, {"nodes": recorder.nodes, "out": out}


def record_twice(make: Callable[[], nn.Module]) -> tuple[nn.Module, dict[str, Any]]:
    """Record under two seeds; a difference means that numbers were drawn outside torch.

    Raises:
        CandidateError: phase `determinism`, or whatever `record` raises.
    """
    _, first = record(make, 1)
    module, second = record(make, 2)
    if first != second:
        message = "__init__ draws random numbers outside torch (random, numpy, time); use torch's"
        raise CandidateError("determinism", "random", message)
    return module, second
