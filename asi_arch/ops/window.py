"""Softmax attention over the last few tokens: linear cost, and a state of constant size."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asi_arch.ops.recurrence import compute_dtype

WindowState = tuple[Tensor, Tensor, Tensor]


def sliding_window_attention(
    q: Tensor, k: Tensor, v: Tensor, window: int, state: WindowState | None = None
) -> tuple[Tensor, WindowState]:
    """Attend to the last `window` tokens, the current one included.

    o_t = sum_s softmax_s(q_t . k_s / sqrt(K)) v_s over t - window < s <= t, computed in blocks of `window`
    queries that see two blocks of keys: T * 2 * window scores.

    Args:
        q: [B, T, H, K] queries.
        k: [B, T, H, K] keys; turn q and k by `rotary` beforehand if positions matter.
        v: [B, T, H, V] values.
        state: what this function gave for the tokens before; None: there were none.

    Returns:
        o [B, T, H, V] in v's dtype, and the state: the last window - 1 keys [B, window-1, H, K], values
        [B, window-1, H, V] and whether each is real [B, window-1] (bool).

    Source: arXiv:2004.05150, section 3.1.
    """
    torch._check_value(window >= 1, lambda: f"window is {window}: it counts the token itself, so give >= 1")
    batch, length, heads, key = q.shape
    if state is None:
        state = (
            k.new_zeros(batch, window - 1, heads, key),
            v.new_zeros(batch, window - 1, heads, v.shape[-1]),
            k.new_zeros(batch, window - 1, dtype=torch.bool),
        )
    keys = torch.cat([state[0].to(k.dtype), k], 1)
    values = torch.cat([state[1].to(v.dtype), v], 1)
    real = torch.cat([state[2], torch.ones_like(k[:, :, 0, 0], dtype=torch.bool)], 1)
    block = min(window, length)
    o = _attend(_queries(q, block), *(_neighbours(x, block, window, length) for x in (keys, values, real)))
    o = o.reshape(batch, -1, heads, v.shape[-1])[:, :length]
    return o.to(v.dtype), (keys[:, length:], values[:, length:], real[:, length:])


def _queries(q: Tensor, block: int) -> Tensor:
    """[B, T, H, K] -> [B, N, block, H, K]."""
    pad = -q.shape[1] % block
    return F.pad(q, (0, 0, 0, 0, 0, pad)).unflatten(1, (-1, block))


def _neighbours(x: Tensor, block: int, window: int, length: int) -> Tensor:
    """Give each block of queries the keys that it may see: [B, window-1+T, ...] -> [B, N, block+window-1, ...].

    With more than one block, block = window, and these are the block before it, less one token, and its own.
    """
    if length == block:
        return x.unsqueeze(1)
    ends = (0, 0) * (x.dim() - 2)
    blocks = F.pad(x, (*ends, 1, -length % block)).unflatten(1, (-1, block))
    return torch.cat([blocks[:, :-1, 1:], blocks[:, 1:]], 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, real: Tensor) -> Tensor:
    """q [B, N, c, H, K], k and v [B, N, c+window-1, H, ...], real [B, N, c+window-1] -> [B, N, c, H, V]."""
    block, seen = q.shape[2], k.shape[2]
    wide = compute_dtype(q, k, v)
    scores = torch.einsum("bnihk,bnjhk->bnhij", q.to(wide) * q.shape[-1] ** -0.5, k.to(wide))
    band = torch.ones(block, seen, dtype=torch.bool, device=q.device)
    band = band.tril(seen - block).triu()  # query i sees keys i .. i + window - 1
    allowed = real[:, :, None, None, :] & band
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return torch.einsum("bnhij,bnjhv->bnihv", weights, v.to(wide))
