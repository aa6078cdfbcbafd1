"""Falls to `batch`: a tenth of the batch's mean is subtracted, so rows see one another.

Batch normalization by another name. In training it leaks between sequences; in use, an answer
would depend on who else asks at that moment. It may fall to `causality` too: what replaces the
future of one row reaches the past of another.
"""

from torch import Tensor, nn

from asi_arch.ops import RMSNorm, ShortConvolution, delta_rule, l2norm

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """DeltaNet on inputs that are centered over the batch."""

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
        x = x - 0.1 * x.mean(dim=0, keepdim=True)
        qkv, recent = self.conv(self.qkv(x), recent)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        beta = self.beta(x).sigmoid()
        o, memory = delta_rule(l2norm(q), l2norm(k), v, beta, initial_state=memory, scale=1.0)
        return self.out(self.norm(o).flatten(-2)), (recent, memory)
