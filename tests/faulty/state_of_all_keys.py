"""Fault: the state is the list of all past keys and values, as in a transformer.
Expect: refused by cost or state
"""

import torch
from torch import nn


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        if state is not None:
            k, v = torch.cat([state[0], k], 1), torch.cat([state[1], v], 1)
        scores = torch.einsum("bthk,bshk->bhts", q, k) / 4
        past = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device)
        past = past.tril(scores.shape[-1] - x.shape[1])
        o = scores.masked_fill(~past, -1e9).softmax(-1)
        o = torch.einsum("bhts,bshv->bthv", o, v)
        return self.out(o.flatten(-2)), (k, v)
