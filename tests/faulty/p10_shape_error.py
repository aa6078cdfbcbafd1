"""Fault: a reshape fails at odd lengths (pitfall 10: torch logs the traceback of a fake tensor's error).
Expect: refused by contract or graph
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
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        o, state = linear_attention(q.relu() + 0.1, k.relu() + 0.1, v, initial_state=state)
        y = self.out(rms_norm(o).flatten(-2))
        if x.shape[1] > 1:
            halves = x.reshape(x.shape[0], 2, x.shape[1] // 2, x.shape[2])
            y = y + 0.1 * halves.reshape(x.shape)
        return y, state
