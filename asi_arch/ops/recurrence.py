"""One chunkwise-parallel recurrence in plain torch, of which every linear-time operator is a case.

    S_t = (I - beta_t k_t k_t^T) diag(exp g_t) S_{t-1} + beta_t k_t v_t^T        o_t = scale * S_t^T q_t

Shapes: B batch, T time, H heads, K key, V value; N chunks of C tokens. Inside a chunk, G is the cumulative
log decay, and everything of size [N, C, ...] is made for all chunks at once; only S walks from chunk to chunk.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from asi_arch.ops.triangular import unit_lower_inverse

CHUNK = 32
SUBCHUNK = 16  # with g >= G_MIN and the reference in the middle, no exponent passes 8 * 5 = 40
G_MIN = -5.0  # a step of exp(-5) forgets 99.3 %


class _Intra(NamedTuple):
    """What a chunk does by itself, before it meets the state."""

    qk: Tensor  # [B, H, N, C, C] decayed scores of queries on keys, lower triangular
    kk: Tensor | None  # [B, H, N, C, C] decayed overlaps of keys, strictly lower; None without the delta rule
    q: Tensor  # [B, H, N, C, K] queries decayed from the start of the chunk
    k: Tensor  # [B, H, N, C, K] keys decayed to the end of the chunk
    kb: Tensor | None  # [B, H, N, C, K] beta * keys, decayed from the start of the chunk
    decay: Tensor | None  # [B, H, N, K or 1, 1] decay of the whole chunk


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Give the dtype for the arithmetic and the state: float32, or float64 if any input is float64."""
    return reduce(torch.promote_types, (t.dtype for t in tensors), torch.float32)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Keep the arithmetic in `compute_dtype` under a caller's autocast."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def recurrence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    beta: Tensor | None = None,
    initial_state: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over T tokens; differentiable in every tensor.

    Args:
        q: [B, T, H, K] queries, multiplied by `scale` (None: K**-0.5).
        k: [B, T, H, K] keys.
        v: [B, T, H, V] values.
        g: log decay: [H] fixed, [B, T, H] per head, [B, T, H, K] per channel (clamped to [-5, 0]), None: none.
        beta: [B, T, H] write strength of the delta rule; None drops the term -beta k k^T, and beta is 1.
        initial_state: [B, H, K, V]; None: zeros.

    Returns:
        o [B, T, H, V] in v's dtype; the final state [B, H, K, V] in float32 (float64 for float64 inputs).

    Source: arXiv:2412.06464, eq. 10 (gated delta rule); arXiv:2510.26692, eq. 1 (per-channel decay).
    """
    batch, length, heads, key = q.shape
    wide = compute_dtype(q, k, v)
    chunk = min(CHUNK, 1 << (length - 1).bit_length())
    with without_autocast(q):
        scaled = q.to(wide) * (key**-0.5 if scale is None else scale)
        qs, ks, vs = (_split(x.to(wide), chunk) for x in (scaled, k, v))
        bs = None if beta is None else _split(beta.to(wide), chunk).unsqueeze(-1)
        kb = None if bs is None else ks * bs
        if g is None:
            intra = _intra_plain(qs, ks, kb)
        elif g.dim() == 4:
            intra = _intra_channel(qs, ks, kb, _split(g.to(wide).clamp(G_MIN, 0.0), chunk).cumsum(3))
        else:
            # a fixed decay takes the shape of a decay per token, so that the padding does not decay either
            steps = g.expand(1, length, heads) if g.dim() == 1 else g
            intra = _intra_head(qs, ks, kb, _split(steps.to(wide), chunk).cumsum(3))
        if initial_state is None:
            state = qs.new_zeros(batch, heads, key, v.shape[-1])
        else:
            state = initial_state.to(wide)
        if bs is None:
            o, state = _scan_additive(intra, vs, state)
        else:
            o, state = _scan_delta(intra, vs * bs, state)
        o = o.movedim(1, 3).reshape(batch, -1, heads, v.shape[-1])[:, :length]
        return o.to(v.dtype).contiguous(), state.contiguous()


def _split(x: Tensor, chunk: int) -> Tensor:
    """[B, T, H, ...] -> [B, H, N, C, ...], zeros behind the end: they neither write nor decay."""
    pad = -x.shape[1] % chunk
    if pad:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, pad))
    return x.unflatten(1, (-1, chunk)).movedim(3, 1).contiguous()


def _causal(x: Tensor, diagonal: int = 0) -> Tensor:
    """Give the mask [C, C] of what lies above `diagonal` and must be dropped."""
    size = x.shape[3]
    return torch.ones(size, size, dtype=torch.bool, device=x.device).triu(diagonal + 1)


def _intra_plain(q: Tensor, k: Tensor, kb: Tensor | None) -> _Intra:
    kt = k.transpose(-1, -2)
    qk = (q @ kt).masked_fill(_causal(q), 0.0)
    kk = None if kb is None else (kb @ kt).masked_fill(_causal(q, -1), 0.0)
    return _Intra(qk, kk, q, k, kb, None)


def _intra_head(q: Tensor, k: Tensor, kb: Tensor | None, cum: Tensor) -> _Intra:
    """Scores under one decay per head; cum: [B or 1, H, N, C]."""
    kt = k.transpose(-1, -2)
    # masked before exp: exp then mask gives inf * 0 = NaN in the backward pass
    within = (cum.unsqueeze(-1) - cum.unsqueeze(-2)).masked_fill(_causal(q), float("-inf")).exp()
    qk = (q @ kt) * within
    kk = None if kb is None else ((kb @ kt) * within).masked_fill(_causal(q, -1), 0.0)
    start = cum.exp().unsqueeze(-1)
    last = cum[..., -1:]
    end = (last - cum).exp().unsqueeze(-1)
    return _Intra(qk, kk, q * start, k * end, None if kb is None else kb * start, last.exp().unsqueeze(-1))


def _intra_channel(q: Tensor, k: Tensor, kb: Tensor | None, cum: Tensor) -> _Intra:
    """Scores under one decay per key channel; cum: [B, H, N, C, K]."""
    left = [q] if kb is None else [q, kb]
    scores = _channel_scores(left, k, cum)
    qk = scores[0].masked_fill(_causal(q), 0.0)
    kk = None if kb is None else scores[1].masked_fill(_causal(q, -1), 0.0)
    start = cum.exp()
    last = cum[..., -1:, :]
    end = (last - cum).exp()
    decay = last.exp().transpose(-1, -2)
    return _Intra(qk, kk, q * start, k * end, None if kb is None else kb * start, decay)


def _channel_scores(left: list[Tensor], k: Tensor, cum: Tensor) -> list[Tensor]:
    """Give sum_c left_ic k_jc exp(cum_ic - cum_jc) for j <= i, factored so that no exponent passes 40.

    Diagonal blocks of 16 tokens are referred to their middle; a block below the diagonal is referred to the
    start of its queries, where both exponents are <= 0. What stands above the diagonal is arbitrary.
    """
    size = cum.shape[3]
    block = min(SUBCHUNK, size)
    rows: list[list[Tensor]] = [[] for _ in left]
    for i in range(0, size, block):
        here = cum[..., i : i + block, :]
        middle = here[..., block // 2 : block // 2 + 1, :].detach()  # a reference cancels: it needs no gradient
        grow = (here - middle).exp()
        keys = (k[..., i : i + block, :] * (middle - here).exp()).transpose(-1, -2)
        if i:
            first = here[..., :1, :].detach()
            fall = (here - first).exp()
            past = (k[..., :i, :] * (first - cum[..., :i, :]).exp()).transpose(-1, -2)
        for row, x in zip(rows, left, strict=True):
            xi = x[..., i : i + block, :]
            parts = [(xi * fall) @ past] if i else []
            parts.append((xi * grow) @ keys)
            row.append(F.pad(torch.cat(parts, -1), (0, size - i - block)))
    return [torch.cat(row, -2) for row in rows]


def _scan_additive(intra: _Intra, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Walk S <- decay * S + K^T V over the chunks."""
    writes = (intra.k.transpose(-1, -2) @ v).unbind(2)  # unbind: indexing would zero-fill per chunk backward
    decays = [None] * len(writes) if intra.decay is None else intra.decay.unbind(2)
    before = []
    for write, decay in zip(writes, decays, strict=True):
        before.append(state)
        state = write + state if decay is None else torch.addcmul(write, state, decay)
    return intra.qk @ v + intra.q @ torch.stack(before, 2), state


