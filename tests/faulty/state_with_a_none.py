"""Fault: a place of the state is None, as a sequence's start is.
Expect: refused by contract
"""

from torch import nn

from asi_arch.ops import linear_attention, rms_norm


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        memory = state[1] if state is not None else None
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        o, memory = linear_attention(q.relu() + 0.1, k.relu() + 0.1, v, initial_state=memory)
        return self.out(rms_norm(o).flatten(-2)), (None, memory)
