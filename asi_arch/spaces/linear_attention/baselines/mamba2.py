"""Mamba-2: a state space whose decay and write strength are one learned step size.

    S_t = exp(-exp(A) dt_t) S_{t-1} + k_t (dt_t v_t)^T,    o_t = S_t^T q_t + d v_t
    dt_t = softplus(W x_t + b)

In the paper's letters k is B, q is C and v is x. A long step forgets more and writes more. B and
C are shared by all heads, and the gate is applied before the norm, which spans all heads.

Source: arXiv:2405.21060, eq. 2 (the recurrence), sec. 7.1 to 7.2 (the block, multi-value heads).
Here V = D / H (expansion 1) and a state of N = D / H, as in every baseline, so that all have a
state of one size.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asi_arch.ops import RMSNorm, ShortConvolution, simple_gla

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """Mixes by a selective state space. State: the convolution's inputs, the memory [B, H, N, V]."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.widths = [d_model, d_model // num_heads, d_model // num_heads]  # v, k, q
        self.vkq = nn.Linear(d_model, sum(self.widths), bias=False)
        self.conv = ShortConvolution(sum(self.widths), kernel_size=4, activation="silu")
        self.dt = nn.Linear(d_model, num_heads, bias=False)
        # Evenly spread, not drawn: with two heads a draw is a lottery. Head 0 forgets slowest.
        dt = torch.linspace(math.log(1e-3), math.log(1e-1), num_heads).exp()
        self.dt_bias = nn.Parameter(dt + (-torch.expm1(-dt)).log())  # softplus of it is dt
        self.a_log = nn.Parameter(torch.linspace(1.0, 8.0, num_heads).log())
        self.skip = nn.Parameter(torch.ones(num_heads))
        self.gate = nn.Linear(d_model, d_model, bias=False)
        self.norm = RMSNorm(d_model)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Mix x: [B, T, D] from a state on; give y: [B, T, D] and the next state."""
        recent, memory = (None, None) if state is None else state
        vkq, recent = self.conv(self.vkq(x), recent)
        v, k, q = vkq.split(self.widths, dim=-1)
        v = v.unflatten(-1, (self.num_heads, -1))  # [B, T, H, V]
        k, q = (t.unsqueeze(2).expand(-1, -1, self.num_heads, -1) for t in (k, q))  # [B, T, H, N]
        dt = F.softplus(self.dt(x) + self.dt_bias)  # [B, T, H]
        g = -self.a_log.exp() * dt
        o, memory = simple_gla(q, k, v * dt.unsqueeze(-1), g, initial_state=memory, scale=1.0)
        o = (o + self.skip[:, None] * v).flatten(-2)
        return self.out(self.norm(o * F.silu(self.gate(x)))), (recent, memory)
