"""Gated linear attention: an additive memory with a decay for every channel of the key.

    S_t = diag(exp g_t) S_{t-1} + k_t v_t^T,    o_t = S_t^T q_t / sqrt(K)
    g_t = log sigmoid(W_2 W_1 x_t + b) / 16

Dividing by 16 keeps the decay near 1 until it is learned: at the start a channel's half-life is
about 16 tokens.

Source: arXiv:2312.06635, eq. 3 (the recurrence) and sec. 4.4 (the layer: rank 16, temperature
16, normalized output gated by a swish). Here K = V = D / H, as in every baseline, so that all
have a state of one size; the paper halves K.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from asi_arch.ops import GatedRMSNorm, gla

RANK = 16
TEMPERATURE = 16.0


class Mixer(nn.Module):
    """Mixes by gated linear attention. State: the memory [B, H, K, V]."""

    def __init__(self, d_model: int, num_heads: int, layer_idx: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.decay = nn.Sequential(nn.Linear(d_model, RANK, bias=False), nn.Linear(RANK, d_model))
        self.gate = nn.Linear(d_model, d_model)
        self.norm = GatedRMSNorm(d_model // num_heads)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix x: [B, T, D] from a state on; give y: [B, T, D] and the next state."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # [B, T, H, K] each
        g = F.logsigmoid(self.decay(x).unflatten(-1, (self.num_heads, -1))) / TEMPERATURE  # [B, T, H, K]
        o, state = gla(q, k, v, g, initial_state=state)
        gate = self.gate(x).unflatten(-1, (self.num_heads, -1))
        return self.out(self.norm(o, gate, activation="silu").flatten(-2)), state
