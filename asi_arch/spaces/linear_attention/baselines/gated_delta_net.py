"""Gated DeltaNet: the delta rule, and a gate that clears the whole memory at once.

    S_t = (I - beta_t k_t k_t^T) exp(g_t) S_{t-1} + beta_t k_t v_t^T,    o_t = S_t^T q_t
    g_t = -exp(A) softplus(W x_t + b)

The delta rule replaces one value at a time; the decay g_t, one number a head, forgets them all
when the context changes. The decay is parametrized as in Mamba-2.

Source: arXiv:2412.06464, eq. 10 (the rule) and sec. 3.4 (the layer). Here K = V = D / H, as in
every baseline, so that all have a state of one size.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asi_arch.ops import GatedRMSNorm, ShortConvolution, gated_delta_rule, l2norm

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """Mixes by the gated delta rule. State: the convolution's inputs, the memory [B, H, K, V]."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.conv = ShortConvolution(3 * d_model, kernel_size=4, activation="silu")  # depthwise
        self.beta = nn.Linear(d_model, num_heads, bias=False)
        self.dt = nn.Linear(d_model, num_heads, bias=False)
        # Evenly spread, not drawn: with two heads a draw is a lottery. Head 0 forgets slowest.
        dt = torch.linspace(math.log(1e-3), math.log(1e-1), num_heads).exp()
        self.dt_bias = nn.Parameter(dt + (-torch.expm1(-dt)).log())  # softplus of it is dt
        self.a_log = nn.Parameter(torch.linspace(1.0, 8.0, num_heads).log())
        self.gate = nn.Linear(d_model, d_model, bias=False)
        self.norm = GatedRMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Mix x: [B, T, D] from a state on; give y: [B, T, D] and the next state."""
        recent, memory = (None, None) if state is None else state
        qkv, recent = self.conv(self.qkv(x), recent)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # [B, T, H, K] each
        beta = self.beta(x).sigmoid()  # [B, T, H]
        g = -self.a_log.exp() * F.softplus(self.dt(x) + self.dt_bias)  # [B, T, H]
        o, memory = gated_delta_rule(l2norm(q), l2norm(k), v, g, beta, initial_state=memory, scale=1.0)
        gate = self.gate(x).unflatten(-1, (self.num_heads, -1))
        return self.out(self.norm(o, gate, activation="silu").flatten(-2)), (recent, memory)
