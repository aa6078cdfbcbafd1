"""Inside the wall: bounds on what a candidate's module does while it is run to be traced."""

import linecache
import sys
import types
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from asi_arch.engineer.trace import CANDIDATE_FILE
from asi_arch.errors import CandidateError

MAX_VALUE = 2**26  # elements of one value, views too
MAX_WORK = 2**37  # operations of products and convolutions in one call


class Bounded(TorchDispatchMode):
    """Refuse a call that makes a large value or works long, with the candidate's line.

    What it does not bound: one operator whose result alone is too large; the sandbox does.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operator and look at what it gave."""
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.numel() > MAX_VALUE:
                raise _refused(
                    "size", f"a value of shape {list(tensor.shape)} (limit {MAX_VALUE:,} elements)"
                )
        counted = flop_registry.get(func._overloadpacket)
        if counted is not None:
            self.work += int(counted(*args, **(kwargs or {}), out_val=result))
            if self.work > MAX_WORK:
                raise _refused("work", f"more than {MAX_WORK:.1e} operations in one call")
        return result


def _refused(kind: str, message: str) -> CandidateError:
    return CandidateError("graph", kind, message + place_of(sys._getframe(2)))


def place_of(frame: types.FrameType | None) -> str:
    """Give ` (line 12: code)` for the innermost frame of a candidate, or ""."""
    while frame is not None and frame.f_code.co_filename != CANDIDATE_FILE:
        frame = frame.f_back
    number = frame.f_lineno if frame else 0
    return f" (line {number}: {linecache.getline(CANDIDATE_FILE, number).strip()})" if number else ""
