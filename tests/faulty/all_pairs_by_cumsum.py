"""Fault: weights of a running mean are running products over a T x T matrix.
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
        steps = torch.where(age > 0, DECAY, 1.0).cumprod(0)
        o = torch.einsum("ts,bsd->btd", torch.where(age >= 0, steps, 0.0), v)
        o = o + DECAY ** (time + 1).to(x.dtype)[:, None] * state
        return self.out(o), o[:, -1:]
