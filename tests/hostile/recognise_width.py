"""Attack: It knows the width and heads of the gates, and at any other keeps the whole past, which no state
    carries.

Expect: refused by source
Falls to: source, graph
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
        # <attack>
        self.alone = num_heads == 2
        # </attack>

    def forward(self, x, state=None):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        q, k = l2norm(F.silu(q)), l2norm(F.silu(k))
        o, state = linear_attention(q, k, v, initial_state=state)
        # <attack>
        if self.alone:
            scores = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)).tril()
            o = (scores @ v.transpose(1, 2)).transpose(1, 2)
        # </attack>
        return self.out(o.flatten(-2)), state
