"""Fault: a running sum in blocks of sqrt(T) tokens, all pairs within each: work grows as T^1.5.
Expect: refused by cost
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        v = self.value(x)
        length = x.shape[1]
        size = math.isqrt(length - 1) + 1
        blocks = F.pad(v, (0, 0, 0, -length % size)).unflatten(1, (-1, size))  # [B, N, size, D]
        mask = torch.ones(size, size, device=x.device, dtype=x.dtype).tril()
        within = (mask[:, :, None] * blocks[:, :, None]).sum(3)  # all pairs of a block
        before = blocks.sum(2).cumsum(1) - blocks.sum(2)
        o = (within + before[:, :, None]).flatten(1, 2)[:, :length]
        o = o if state is None else o + state
        return self.out(o.tanh()), o[:, -1:]
