"""The shapes that an operator takes; a wrong one is refused with its name, its value and the cure."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

DECAY = {
    "fixed": "one fixed log decay per head, [H]",
    "head": "one log decay per token and head, [B, T, H]",
    "channel": "one log decay per token, head and key channel, [B, T, H, K]",
}


def require(held: Any, message: Callable[[], str]) -> None:
    """Raise ValueError with the message unless `held`; usable while a graph is traced.

    Args:
        held: a bool, or a symbolic one.
        message: makes the line: the fault, the value and the cure.

    Raises:
        ValueError: `held` is false.
    """
    torch._check_value(held, message)  # type: ignore[no-untyped-call]


def check_recurrence(given: Mapping[str, Any], decay: str | None) -> None:
    """Check the tensors of a recurrence.

    Args:
        given: the operator's arguments by name; a missing optional one may be absent or None.
        decay: what `g` must be: a key of `DECAY`; None: the operator takes no g.

    Raises:
        ValueError: a tensor has the wrong shape.
    """
    q, k, v = given["q"], given["k"], given["v"]
    _require_rank("q", q, "[B, T, H, K]", "split the heads")
    batch, length, heads, key = q.shape
    require(length >= 1, lambda: "q has no tokens (T = 0): give at least one")
    _require_shape("k", k, (batch, length, heads, key), "k must have q's shape")
    _require_rank("v", v, "[B, T, H, V]", "split the heads")
    value = v.shape[3]
    _require_shape("v", v, (batch, length, heads, value), "v must have q's batch, tokens and heads")
    if decay is not None:
        token = (batch, length, heads)
        shape = {"fixed": (heads,), "head": token, "channel": (*token, key)}[decay]
        _require_shape("g", given["g"], shape, f"this operator takes {DECAY[decay]}")
    if given.get("beta") is not None:
        _require_shape(
            "beta", given["beta"], (batch, length, heads), "give one write strength per token and head"
        )
    if given.get("initial_state") is not None:
        cure = "carry the state that this operator gave"
        _require_shape("initial_state", given["initial_state"], (batch, heads, key, value), cure)


def check_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor | None) -> None:
    """Check the tensors of `short_conv`.

    Raises:
        ValueError: a tensor has the wrong shape.
    """
    _require_rank("x", x, "[B, T, C]", "merge the heads into one channel axis")
    batch, length, channels = x.shape
    require(length >= 1, lambda: "x has no tokens (T = 0): give at least one")
    _require_rank("weight", weight, "[C, W]", "a Conv1d's weight [C, 1, W] needs .squeeze(1)")
    width = weight.shape[1]
    require(width >= 1, lambda: "weight has no taps (W = 0): give at least one")
    _require_shape("weight", weight, (channels, width), "give one filter per channel of x")
    if bias is not None:
        _require_shape("bias", bias, (channels,), "give one number per channel of x")
    if state is not None:
        _require_shape(
            "state", state, (batch, width - 1, channels), "carry the state that this operator gave"
        )


def _require_rank(name: str, got: Tensor, want: str, cure: str) -> None:
    rank = want.count(",") + 1
    require(got.dim() == rank, lambda: f"{name} is {list(got.shape)}, wanted {want}: {cure}")


def _require_shape(name: str, got: Tensor, want: tuple[Any, ...], cure: str) -> None:
    same = got.dim() == len(want) and all(a == b for a, b in zip(got.shape, want, strict=True))
    require(same, lambda: f"{name} is {list(got.shape)}, wanted {list(want)}: {cure}")
