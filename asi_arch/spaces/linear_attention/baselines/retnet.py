"""RetNet: an additive memory that fades at a fixed rate, one for each head.

    S_t = gamma S_{t-1} + k_t v_t^T,    o_t = S_t^T q_t / sqrt(K)
    gamma_h = 1 - 2^(-5 - h)

Queries and keys carry rotary positions, so each head measures distances by both phase and decay.

Source: arXiv:2307.08621, eq. 6 (the recurrence) and 8 (gated multi-scale retention). The norm of
each head is an RMS norm without weights, as in the authors' code. Here K = V = D / H, as in every
baseline, so that all have a state of one size; the paper doubles V.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asi_arch.ops import retention, rms_norm, rotary

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """Mixes by retention. State: the next position [B], the memory [B, H, K, V]."""

    log_decay: Tensor

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.register_buffer("log_decay", torch.log1p(-(2.0 ** (-5.0 - torch.arange(num_heads)))))
        self.gate = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Mix x: [B, T, D] from a state on; give y: [B, T, D] and the next state."""
        position, memory = (None, None) if state is None else state
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # [B, T, H, K] each
        q, _ = rotary(q, position)
        k, position = rotary(k, position)
        o, memory = retention(q, k, v, self.log_decay, initial_state=memory)
        return self.out(F.silu(self.gate(x)) * rms_norm(o).flatten(-2)), (position, memory)
