"""Falls to `budget`: queries, keys and values come through a hidden layer of six times the width.

That is 25 D^2 parameters, and sound in every other way. But nothing would be left of the model
around it, and a gain could come from size alone.
"""

from torch import Tensor, nn

from asi_arch.ops import RMSNorm, ShortConvolution, delta_rule, l2norm

EXPANSION = 6

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """DeltaNet on what a large feed-forward network makes of the input."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        hidden = EXPANSION * d_model
        self.qkv = nn.Sequential(nn.Linear(d_model, hidden), nn.SiLU(), nn.Linear(hidden, 3 * d_model))
        self.conv = ShortConvolution(3 * d_model, kernel_size=4, activation="silu")
        self.beta = nn.Linear(d_model, num_heads, bias=False)
        self.norm = RMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Mix x: [B, T, D] from a state on."""
        recent, memory = (None, None) if state is None else state
        qkv, recent = self.conv(self.qkv(x), recent)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        beta = self.beta(x).sigmoid()
        o, memory = delta_rule(l2norm(q), l2norm(k), v, beta, initial_state=memory, scale=1.0)
        return self.out(self.norm(o).flatten(-2)), (recent, memory)
