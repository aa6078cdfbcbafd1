"""Small functions without parameters that mixers are made of: norms, rotary positions, shifts."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asi_arch.ops.dtypes import compute_dtype
from asi_arch.ops.shapes import require


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
        base: the slowest pair turns by about 1 / base radians per token.

    Returns:
        the turned x [B, T, H, K] in x's dtype, and offset + T [B] int64, the state for what follows.

    Source: arXiv:2104.09864, eq. 34 (with the pairs half a head apart, as in GPT-NeoX).
    """
    batch, length, _, key = x.shape
    require(key % 2 == 0, lambda: f"x has K = {key}: rotary turns pairs, so give an even number of channels")
    if offset is None:
        offset = x.new_zeros(batch, dtype=torch.int64)
    wide = compute_dtype(x)
    pair = torch.arange(key // 2, device=x.device, dtype=wide)
    speed = base ** (pair * (-2.0 / key))  # radians per token
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

    Returns:
        the tokens before each token of x [B, T, D], and the last token of x [B, 1, D].

    Source: arXiv:2305.13048, section 3.1 (RWKV).
    """
    with_past = F.pad(x, (0, 0, 1, 0)) if state is None else torch.cat([state.to(x.dtype), x], 1)
    return with_past[:, :-1], with_past[:, -1:]
