"""Softmax attention over the last few tokens: linear cost, and a state of constant size."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asi_arch.ops.dtypes import compute_dtype
from asi_arch.ops.shapes import require

WindowState = tuple[Tensor, Tensor, Tensor]


def sliding_window_attention(
    q: Tensor, k: Tensor, v: Tensor, window: int, state: WindowState | None = None
) -> tuple[Tensor, WindowState]:
    """Attend to the last `window` tokens, the current one included.

    o_t = sum_s softmax_s(q_t . k_s / sqrt(K)) v_s over t - window < s <= t. Each block of `window` queries
    sees two blocks of keys, so the cost is 2 * T * window scores.

    Args:
        q: [B, T, H, K] queries.
        k: [B, T, H, K] keys; turn q and k by `rotary` beforehand if positions matter.
        v: [B, T, H, V] values.
        window: how many tokens are seen, >= 1.
        state: what this function gave for the tokens before; None: there were none.

    Returns:
        o [B, T, H, V] in v's dtype, and the state: the last window - 1 keys [B, window-1, H, K], their values
        [B, window-1, H, V], and whether each is real [B, window-1] (bool).

    Source: arXiv:2004.05150, section 3.1.
    """
    require(window >= 1, lambda: f"window is {window}: it counts the token itself, so give at least 1")
    batch, length, heads, key = q.shape
    if state is None:
        state = (
            k.new_zeros(batch, window - 1, heads, key),
            v.new_zeros(batch, window - 1, heads, v.shape[-1]),
            k.new_zeros(batch, window - 1, dtype=torch.bool),
        )
    keys = torch.cat([state[0].to(k.dtype), k], 1)
    values = torch.cat([state[1].to(v.dtype), v], 1)
    real = torch.cat([state[2], k.new_ones(batch, length, dtype=torch.bool)], 1)
    block = min(window, length)
    seen = [_neighbours(x, block, length) for x in (keys, values, real)]
    o = _attend(_blocks(q, block, 0), *seen).flatten(1, 2).to(v.dtype)
    o = o if o.shape[1] == length else o[:, :length]
    return o, (keys[:, length:], values[:, length:], real[:, length:])


def _blocks(x: Tensor, block: int, before: int) -> Tensor:
    """[B, T, ...] -> [B, N, block, ...], with `before` zeros in front and some behind."""
    behind = -(x.shape[1] + before) % block
    if before + behind:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (before, behind))
    return x.reshape(x.shape[0], x.shape[1] // block, block, *x.shape[2:])


def _neighbours(x: Tensor, block: int, length: int) -> Tensor:
    """Give each block of queries what it may see: [B, window-1+T, ...] -> [B, N, window-1+block, ...].

    If there is more than one block, block = window: it sees its own, and the one before less its first token.
    """
    if length == block:
        return x.unsqueeze(1)
    blocks = _blocks(x, block, 1)
    return torch.cat([blocks[:, :-1, 1:], blocks[:, 1:]], 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, real: Tensor) -> Tensor:
    """Attend in each block: q [B, N, c, H, K], k, v [B, N, J, H, ...], real [B, N, J] -> [B, N, c, H, V]."""
    queries, keys = q.shape[2], k.shape[2]
    wide = compute_dtype(q, k, v)
    scores = torch.einsum("bnihk,bnjhk->bnhij", q.to(wide) * q.shape[-1] ** -0.5, k.to(wide))
    band = torch.ones(queries, keys, dtype=torch.bool, device=q.device)
    band = band.tril(keys - queries).triu()  # query i sees keys i .. i + window - 1
    allowed = torch.logical_and(real[:, :, None, None, :], band)
    weights = scores.masked_fill(torch.logical_not(allowed), float("-inf")).softmax(-1)
    return torch.einsum("bnhij,bnjhv->bnihv", weights, v.to(wide))