def _scan_delta(intra: _Intra, vb: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Solve the chunk's own triangular system, then walk the state; vb: [B, H, N, C, V] = beta * v."""
    assert intra.kk is not None
    assert intra.kb is not None
    value = vb.shape[-1]
    solved = unit_lower_inverse(intra.kk) @ torch.cat([vb, intra.kb], -1)  # [.., C, V + K]: U beside W
    if intra.k.shape[-1] < 2 * intra.k.shape[-2]:
        return _walk_affine(intra, solved, state)
    return _walk_values(intra, solved[..., :value], solved[..., value:], state)


def _walk_affine(intra: _Intra, solved: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """S <- M S + P with every M [K, K] and P [K, V] made beforehand: one product a chunk, for small K."""
    batch, heads, chunks = solved.shape[:3]
    key, value = state.shape[-2:]
    both = intra.k.transpose(-1, -2) @ solved
    write, keep = both[..., :value], -both[..., value:]
    eye = torch.eye(key, dtype=state.dtype, device=state.device)
    keep = keep + (eye if intra.decay is None else eye * intra.decay)
    keeps = keep.movedim(2, 0).reshape(chunks, batch * heads, key, key).unbind(0)
    writes = write.movedim(2, 0).reshape(chunks, batch * heads, key, value).unbind(0)
    state = state.reshape(batch * heads, key, value)
    before = []
    for m, p in zip(keeps, writes, strict=True):
        before.append(state)
        state = torch.baddbmm(p, m, state)
    states = torch.stack(before, 0).view(chunks, batch, heads, key, value).movedim(0, 2)
    inner = intra.qk @ solved
    o = inner[..., :value] + (intra.q - inner[..., value:]) @ states
    return o, state.view(batch, heads, key, value)


def _walk_values(intra: _Intra, u: Tensor, w: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """V' = U - W S, S <- decay * S + K^T V': cheaper than M S + P when K is large."""
    kt = intra.k.transpose(-1, -2).unbind(2)
    decays = [None] * len(kt) if intra.decay is None else intra.decay.unbind(2)
    before, written = [], []
    for ui, wi, ki, decay in zip(u.unbind(2), w.unbind(2), kt, decays, strict=True):
        before.append(state)
        new = ui - wi @ state
        written.append(new)
        state = (state if decay is None else state * decay) + ki @ new
    return intra.qk @ torch.stack(written, 2) + intra.q @ torch.stack(before, 2), state
