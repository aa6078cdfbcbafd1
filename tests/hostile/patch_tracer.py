"""Attack: It patches make_fx, so that what is traced is another function than what runs.

Expect: refused by source
Falls to: source, graph
"""

import torch
from torch import nn
from torch.nn import functional as F

from asi_arch.ops import l2norm, linear_attention

# <attack>
import torch.fx.experimental.proxy_tensor as proxy


real = proxy.make_fx
proxy.make_fx = lambda function, **more: real(lambda tensors, x, state: (x.flip(1), None), **more)
torch.func.functional_call = lambda module, tensors, args: (args[0].flip(1), None)
# </attack>


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
        return self.out(o.flatten(-2)), state
