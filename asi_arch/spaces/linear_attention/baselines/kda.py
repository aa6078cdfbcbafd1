"""Kimi Delta Attention: the gated delta rule with a decay for every channel of the key.

    S_t = (I - beta_t k_t k_t^T) diag(exp g_t) S_{t-1} + beta_t k_t v_t^T,    o_t = S_t^T q_t
    g_t = -exp(A) softplus(W_2 W_1 x_t + b)

Each channel keeps its own clock, so slow and fast memories live in one head. The decay and the
output gate (a sigmoid, unlike Gated DeltaNet's SiLU) come through bottlenecks as wide as a head.

Source: arXiv:2510.26692, eq. 1 (the rule) and sec. 4 (the layer). The op bounds g_t to
[-5, 0]: at -5 a channel keeps 0.7 % of what it held.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asi_arch.ops import GatedRMSNorm, ShortConvolution, kda, l2norm

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """Mixes by per-channel gated deltas. State: the convolution's inputs, the memory [B, H, K, V]."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        width = d_model // num_heads  # K, and the bottlenecks' rank
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.conv = ShortConvolution(3 * d_model, kernel_size=4, activation="silu")  # depthwise
        self.beta = nn.Linear(d_model, num_heads, bias=False)
        self.dt = nn.Sequential(nn.Linear(d_model, width, bias=False), nn.Linear(width, d_model, bias=False))
        # Evenly spread, not drawn: within each head from channels that forget slowly to fast ones.
        dt = torch.linspace(math.log(1e-3), math.log(1e-1), width).exp().repeat(num_heads)
        self.dt_bias = nn.Parameter(dt + (-torch.expm1(-dt)).log())  # softplus of it is dt
        self.a_log = nn.Parameter(torch.linspace(1.0, 8.0, num_heads).log())
        self.gate = nn.Sequential(nn.Linear(d_model, width, bias=False), nn.Linear(width, d_model))
        self.norm = GatedRMSNorm(width)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Mix x: [B, T, D] from a state on; give y: [B, T, D] and the next state."""
        recent, memory = (None, None) if state is None else state
        qkv, recent = self.conv(self.qkv(x), recent)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # [B, T, H, K] each
        beta = self.beta(x).sigmoid()  # [B, T, H]
        dt = (self.dt(x) + self.dt_bias).unflatten(-1, (self.num_heads, -1))  # [B, T, H, K]
        g = -self.a_log.exp()[:, None] * F.softplus(dt)
        o, memory = kda(l2norm(q), l2norm(k), v, g, beta, initial_state=memory, scale=1.0)
        gate = self.gate(x).unflatten(-1, (self.num_heads, -1))
        return self.out(self.norm(o, gate, activation="sigmoid").flatten(-2)), (recent, memory)
