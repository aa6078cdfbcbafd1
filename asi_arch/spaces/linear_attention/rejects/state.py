"""Falls to `state`: it keeps all values since the start, though it reads only the last three.

A convolution over the cache of a transformer. Work grows as T, the output is right however the
sequence is cut, but the memory for decoding grows with every token.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asi_arch.ops import short_conv

KERNEL_SIZE = 4
RECENT = KERNEL_SIZE - 1


class Mixer(nn.Module):
    """A gated short convolution. State: all values so far [B, T, D]."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.gate = nn.Linear(d_model, d_model, bias=False)
        self.weight = nn.Parameter(torch.randn(d_model, KERNEL_SIZE) / KERNEL_SIZE)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix x: [B, T, D] from a state on."""
        v = self.value(x)
        recent = None if state is None else F.pad(state, (0, 0, RECENT, 0))[:, -RECENT:]
        y, _ = short_conv(v, self.weight, state=recent)
        state = v if state is None else torch.cat([state, v], dim=1)
        return self.out(y * F.silu(self.gate(x))), state
