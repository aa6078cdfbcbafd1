"""Linear attention: softmax replaced by a feature map, so that the past is a sum.

    S_t = S_{t-1} + f(k_t) v_t^T,    z_t = z_{t-1} + f(k_t),    f(x) = elu(x) + 1
    o_t = S_t^T f(q_t) / (z_t . f(q_t))

With the paper's normalizer, not an output norm. The normalizer is one more column of the memory:
a value that is always 1.

Source: arXiv:2006.16236, eq. 7 (the feature map) and 16 to 20 (the recurrence).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from asi_arch.ops import linear_attention

EPSILON = 1e-6  # elu(x) + 1 rounds to 0 in low precision


class Mixer(nn.Module):
    """Mixes by linear attention. State: the memory [B, H, K, V + 1], its last column z."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix x: [B, T, D] from a state on; give y: [B, T, D] and the next state."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # [B, T, H, K] each
        v_and_one = F.pad(v, (0, 1), value=1.0)
        o, state = linear_attention(F.elu(q) + 1, F.elu(k) + 1, v_and_one, initial_state=state)
        o = o[..., :-1] / (o[..., -1:] + EPSILON)
        return self.out(o.flatten(-2)), state
