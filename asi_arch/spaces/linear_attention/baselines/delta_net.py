"""DeltaNet: a memory that is corrected by what it got wrong. The seed of the search.

    S_t = (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,    o_t = S_t^T q_t

Each token reads what the memory holds under its key and writes the difference to its own value,
so that a new value replaces the old one under the same key instead of being added to it.

Source: arXiv:2406.06484, sec. 2.2 (the rule) and 3.3 (the layer: short convolutions, SiLU,
L2-normalized queries and keys, RMS-normalized output).
"""

from torch import Tensor, nn

from asi_arch.ops import RMSNorm, ShortConvolution, delta_rule, l2norm

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """Mixes tokens by the delta rule. State: the convolution's inputs, the memory [B, H, K, V]."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.conv = ShortConvolution(3 * d_model, kernel_size=4, activation="silu")  # depthwise
        self.beta = nn.Linear(d_model, num_heads, bias=False)
        self.norm = RMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Mix x: [B, T, D] from a state on; give y: [B, T, D] and the next state."""
        recent, memory = (None, None) if state is None else state
        qkv, recent = self.conv(self.qkv(x), recent)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # [B, T, H, K] each
        beta = self.beta(x).sigmoid()  # [B, T, H]
        o, memory = delta_rule(l2norm(q), l2norm(k), v, beta, initial_state=memory, scale=1.0)
        return self.out(self.norm(o).flatten(-2)), (recent, memory)
