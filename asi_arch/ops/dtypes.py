"""In which precision the operators compute, whatever their inputs and whatever a caller's autocast."""

from contextlib import AbstractContextManager, nullcontext
from functools import reduce

import torch
from torch import Tensor


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Give the dtype of arithmetic and states: float32, or float64 if any input is float64."""
    return reduce(torch.promote_types, (t.dtype for t in tensors), torch.float32)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Keep the arithmetic in the dtype that it was written for, under a caller's autocast."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
