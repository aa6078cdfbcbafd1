"""Fault: rotary positions start at 0 in each piece.
Expect: refused by continuation
"""

from torch import nn

from asi_arch.ops import linear_attention, rms_norm, rotary


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        o, state = linear_attention(q.relu() + 0.1, k.relu() + 0.1, v, initial_state=state)
        y = self.out(rms_norm(o).flatten(-2))
        turned, _ = rotary(v)
        y = y + 0.1 * turned.flatten(-2)
        return y, state
