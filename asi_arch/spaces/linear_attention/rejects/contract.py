"""Falls to `contract`: forward takes no state and returns none, as layers elsewhere do.

The computation is a sound, causal linear attention, but nobody can decode with it token by token.
"""

from torch import Tensor, nn

from asi_arch.ops import RMSNorm, l2norm, linear_attention


class Mixer(nn.Module):
    """Linear attention that only works on whole sequences."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.norm = RMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix x: [B, T, D]; give y: [B, T, D]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        o, _ = linear_attention(l2norm(q), l2norm(k), v)
        y: Tensor = self.out(self.norm(o).flatten(-2))
        return y
