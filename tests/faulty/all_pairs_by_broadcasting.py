"""Fault: a running mean is a product of all pairs of positions, made by broadcasting.
Expect: refused by cost
"""

import torch
from torch import nn

DECAY = 0.9


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        v = self.value(x)
        state = torch.zeros_like(v[:, :1]) if state is None else state
        time = torch.arange(x.shape[1], device=x.device)
        age = time[:, None] - time  # [T, T]
        weight = torch.where(age >= 0, DECAY ** age.clamp(min=0).to(x.dtype), 0.0)
        o = (weight[:, :, None] * v[:, None, :, :4]).sum(2).repeat(1, 1, x.shape[2] // 4)
        o = o + DECAY ** (time + 1).to(x.dtype)[:, None] * state
        return self.out(o), o[:, -1:]
