"""Attack: Tables in a closure, a class attribute and a plain attribute: numbers that nobody counts as
    parameters.

Expect: refused by source
Falls to: source, graph
"""

import torch
from torch import nn
from torch.nn import functional as F

from asi_arch.ops import l2norm, linear_attention

# <attack>
table = torch.randn(64, 64)


def closed(made=torch.randn(64, 64)):
    return lambda: made.mean()


hidden = closed()
# </attack>


class Mixer(nn.Module):
    # <attack>
    also = torch.randn(64, 64)
    # </attack>

    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        q, k = l2norm(F.silu(q)), l2norm(F.silu(k))
        o, state = linear_attention(q, k, v, initial_state=state)
        # <attack>
        o = o + table.mean() + hidden() + self.also.mean()
        # </attack>
        return self.out(o.flatten(-2)), state
