"""The causal depthwise convolution over a few tokens, with the tokens that it needs next as its state."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from asi_arch.ops.dtypes import without_autocast


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Give y_t = bias + sum_w weight[:, w] * x_{t - W + 1 + w}.

    Args:
        x: [B, T, C].
        weight: [C, W]; its last column meets the current token.
        bias: [C] or None.
        state: [B, W - 1, C], the tokens before x; None: zeros.

    Returns:
        y [B, T, C] and the state [B, W - 1, C] for what follows, both in x's dtype.
    """
    width = weight.shape[1]
    with without_autocast(x):
        if state is None:
            padded = F.pad(x, (0, 0, width - 1, 0))
        else:
            padded = torch.cat([state.to(x.dtype), x], 1)
        y = _ShiftedSum.apply(padded, weight.to(x.dtype))  # type: ignore[no-untyped-call]
        if bias is not None:
            y = y + bias.to(x.dtype)
        return y, padded[:, x.shape[1] :].clone(memory_format=torch.contiguous_format)


class _ShiftedSum(torch.autograd.Function):
    """Sum W shifted products; autograd's own backward would fill the padded tensor with zeros W times."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(padded, weight)
        length = padded.shape[1] - weight.shape[1] + 1
        first, *taps = _taps(weight)
        y = padded[:, :length] * first
        for i, tap in enumerate(taps, 1):
            y = torch.addcmul(y, padded[:, i : i + length], tap)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        padded, weight = ctx.saved_tensors
        (grad,) = grads
        length, reach = grad.shape[1], weight.shape[1] - 1
        with without_autocast(grad):
            spread = F.pad(grad, (0, 0, reach, reach))
            first, *taps = _taps(weight)
            grad_padded = spread[:, reach : reach + length + reach] * first
            for i, tap in enumerate(taps, 1):
                shifted = spread[:, reach - i : 2 * reach - i + length]
                grad_padded = torch.addcmul(grad_padded, shifted, tap)
            columns = [(padded[:, i : i + length] * grad).sum((0, 1)) for i in range(reach + 1)]
        return grad_padded, torch.stack(columns, 1)


def _taps(weight: Tensor) -> tuple[Tensor, ...]:
    """[C, W] -> W contiguous rows of C: products with strided ones take 3 times as long on a CPU."""
    return weight.t().contiguous().unbind(0)
