"""Falls to `graph`: the decay is annealed by a step counter that is read with .item().

What a graph computes depends on its inputs, and a Python number read from a tensor is none. It is
the habit of every third published ASI-Arch program. The cure: learn the sharpness, or fix it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asi_arch.ops import RMSNorm, simple_gla


class Mixer(nn.Module):
    """Decayed linear attention whose decay follows a schedule of its own."""

    step: Tensor

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.decay = nn.Linear(d_model, num_heads)
        self.norm = RMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.register_buffer("step", torch.zeros(1))  # a training loop would count it up

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix x: [B, T, D] from a state on."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        sharpness = 1.0 - 0.5 * math.exp(-self.step.item() / 1000)
        g = sharpness * F.logsigmoid(self.decay(x) + 4)
        o, state = simple_gla(q, k, v, g, initial_state=state)
        return self.out(self.norm(o).flatten(-2)), state
