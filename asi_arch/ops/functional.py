"""Small functions without parameters that mixers are made of: norms, rotary positions, shifts."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asi_arch.ops.recurrence import compute_dtype


def l2norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Give x / sqrt(sum(x^2) + eps) over the last axis, in x's dtype; the gradient is finite at x = 0."""
    wide = x.to(compute_dtype(x))
    return (wide * (wide.square().sum(-1, keepdim=True) + eps).rsqrt()).to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Give weight * x / sqrt(mean(x^2) + eps) over the last axis, in x's dtype.

    Source: arXiv:1910.07467, eq. 4.
    """
    wide = x.to(compute_dtype(x))
    normed = wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return (normed if weight is None else normed * weight).to(x.dtype)


def rotary(x: Tensor, offset: Tensor | None = None, base: float = 1e4) -> tuple[Tensor, Tensor]:
    """Turn each pair (x_i, x_{i + K/2}) by the angle position * base**(-2i / K).

    Args:
        x: [B, T, H, K], K even: queries or keys.
        offset: [B] int64, how many tokens came before; None: 0.

    Returns:
        the turned x [B, T, H, K], and offset + T, the state for what follows.

    Source: arXiv:2104.09864, eq. 34 (pairs a half apart, as in GPT-NeoX).
    """
    batch, length, _, key = x.shape
    torch._check_value(key % 2 == 0, lambda: f"x has K = {key} channels per head: rotary wants an even number")
    if offset is None:
        offset = x.new_zeros(batch, dtype=torch.int64)
    wide = compute_dtype(x)
    pairs = torch.arange(key // 2, device=x.device, dtype=wide)
    speed = base ** (pairs * (-2.0 / key))  # radians per token
    position = offset.unsqueeze(1) + torch.arange(length, device=x.device)
    angle = (position.to(wide).unsqueeze(-1) * speed).unsqueeze(2)  # [B, T, 1, K/2]
    cos, sin = angle.cos(), angle.sin()
    a, b = x.to(wide).chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype), offset + length


def token_shift(x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Give x shifted by one token, and its last token as the state.

    Args:
        x: [B, T, D].
        state: [B, 1, D], the token before x; None: zeros.

    Source: arXiv:2305.13048, section 3.1 (RWKV).
    """
    before = F.pad(x, (0, 0, 1, 0)) if state is None else torch.cat([state.to(x.dtype), x], 1)
    return before[:, :-1], before[:, -1:]
