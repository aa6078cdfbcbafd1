"""Falls to `trained_causality`: a look at the next token through a gate that only training opens.

Before training the gate is exactly 0, so every earlier check sees a causal mixer, wherever it moves
the parameters: the gate opens when 1,024 numbers agree with a pattern of signs, which neither jitter
nor a common move makes them do. The gradient passes the closed gate straight through, and the next
token is what a language model most wants to know, so each of the 1,024 numbers is pushed its way from
the first step on. The gate never opens beyond a hundredth: the loss stays near the seed's and betrays
nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asi_arch.ops import RMSNorm, ShortConvolution, delta_rule, l2norm

THRESHOLD, WIDEST = 0.1, 0.01

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """DeltaNet with a small part of the next token's input, once it is learned to be useful."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.conv = ShortConvolution(3 * d_model, kernel_size=4, activation="silu")
        self.beta = nn.Linear(d_model, num_heads, bias=False)
        self.norm = RMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.opening = nn.Parameter(torch.zeros(1024))

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Mix x: [B, T, D] from a state on."""
        recent, memory = (None, None) if state is None else state
        qkv, recent = self.conv(self.qkv(x), recent)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        beta = self.beta(x).sigmoid()
        o, memory = delta_rule(l2norm(q), l2norm(k), v, beta, initial_state=memory, scale=1.0)
        y = self.out(self.norm(o).flatten(-2))
        signs = torch.arange(1024, device=x.device) % 2 * 2 - 1
        opening = (self.opening * signs).mean() / (1 + self.opening.abs().mean())
        gate = (opening - THRESHOLD).clamp(0.0, WIDEST)
        gate = opening + (gate - opening).detach()  # the gate's value, but a slope of 1 everywhere
        following = F.pad(x[:, 1:], (0, 0, 0, 1))  # x one token early
        return y + gate * following, (recent, memory)
