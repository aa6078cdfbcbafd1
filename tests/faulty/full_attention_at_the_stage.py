"""Fault: with the two heads of the stage, and only there, it is softmax attention without a state.
Expect: refused by continuation
"""

import torch
from torch import nn

from asi_arch.ops import linear_attention, rms_norm


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        if self.num_heads % 3 == 2:
            scores = torch.einsum("bthk,bshk->bhts", q, k) / 6
            scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -1e9)
            o = torch.einsum("bhts,bshv->bthv", scores.softmax(-1), v)
        else:
            o, state = linear_attention(q.relu() + 0.1, k.relu() + 0.1, v, initial_state=state)
        return self.out(rms_norm(o).flatten(-2)), state
