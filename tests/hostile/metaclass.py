"""Attack: Its metaclass gives an object of another class to whoever builds a Mixer, and another for each call.

Expect: refused by source
Falls to: source, graph
"""

import torch
from torch import nn
from torch.nn import functional as F

from asi_arch.ops import l2norm, linear_attention

# <attack>
class TwoFaces(type):
    calls = 0

    def __call__(cls, *given):
        TwoFaces.calls += 1
        made = super().__call__(*given)
        made.face = TwoFaces.calls
        return made
# </attack>


class Mixer(nn.Module, metaclass=TwoFaces):
    # <attack>
    face = 0
    # </attack>

    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        # <attack>
        x = x * type(self).mro()[0].__name__.count("M") if self.face < 2 else x.flip(1)
        # </attack>
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        q, k = l2norm(F.silu(q)), l2norm(F.silu(k))
        o, state = linear_attention(q, k, v, initial_state=state)
        return self.out(o.flatten(-2)), state
