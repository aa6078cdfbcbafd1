"""Falls to `determinism`: noise is added to the values, in evaluation too.

Randomness belongs to nn.Dropout, which is switched off when a model is used. With noise, no other
check can compare two runs, and no score can be repeated.
"""

import torch
from torch import Tensor, nn

from asi_arch.ops import RMSNorm, ShortConvolution, delta_rule, l2norm

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """DeltaNet with noisy values."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.conv = ShortConvolution(3 * d_model, kernel_size=4, activation="silu")
        self.beta = nn.Linear(d_model, num_heads, bias=False)
        self.norm = RMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Mix x: [B, T, D] from a state on."""
        recent, memory = (None, None) if state is None else state
        qkv, recent = self.conv(self.qkv(x), recent)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        v = v + 0.1 * torch.rand_like(v)
        beta = self.beta(x).sigmoid()
        o, memory = delta_rule(l2norm(q), l2norm(k), v, beta, initial_state=memory, scale=1.0)
        return self.out(self.norm(o).flatten(-2)), (recent, memory)
