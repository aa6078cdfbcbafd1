"""What a graph costs: shapes, work and memory, derived on fake tensors; nothing is computed."""

import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from asi_arch.engineer.graph import Graph, build, operator_of
from asi_arch.errors import CandidateError
from asi_arch.ops.operators import INLINE
from asi_arch.ops.recurrence import CHUNK

MAX_VALUE = 2**26  # elements of one value, views too
MAX_WORK = 2**37  # FLOPs of one call
VIEWS = ("_unsafe_view", "lift_fresh")  # views by nature, not by schema
LOOKUPS = ("index", "index_select", "gather", "embedding")  # read as many elements as they write
WRITES = ("slice_scatter", "select_scatter", "diagonal_scatter", "scatter", "scatter_add", "scatter_reduce",
          "index_add", "index_put", "index_copy", "index_fill")  # fmt: skip
SEQUENCES = ("q", "k", "v", "g", "beta", "x")  # arguments of our operators that have tokens
NAMES = {function: name for name, function in INLINE.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one call of a graph at one batch size.

    flops: multiplications and additions of products and convolutions; n log2 n for a sort of n; for any
        other operator one for each element written, or read if that is more, as in a reduction.
    touched: elements read and written by all operators but views. What is expanded and then read
        counts in full.
    peak_bytes: of values alive at once, each memory counted once however many views it has; without
        the inputs, parameters among them.
    largest: elements of the largest new value, and `largest_at` its operator and shape.
    operators: elements touched by each operator, by name.
    shapes: of y and the leaves of the state; dtypes likewise.

    Operators of `asi_arch` count what their chunks of 16 tokens do, at every T, although for long
    sequences they take chunks of 32: so each token costs the same. A write into a part of a value that
    is not used again, which is what a write in place becomes in a graph, counts the part.
    """

    flops: int
    touched: int
    peak_bytes: int
    largest: int
    largest_at: str
    operators: Mapping[str, int]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]


def measure(graph: Graph, batch: int, module: fx.GraphModule | None = None) -> Cost:
    """Derive the cost and the output shapes of one call.

    Raises:
        CandidateError: phase `graph`; the shapes do not fit, or a value is too large.
    """
    module = module or build(graph)
    for node in module.graph.nodes:
        if node.op == "call_function" and node.target in NAMES:
            node.target = operator_of(NAMES[node.target])  # one node, whose work is known
    with FakeTensorMode() as fake:
        for name, tensor in module.named_buffers():
            setattr(module, name, fake.from_tensor(tensor))
        inputs = [torch.empty(_sizes(i.shape, batch), dtype=i.dtype) for i in graph.inputs]
        counter = _Counter()
        try:
            with counter:
                outputs: Sequence[torch.Tensor] = fx.Interpreter(module).run(*inputs)
        except CandidateError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise CandidateError(
                "graph", "shape", f"shapes do not fit: {str(error).splitlines()[0][:200]}"
            ) from None
        counter.settle()
    shapes = tuple(tuple(int(s) for s in o.shape) for o in outputs)
    dtypes = tuple(o.dtype for o in outputs)
    work = counter.total()
    return Cost(
        flops=work.flops,
        touched=work.touched,
        peak_bytes=work.peak,
        largest=counter.largest,
        largest_at=counter.largest_at,
        operators=counter.operators,
        shapes=shapes,
        dtypes=dtypes,
    )


def _sizes(shape: tuple[int, ...], batch: int) -> list[int]:
    return [batch if s == -1 else s for s in shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """FLOPs, elements touched, and bytes alive at the peak."""

    flops: int
    touched: int
    peak: int

    def further(self, other: "_Work", times: float) -> "_Work":
        """Go on from here `times` as far as `other` is."""
        mine, theirs = ((w.flops, w.touched, w.peak) for w in (self, other))
        flops, touched, peak = (round(a + (b - a) * times) for a, b in zip(mine, theirs, strict=True))
        return _Work(flops=flops, touched=touched, peak=peak)


Spec = tuple[tuple[tuple[int, ...], torch.dtype] | None, ...]  # shapes and dtypes of an operator's tensors


class _Counter(TorchDispatchMode):
    """Counts what runs inside it; fake tensors only."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.largest = self.peak = 0
        self.largest_at = ""
        self.operators: Counter[str] = Counter()  # elements touched
        self._alive: dict[int, int] = {}  # bytes by memory
        self._now = 0  # their sum
        self._write: tuple[str, int, int, int] | None = None  # the last: name, memory, cost of its copy
        self._ours: list[tuple[str, Spec, int]] = []  # calls of our operators, bytes alive before each

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator on fake tensors and count it."""
        kwargs = kwargs or {}
        if func.namespace not in ("aten", "asi_arch"):
            return func(*args, **kwargs)  # asks for a device or a size and touches nothing
        self.settle()
        before = self._now
        result = func(*args, **kwargs)
        outputs = list(_tensors(result))
        written = sum(_size(o, func) for o in outputs)
        name = func._opname
        if name in VIEWS or any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns):
            return result  # a view costs nothing
        for output in outputs:
            self._keep(output.untyped_storage())
        if func.namespace == "asi_arch":
            self._ours.append((f"asi_arch.{name}.default", _spec(args, kwargs, func), before))
        else:
            self._count(func, args, kwargs, result, written)
        self.peak = max(self.peak, self._now)
        most = max(outputs, key=torch.Tensor.numel, default=None)
        if most is not None and most.numel() > self.largest:
            self.largest, self.largest_at = most.numel(), f"{func} {list(most.shape)}"
        if self.flops > MAX_WORK:
            raise CandidateError("graph", "work", f"more than {MAX_WORK:.1e} FLOPs in one call")
        return result

    def settle(self) -> None:
        """Forgive the copy that the last write made, if nothing else needs what it wrote over."""
        if self._write is not None:
            name, memory, flops, touched = self._write
            if memory not in self._alive:
                self.flops -= flops
                self.operators[name] -= touched
            self._write = None

    def total(self) -> _Work:
        """Give all work, that of our operators included."""
        works = [(name, operator_work(name, spec), alive) for name, spec, alive in self._ours]
        for name, work, _ in works:
            self.operators[name] += work.touched
        self._ours = []
        return _Work(
            flops=self.flops + sum(work.flops for _, work, _ in works),
            touched=self.operators.total(),
            peak=max([self.peak, *(alive + work.peak for _, work, alive in works)]),
        )

    def _count(self, func: Any, args: Any, kwargs: Any, result: Any, written: int) -> None:
        reads = [t.numel() for t in _tensors([*args, *kwargs.values()])]
        name = func._opname
        if name in LOOKUPS:
            reads[0] = written
        flops = max(written, *reads, 0) if name not in LOOKUPS else written
        known = _FORMULAS.get(name) or flop_registry.get(func._overloadpacket)
        if known is not None:
            flops = int(known(*args, **kwargs, out_val=result))
        self.flops += flops
        self.operators[str(func)] += sum(reads) + written
        if name in WRITES:
            part = sum(reads[1:])
            memory = args[0].untyped_storage()._cdata
            self._write = (str(func), memory, max(0, flops - part), max(0, reads[0] + written - part))

    def _keep(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self._now += storage.nbytes()
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self._now -= self._alive.pop(key)


@lru_cache(maxsize=4096)
def operator_work(name: str, spec: Spec) -> _Work:
    """Give the work of one call of an operator of ours: what its function does, in chunks of 16.

    Up to 16 tokens it is counted as it runs. Beyond, one more chunk costs what the fourth costs more
    than the third: chunks are alike, and the state walks through them one by one.
    """
    length = spec[0][0][1] if spec[0] else 0
    if length <= CHUNK:
        return _counted(name, spec)
    some, more = (_counted(name, _of_length(name, spec, n * CHUNK)) for n in (2, 4))
    unit = 1 if "short_conv" in name else CHUNK
    tokens = math.ceil(length / unit) * unit
    return some.further(more, (tokens / CHUNK - 2) / 2)


def _counted(name: str, spec: Spec) -> _Work:
    """Run an operator's own function on fake tensors and count."""
    with FakeTensorMode():
        tensors = [None if s is None else torch.empty(s[0], dtype=s[1]) for s in spec]
        counter = _Counter()
        with counter:
            INLINE[name](*tensors)
    return counter.total()


def _spec(args: Sequence[Any], kwargs: Mapping[str, Any], func: Any) -> Spec:
    given = dict(zip(_tensor_arguments(func), args, strict=False)) | dict(kwargs)
    tensors = [given.get(name) for name in _tensor_arguments(func)]
    return tuple(None if t is None else (tuple(t.shape), t.dtype) for t in tensors)


def _tensor_arguments(func: Any) -> list[str]:
    return [a.name for a in func._schema.arguments if "Tensor" in str(a.real_type)]


def _of_length(name: str, spec: Spec, wanted: int) -> Spec:
    """Give the same tensors for another T, which is the second axis of what has tokens."""
    changed = []
    for argument, entry in zip(_tensor_arguments(operator_of(name)), spec, strict=True):
        if entry is not None and argument in SEQUENCES and len(entry[0]) > 2:
            entry = ((entry[0][0], wanted, *entry[0][2:]), entry[1])
        changed.append(entry)
    return tuple(changed)


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """Give the tensors of a value or of nested lists."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _size(tensor: torch.Tensor, func: Any) -> int:
    size = math.prod(tensor.shape)
    if size > MAX_VALUE:
        message = f"{func} makes a value of shape {list(tensor.shape)} (limit {MAX_VALUE} elements)"
        raise CandidateError("graph", "size", message)
    return size


def _sort(x: torch.Tensor, dim: int = -1, *_: Any, **__: Any) -> int:
    """Count n log2 n for each row of n."""
    return x.numel() * max(1, math.ceil(math.log2(max(2, x.shape[dim])))) if x.dim() else 1


def _topk(x: torch.Tensor, _k: int, dim: int = -1, *_: Any, **__: Any) -> int:
    return _sort(x, dim)


def _pooling(x: torch.Tensor, kernel: Sequence[int], *_: Any, out_val: Any, **__: Any) -> int:
    first = next(_tensors(out_val))
    return first.numel() * math.prod(kernel)


def _triangular(a: torch.Tensor, b: torch.Tensor, *_: Any, **__: Any) -> int:
    return b.numel() * max(a.shape[-1], 1)


_FORMULAS: dict[str, Callable[..., int]] = {
    "sort": _sort,
    "topk": _topk,
    "avg_pool2d": _pooling,
    "max_pool2d_with_indices": _pooling,
    "linalg_solve_triangular": _triangular,
}  # what torch.utils.flop_counter does not know
