"""The twins of the fast paths: one token after another in float64, as the formulas are written.

They exist to be compared with, in outputs, states and gradients; nothing trains on them.
"""

import torch
from torch import Tensor

from asi_arch.ops.recurrence import G_MIN


def recurrence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    beta: Tensor | None = None,
    initial_state: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Walk S_t = (I - beta_t k_t k_t^T) diag(exp g_t) S_{t-1} + beta_t k_t v_t^T, o_t = scale * S_t^T q_t.

    Arguments and results as in `asi_arch.ops.recurrence.recurrence`, all in float64.
    """
    q, k, v = q.double(), k.double(), v.double()
    batch, length, heads, key = q.shape
    q = q * (key**-0.5 if scale is None else scale)
    if initial_state is None:
        state = q.new_zeros(batch, heads, key, v.shape[-1])
    else:
        state = initial_state.double()
    out = []
    for t in range(length):
        state = _decayed(state, g, t)
        write = v[:, t]
        if beta is not None:
            read = torch.einsum("bhk,bhkv->bhv", k[:, t], state)
            write = (write - read) * beta[:, t, :, None].double()
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], write)
        out.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(out, 1), state


def _decayed(state: Tensor, g: Tensor | None, t: int) -> Tensor:
    if g is None:
        return state
    g = g.double()
    if g.dim() == 1:
        return state * g[None, :, None, None].exp()
    if g.dim() == 3:
        return state * g[:, t, :, None, None].exp()
    return state * g[:, t, :, :, None].clamp(G_MIN, 0.0).exp()


def short_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weigh the last W tokens, one token after another; as `asi_arch.ops.short_conv`, in float64."""
    batch, length, channels = x.shape
    width = weight.shape[1]
    past = x.new_zeros(batch, width - 1, channels) if state is None else state
    tokens = torch.cat([past, x], 1).double()
    rows = [(tokens[:, t : t + width] * weight.double().T).sum(1) for t in range(length)]
    y = torch.stack(rows, 1)
    return (y if bias is None else y + bias.double()), tokens[:, length:]


def sliding_window_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Take the softmax over the last `window` tokens, one token after another; whole sequences, float64."""
    q, k, v = q.double() * q.shape[-1] ** -0.5, k.double(), v.double()
    out = []
    for t in range(q.shape[1]):
        first = max(0, t + 1 - window)
        weights = torch.einsum("bhk,bshk->bhs", q[:, t], k[:, first : t + 1]).softmax(-1)
        out.append(torch.einsum("bhs,bshv->bhv", weights, v[:, first : t + 1]))
    return torch.stack(out, 1)
