"""Falls to `causality`: each channel is divided by its RMS over all T tokens, later ones included.

A norm over time instead of over channels: a wrong `dim`, and every output knows how large the
future is. It falls to `continuation` too, as whatever sees the future must: a piece cannot know
what the whole knows.
"""

from torch import Tensor, nn

from asi_arch.ops import RMSNorm, ShortConvolution, delta_rule, l2norm

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """DeltaNet on inputs that are normalized over time."""

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
        x = x * (x.square().mean(dim=1, keepdim=True) + 1e-5).rsqrt()
        qkv, recent = self.conv(self.qkv(x), recent)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        beta = self.beta(x).sigmoid()
        o, memory = delta_rule(l2norm(q), l2norm(k), v, beta, initial_state=memory, scale=1.0)
        return self.out(self.norm(o).flatten(-2)), (recent, memory)
