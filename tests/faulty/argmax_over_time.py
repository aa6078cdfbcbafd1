"""Fault: each token learns where the largest value of the sequence is.
Expect: refused by causality
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
        where = x.detach().norm(dim=-1).argmax(1)  # [B]
        y = y + 1e-3 * (where / x.shape[1]).to(x.dtype)[:, None, None]
        return y, state
