"""One chunkwise-parallel recurrence in plain torch, of which every linear-time operator is a case.

    S_t = (I - beta_t k_t k_t^T) diag(exp g_t) S_{t-1} + beta_t k_t v_t^T        o_t = scale * S_t^T q_t

Shapes: B batch, T time, H heads, K key, V value; N chunks of C tokens, laid out [N, B, H, C, ...]. All that a
chunk does by itself is made for all chunks at once; only the state walks from chunk to chunk.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from asi_arch.ops.dtypes import compute_dtype, without_autocast
from asi_arch.ops.triangular import unit_lower_inverse

CHUNK = 16  # a per-channel decay stays here: with g >= G_MIN, no exponent passes 8 * 5 = 40
LONG, LONG_CHUNK = 256, 32  # measured: beyond 256 tokens, fewer and larger chunks are faster
G_MIN = -5.0  # a step of exp(-5) forgets 99.3 %


class _Intra(NamedTuple):
    """What a chunk does by itself, before it meets the state."""

    qk: Tensor  # [N, B, H, C, C] decayed scores of queries on keys, lower triangular
    kk: Tensor | None  # [N, B, H, C, C] decayed overlaps of keys, strictly lower; None without the delta rule
    q: Tensor  # [N, B, H, C, K] queries decayed from the start of the chunk
    kt: Tensor  # [N, B, H, K, C] keys decayed to the end of the chunk
    kb: Tensor | None  # [N, B, H, C, K] beta * keys, decayed from the start of the chunk
    decay: Tensor | None  # [N, B or 1, H, K or 1, 1] decay of the whole chunk


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
        q: [B, T, H, K] queries.
        k: [B, T, H, K] keys.
        v: [B, T, H, V] values.
        g: log decay: [H] fixed, [B, T, H] per head, [B, T, H, K] per channel (clamped to [-5, 0]); or None.
        beta: [B, T, H] write strength of the delta rule; None drops the term -beta k k^T, and beta is 1.
        initial_state: [B, H, K, V]; None: zeros.
        scale: what the queries are multiplied by; None: K**-0.5.

    Returns:
        o [B, T, H, V] in v's dtype; the final state [B, H, K, V] in float32 (float64 for float64 inputs).

    Source: arXiv:2412.06464, eq. 10 (gated delta rule); arXiv:2510.26692, eq. 1 (per-channel decay).
    """
    batch, length, heads, key = q.shape
    wide = compute_dtype(q, k, v)
    per_channel = g is not None and g.dim() == 4
    longest = CHUNK if per_channel or length <= LONG else LONG_CHUNK
    chunk = min(longest, 1 << (length - 1).bit_length())  # a power of two, as the inverse wants
    with without_autocast(q):
        if initial_state is None:
            state = q.new_zeros(batch, heads, key, v.shape[-1], dtype=wide)
        else:
            state = initial_state.to(wide)
        scaled = q.to(wide) * (key**-0.5 if scale is None else scale)
        qs, ks, vs = (_split(x.to(wide), chunk) for x in (scaled, k, v))
        bs = None if beta is None else _split(beta.to(wide), chunk).unsqueeze(-1)
        intra = _intra(qs, ks, None if bs is None else ks * bs, _decay(g, length, wide, chunk))
        o, state = _scan_additive(intra, vs, state) if bs is None else _scan_delta(intra, vs * bs, state)
        return _join(o, length).to(v.dtype).contiguous(), state.contiguous()


