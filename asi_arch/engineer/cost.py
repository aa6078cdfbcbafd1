"""What a graph costs: shapes, work and memory, derived on fake tensors; nothing is computed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from asi_arch.engineer.graph import Graph, build
from asi_arch.errors import CandidateError

MAX_VALUE = 2**26  # elements of one value, views too
REDUCTIONS = ("sum", "mean", "amax", "amin", "max", "min", "prod", "var", "std", "var_mean", "std_mean")
VIEWS = ("aten._unsafe_view.default", "aten.lift_fresh.default")  # views by nature, not by schema
MAX_WORK = 2**37  # FLOPs of one call


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one call of a graph at one batch size.

    flops: multiplications and additions of products and convolutions; one for each element read by a
    reduction; one for each element written by any other operator. written_bytes: of all values that are
    new memory. largest: elements of the largest of them, and `largest_at` its operator and shape.
    shapes: of y and the leaves of the state; dtypes likewise.
    """

    flops: int
    written_bytes: int
    largest: int
    largest_at: str
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.written = self.largest = 0
        self.largest_at = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator on fake tensors and count it."""
        result = func(*args, **(kwargs or {}))
        outputs = [r for r in (result if isinstance(result, list | tuple) else [result]) if _is_tensor(r)]
        sizes = [_size(o, func) for o in outputs]
        if str(func) in VIEWS or any(
            r.alias_info and not r.alias_info.is_write for r in func._schema.returns
        ):
            return result  # a view costs nothing
        read = max((a.numel() for a in args if _is_tensor(a)), default=0)
        counted = flop_registry.get(func._overloadpacket)
        if counted is not None:
            self.flops += int(counted(*args, **(kwargs or {}), out_val=result))
        else:
            reduces = str(func._overloadpacket).split(".")[1] in REDUCTIONS
            self.flops += max(sum(sizes), read if reduces else 0)
        self.written += sum(o.numel() * o.element_size() for o in outputs)
        if sizes and max(sizes) > self.largest:
            self.largest, self.largest_at = max(sizes), f"{func} {list(outputs[0].shape)}"
        if self.flops > MAX_WORK:
            raise CandidateError("graph", "work", f"more than {MAX_WORK:.1e} FLOPs in one call")
        return result


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _size(tensor: torch.Tensor, func: Any) -> int:
    size = math.prod(tensor.shape)
    if size > MAX_VALUE:
        message = f"{func} makes a value of shape {list(tensor.shape)} (limit {MAX_VALUE} elements)"
        raise CandidateError("graph", "size", message)
    return size


def measure(graph: Graph, batch: int, module: fx.GraphModule | None = None) -> Cost:
    """Derive the cost and the output shapes of one call.

    Raises:
        CandidateError: phase `graph`; the shapes do not fit, or a value is too large.
    """
    module = module or build(graph)
    with FakeTensorMode() as fake:
        for name, tensor in module.named_buffers():
            setattr(module, name, fake.from_tensor(tensor))
        inputs = [torch.empty(_sizes(i.shape, batch), dtype=i.dtype) for i in graph.inputs]
        counter = _Counter()
        try:
            with counter:
                outputs: Sequence[torch.Tensor] = module(*inputs)
        except CandidateError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise CandidateError(
                "graph", "shape", f"shapes do not fit: {str(error).splitlines()[0][:200]}"
            ) from None
    shapes = tuple(tuple(int(s) for s in o.shape) for o in outputs)
    dtypes = tuple(o.dtype for o in outputs)
    return Cost(flops=counter.flops, written_bytes=counter.written, largest=counter.largest,
                largest_at=counter.largest_at, shapes=shapes, dtypes=dtypes)  # fmt: skip


def _sizes(shape: tuple[int, ...], batch: int) -> list[int]:
    return [batch if s == -1 else s for s in shape]
