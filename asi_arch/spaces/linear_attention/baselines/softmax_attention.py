"""Softmax attention: every token looks at all tokens before it. A reference, not a candidate.

    o_t = sum_{s <= t} softmax_s(q_t . k_s / sqrt(K)) v_s

It remembers all keys and values, so work grows as T^2 and the state as T: it must fall to the
checks `cost` and `state`. It stands in the tables to show what a constant memory gives up.

Source: arXiv:1706.03762, eq. 1, with rotary positions (arXiv:2104.09864), since the model around
the mixer has none.
"""

import torch
from torch import Tensor, nn

from asi_arch.ops import rotary

State = tuple[Tensor, Tensor, Tensor]


class Mixer(nn.Module):
    """Mixes by causal attention. State: the next position [B], keys and values [B, T, H, K]."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Mix x: [B, T, D] from a state on; give y: [B, T, D] and the next state."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # [B, T, H, K] each
        position = None if state is None else state[0]
        q, _ = rotary(q, position)
        k, position = rotary(k, position)
        if state is not None:
            k, v = torch.cat([state[1], k], dim=1), torch.cat([state[2], v], dim=1)
        new, total = x.shape[1], k.shape[1]
        future = torch.ones(new, total, dtype=torch.bool, device=x.device).triu(total - new + 1)
        scores = torch.einsum("bthk,bshk->bhts", q, k) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(future, float("-inf")).softmax(-1)
        o = torch.einsum("bhts,bshv->bthv", weights, v)
        return self.out(o.flatten(-2)), (position, k, v)
