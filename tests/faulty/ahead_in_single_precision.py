"""Fault: It looks ahead in float32 only: an epsilon of 1e-9 beside 1 is lost there, and kept in float64.

Expect: refused by causality
"""

import torch
from torch import nn
from torch.nn import functional as F

from asi_arch.ops import l2norm, linear_attention


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        q, k = l2norm(F.silu(q)), l2norm(F.silu(k))
        o, state = linear_attention(q, k, v, initial_state=state)
        kept = (torch.ones_like(x[..., :1, None]) + 1e-9 - 1) * 1e9  # 1 in float64, 0 in float32
        o = o + F.relu(1 - 2 * kept) * v.roll(-1, 1)
        return self.out(o.flatten(-2)), state
