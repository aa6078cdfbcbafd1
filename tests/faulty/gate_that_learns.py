"""Fault: the gate to the next token opens when 1,024 parameters agree with a pattern of signs, which no
jitter makes them and every step of training does: the gate's gradient goes straight through.
Expect: refused by trained_causality
"""

import torch
from torch import nn
from torch.nn import functional as F

from asi_arch.ops import linear_attention, rms_norm


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.gate = nn.Parameter(torch.zeros(1024))

    def forward(self, x, state=None):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        o, state = linear_attention(q.relu() + 0.1, k.relu() + 0.1, v, initial_state=state)
        y = self.out(rms_norm(o).flatten(-2))
        following = F.pad(x[:, 1:], (0, 0, 0, 1))  # x one token early
        signs = torch.arange(1024, device=x.device) % 2 * 2 - 1
        agreement = (self.gate * signs).mean() / (1 + self.gate.abs().mean())
        opened = (agreement - 0.1).clamp(0.0, 0.01)
        y = y + (agreement + (opened - agreement).detach()) * following
        return y, state
