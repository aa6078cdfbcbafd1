"""The recurrences and the short convolution: one node each in an exported graph.

Shapes, as in fla: q, k [B, T, H, K]; v, o [B, T, H, V]; beta [B, T, H]; state [B, H, K, V]. g is a LOG decay.
Every recurrence gives (o, final_state): o in v's dtype, the state in float32 (float64 for float64 inputs). A
sequence fed whole, in pieces or token by token gives the same o, if the state is carried.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from asi_arch.ops.convolution import convolve
from asi_arch.ops.dtypes import compute_dtype
from asi_arch.ops.library import Pair, Signature, register
from asi_arch.ops.recurrence import recurrence
from asi_arch.ops.shapes import check_convolution, check_recurrence


def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, initial_state: Tensor | None = None, scale: float | None = None
) -> Pair:
    """S_t = S_{t-1} + k_t v_t^T, o_t = scale * S_t^T q_t; apply the feature map to q and k beforehand.

    Args:
        q: [B, T, H, K] queries.
        k: [B, T, H, K] keys.
        v: [B, T, H, V] values.
        initial_state: [B, H, K, V], the final state of what came before; None: zeros.
        scale: what q is multiplied by; None: K**-0.5.

    Returns:
        o [B, T, H, V] and the final state [B, H, K, V].

    Source: arXiv:2006.16236, eq. 18-20, with the feature map and the normaliser left to the caller.
    """
    return torch.ops.asi_arch.linear_attention(q, k, v, initial_state, scale)  # type: ignore[no-any-return]


def retention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    initial_state: Tensor | None = None,
    scale: float | None = None,
) -> Pair:
    """S_t = exp(g) S_{t-1} + k_t v_t^T, o_t = scale * S_t^T q_t, with a fixed decay per head.

    g: [H] log decay, <= 0; all else as in `linear_attention`.

    Source: arXiv:2307.08621, eq. 6.
    """
    return torch.ops.asi_arch.retention(q, k, v, g, initial_state, scale)  # type: ignore[no-any-return]


def simple_gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    initial_state: Tensor | None = None,
    scale: float | None = None,
) -> Pair:
    """S_t = exp(g_t) S_{t-1} + k_t v_t^T, o_t = scale * S_t^T q_t, with a decay per token and head.

    Mamba-2's state space duality is this with q = C, k = B, v = dt * x and g = -dt * A.

    g: [B, T, H] log decay, <= 0; all else as in `linear_attention`.

    Source: arXiv:2405.21060, eq. 2.
    """
    return torch.ops.asi_arch.simple_gla(q, k, v, g, initial_state, scale)  # type: ignore[no-any-return]


def gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    initial_state: Tensor | None = None,
    scale: float | None = None,
) -> Pair:
    """S_t = diag(exp g_t) S_{t-1} + k_t v_t^T, o_t = scale * S_t^T q_t, with a decay per key channel.

    g: [B, T, H, K] log decay, clamped to [-5, 0]; all else as in `linear_attention`.

    Source: arXiv:2312.06635, section 4.1 (the recurrent form).
    """
    return torch.ops.asi_arch.gla(q, k, v, g, initial_state, scale)  # type: ignore[no-any-return]


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    initial_state: Tensor | None = None,
    scale: float | None = None,
) -> Pair:
    """S_t = (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T, o_t = scale * S_t^T q_t.

    k: [B, T, H, K] keys of unit length (`l2norm`): with longer ones the state may grow without bound.
    beta: [B, T, H] write strength in (0, 2): 1 replaces what k_t reads, 2 reflects it.
    All else as in `linear_attention`.

    Source: arXiv:2406.06484, section 2.2.
    """
    return torch.ops.asi_arch.delta_rule(q, k, v, beta, initial_state, scale)  # type: ignore[no-any-return]


def gated_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor | None = None,
    scale: float | None = None,
) -> Pair:
    """S_t = (I - beta_t k_t k_t^T) exp(g_t) S_{t-1} + beta_t k_t v_t^T, o_t = scale * S_t^T q_t.

    g: [B, T, H] log decay, <= 0; all else as in `delta_rule`.

    Source: arXiv:2412.06464, eq. 10.
    """
    return torch.ops.asi_arch.gated_delta_rule(  # type: ignore[no-any-return]
        q, k, v, g, beta, initial_state, scale
    )


def kda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor | None = None,
    scale: float | None = None,
) -> Pair:
    """S_t = (I - beta_t k_t k_t^T) diag(exp g_t) S_{t-1} + beta_t k_t v_t^T, o_t = scale * S_t^T q_t.

    g: [B, T, H, K] log decay, clamped to [-5, 0]; all else as in `delta_rule`.

    Source: arXiv:2510.26692, eq. 1.
    """
    return torch.ops.asi_arch.kda(q, k, v, g, beta, initial_state, scale)  # type: ignore[no-any-return]


def short_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None) -> Pair:
    """y_t = bias + sum_w weight[:, w] * x_{t - W + 1 + w}: causal, depthwise, without an activation.

    Args:
        x: [B, T, C].
        weight: [C, W]; its last column meets the current token.
        bias: [C] or None.
        state: [B, W - 1, C], the tokens before x; None: zeros.

    Returns:
        y [B, T, C] and the state [B, W - 1, C] for what follows, both in x's dtype.

    Source: arXiv:2312.00752, section 3.4 (the convolution of a Mamba block).
    """
    return torch.ops.asi_arch.short_conv(x, weight, bias, state)  # type: ignore[no-any-return]


# name: (what g is, whether it takes beta)
_RECURRENCES: dict[str, tuple[str | None, bool]] = {
    "linear_attention": (None, False),
    "retention": ("fixed", False),
    "simple_gla": ("head", False),
    "gla": ("channel", False),
    "delta_rule": (None, True),
    "gated_delta_rule": ("head", True),
    "kda": ("channel", True),
}


def _inline_recurrence(decay: str | None, names: tuple[str, ...]) -> Callable[..., Pair]:
    def run(*args: Any, **named: Any) -> Pair:
        given = dict(zip(names, args, strict=False)) | named
        check_recurrence(given, decay)
        return recurrence(**given)

    return run


def _fake_recurrence(decay: str | None, names: tuple[str, ...]) -> Callable[..., Pair]:
    def fake(*args: Any, **named: Any) -> Pair:
        given = dict(zip(names, args, strict=False)) | named
        check_recurrence(given, decay)
        q, k, v = given["q"], given["k"], given["v"]
        batch, _, heads, key = q.shape
        state = q.new_empty((batch, heads, key, v.shape[3]), dtype=compute_dtype(q, k, v))
        return v.new_empty(v.shape), state

    return fake


def _inline_short_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None
) -> Pair:
    check_convolution(x, weight, bias, state)
    return convolve(x, weight, bias, state)


def _fake_short_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None
) -> Pair:
    check_convolution(x, weight, bias, state)
    return x.new_empty(x.shape), x.new_empty((x.shape[0], weight.shape[1] - 1, x.shape[2]))


def _register_all() -> dict[str, Callable[..., Pair]]:
    inline: dict[str, Callable[..., Pair]] = {}
    for name, (decay, delta) in _RECURRENCES.items():
        required = ("q", "k", "v") + ("g",) * (decay is not None) + ("beta",) * delta
        signature = Signature(required=required, optional=("initial_state",), scaled=True)
        run = _inline_recurrence(decay, signature.names)
        register(name, run, _fake_recurrence(decay, signature.names), signature)
        inline[f"asi_arch.{name}.default"] = run
    signature = Signature(required=("x", "weight"), optional=("bias", "state"))
    register("short_conv", _inline_short_conv, _fake_short_conv, signature)
    inline["asi_arch.short_conv.default"] = _inline_short_conv
    return inline


# Name of a node -> a function with the operator's own arguments and results, which autograd can see into: a
# training step runs the operator's recurrence twice (its backward pass runs it again), and this one once.
INLINE = _register_all()
