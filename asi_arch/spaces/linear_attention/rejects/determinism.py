"""Falls to `determinism`: dropout stays on in evaluation, because F.dropout was not told the mode.

`F.dropout(v, 0.1)` drops at all times; nn.Dropout, or training=self.training, is meant. With noise
no other check can compare two runs, and no score can be repeated.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from asi_arch.ops import RMSNorm, ShortConvolution, delta_rule, l2norm

State = tuple[Tensor, Tensor]


class Mixer(nn.Module):
    """DeltaNet that drops values even when it is used."""

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
        v = F.dropout(v, 0.1)
        beta = self.beta(x).sigmoid()
        o, memory = delta_rule(l2norm(q), l2norm(k), v, beta, initial_state=memory, scale=1.0)
        return self.out(self.norm(o).flatten(-2)), (recent, memory)
