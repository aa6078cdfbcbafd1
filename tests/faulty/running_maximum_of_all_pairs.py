"""Fault: a running maximum looks at all T positions for each of T shifts, eight channels only.
Expect: refused by cost
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
        state, peak = (None, None) if state is None else state
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        o, state = linear_attention(q.relu() + 0.1, k.relu() + 0.1, v, initial_state=state)
        y = self.out(rms_norm(o).flatten(-2))
        time = torch.arange(x.shape[1], device=x.device)
        pairs = x[:, None, :, :1].expand(-1, x.shape[1], -1, -1)
        highest = pairs.masked_fill((time > time[:, None])[..., None], -1e4).amax(2)
        highest = highest if peak is None else torch.maximum(highest, peak)
        y = y + 0.01 * highest
        return y, (state, highest[:, -1:])
