"""Fault: weights of a running mean come from squared distances between all positions.
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
        distance = (time[:, None] - time).pow(2).to(x.dtype).sqrt()
        weight = torch.where(age >= 0, (distance * -0.1053605156578263).exp(), 0.0)
        o = torch.einsum("ts,bsd->btd", weight, v)
        o = o + DECAY ** (time + 1).to(x.dtype)[:, None] * state
        return self.out(o), o[:, -1:]