def _split(x: Tensor, chunk: int) -> Tensor:
    """[B, T, H, ...] -> [N, B, H, C, ...], zeros behind the end: they neither write nor decay."""
    pad = -x.shape[1] % chunk
    if pad:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, pad))
    batch, length = x.shape[:2]
    return x.reshape(batch, length // chunk, chunk, *x.shape[2:]).movedim((1, 3), (0, 2)).contiguous()


def _join(x: Tensor, length: int) -> Tensor:
    """[N, B, H, C, V] -> [B, T, H, V]."""
    x = x.movedim((0, 2), (1, 3)).flatten(1, 2)
    return x if x.shape[1] == length else x[:, :length]


def _decay(g: Tensor | None, length: int, wide: torch.dtype, chunk: int) -> Tensor | None:
    """Give log decay per token, [N, B or 1, H, C] or [N, B, H, C, K]."""
    if g is None:
        return None
    if g.dim() == 1:
        g = g.expand(1, length, -1)  # in the shape of a decay per token, so that padding does not decay
    if g.dim() == 4:
        g = g.clamp(G_MIN, 0.0)
    return _split(g.to(wide), chunk)


def _intra(q: Tensor, k: Tensor, kb: Tensor | None, g: Tensor | None) -> _Intra:
    if g is None:
        return _intra_plain(q, k, kb)
    return _intra_head(q, k, kb, g) if g.dim() == 4 else _intra_channel(q, k, kb, g)


def _intra_plain(q: Tensor, k: Tensor, kb: Tensor | None) -> _Intra:
    kt = k.transpose(-1, -2)
    return _Intra((q @ kt).tril(), None if kb is None else (kb @ kt).tril(-1), q, kt, kb, None)


def _intra_head(q: Tensor, k: Tensor, kb: Tensor | None, g: Tensor) -> _Intra:
    """Scores under one decay per head; g: [N, B or 1, H, C]."""
    kt = k.transpose(-1, -2)
    cum = g.cumsum(-1)
    # the inner tril keeps exp finite: exp then mask alone gives inf * 0 = NaN in the backward pass
    within = (cum.unsqueeze(-1) - cum.unsqueeze(-2)).tril().exp().tril()
    qk = (q @ kt) * within
    kk = None if kb is None else ((kb @ kt) * within).tril(-1)
    total = cum[..., -1:]
    start, end = cum.exp().unsqueeze(-1), (total - cum).exp().unsqueeze(-2)
    return _Intra(qk, kk, q * start, kt * end, None if kb is None else kb * start, total.exp().unsqueeze(-1))


def _intra_channel(q: Tensor, k: Tensor, kb: Tensor | None, g: Tensor) -> _Intra:
    """Scores under one decay per key channel, factored around the middle of the chunk; g: [N, B, H, C, K]."""
    cum = g.cumsum(-2)
    size = g.shape[-2]
    middle = cum[..., size // 2 : size // 2 + 1, :].detach()  # a reference cancels: it needs no gradient
    grow = (cum - middle).exp()
    kt = (k * (middle - cum).exp()).transpose(-1, -2)
    qk = ((q * grow) @ kt).tril()
    kk = None if kb is None else ((kb * grow) @ kt).tril(-1)
    total = cum[..., -1:, :]
    start, end = cum.exp(), (total - cum).exp()
    kend = (k * end).transpose(-1, -2)
    decay = total.exp().transpose(-1, -2)
    return _Intra(qk, kk, q * start, kend, None if kb is None else kb * start, decay)


def _scan_additive(intra: _Intra, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Walk S <- decay * S + K^T V over the chunks."""
    writes = (intra.kt @ v).unbind(0)  # unbind: indexing would zero-fill everything per chunk, backward
    decays = [None] * len(writes) if intra.decay is None else intra.decay.unbind(0)
    before = []
    for write, decay in zip(writes, decays, strict=True):
        before.append(state)
        state = write + state if decay is None else torch.addcmul(write, state, decay)
    return intra.qk @ v + intra.q @ torch.stack(before), state


def _scan_delta(intra: _Intra, vb: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Solve each chunk's own triangular system, then walk V' = U - W S, S <- decay * S + K^T V'.

    Args:
        intra: with `kk` and `kb`.
        vb: [N, B, H, C, V] = beta * v.
        state: [B, H, K, V].
    """
    assert intra.kk is not None
    assert intra.kb is not None
    solved = unit_lower_inverse(intra.kk) @ torch.cat([vb, intra.kb], -1)  # [N, B, H, C, V + K]: U beside W
    u, w = (t.unbind(0) for t in solved.split_with_sizes([state.shape[-1], state.shape[-2]], -1))
    kt = intra.kt.unbind(0)
    decays = [None] * len(kt) if intra.decay is None else intra.decay.unbind(0)
    before, written = [], []
    for ui, wi, ki, decay in zip(u, w, kt, decays, strict=True):
        before.append(state)
        new = ui - wi @ state
        written.append(new)
        state = (state if decay is None else state * decay) + ki @ new
    return intra.qk @ torch.stack(written) + intra.q @ torch.stack(before), state
