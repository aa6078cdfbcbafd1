"""Falls to `cost`: retention in its parallel form, through a T x T matrix of decays.

It is causal, its state is constant, and it continues exactly. But training work and memory grow
as T^2, where the recurrent or chunked form of the same formula needs T.
"""

import math

import torch
from torch import Tensor, nn

from asi_arch.ops import RMSNorm

LOG_DECAY = math.log(1 - 2**-5)


class Mixer(nn.Module):
    """Retention, all pairs of tokens at once. State: the memory [B, H, K, V]."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.norm = RMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix x: [B, T, D] from a state on."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        if state is None:
            state = x.new_zeros(x.shape[0], self.num_heads, q.shape[-1], v.shape[-1])
        time = torch.arange(x.shape[1], dtype=x.dtype, device=x.device)
        age = time[:, None] - time  # [T, T], negative in the future
        decay = (LOG_DECAY * age).exp().masked_fill(age < 0, 0.0)
        scores = torch.einsum("bthk,bshk->bhts", q, k) * decay
        o = torch.einsum("bhts,bshv->bthv", scores, v)
        since = (LOG_DECAY * (time + 1)).exp()  # [T], what is left of the first state
        o = o + torch.einsum("bthk,bhkv,t->bthv", q, state, since)
        state = torch.einsum("bshk,bshv,s->bhkv", k, v, decay[-1]) + since[-1] * state
        return self.out(self.norm(o).flatten(-2)), state
