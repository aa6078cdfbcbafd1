"""Falls to `continuation`: the short convolution forgets its last inputs between two pieces.

The memory is carried on, the convolution starts each piece from zeros. A whole sequence is right
and causal; the first three tokens of every later piece are wrong, and token by token all are.
"""

from torch import Tensor, nn

from asi_arch.ops import RMSNorm, ShortConvolution, delta_rule, l2norm


class Mixer(nn.Module):
    """DeltaNet whose state is the memory alone."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.conv = ShortConvolution(3 * d_model, kernel_size=4, activation="silu")
        self.beta = nn.Linear(d_model, num_heads, bias=False)
        self.norm = RMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix x: [B, T, D] from a state on."""
        qkv, _ = self.conv(self.qkv(x))
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        beta = self.beta(x).sigmoid()
        o, state = delta_rule(l2norm(q), l2norm(k), v, beta, initial_state=state, scale=1.0)
        return self.out(self.norm(o).flatten(-2)), state
