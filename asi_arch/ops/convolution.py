"""The causal depthwise convolution over a few tokens, with the tokens it needs next carried as a state."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asi_arch.ops.recurrence import without_autocast


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Give y_t = bias + sum_w weight[:, w] * x_{t - W + 1 + w}, as a sum of W shifted products.

    Args:
        x: [B, T, C].
        weight: [C, W]; its last column meets the current token.
        bias: [C] or None.
        state: [B, W-1, C], the tokens before x; None: zeros.

    Returns:
        y [B, T, C] and the state [B, W-1, C] for what follows, both in x's dtype.
    """
    length, width = x.shape[1], weight.shape[1]
    with without_autocast(x):
        if state is None:
            padded = F.pad(x, (0, 0, width - 1, 0))
        else:
            padded = torch.cat([state.to(x.dtype), x], 1)
        taps = weight.to(x.dtype).unbind(1)
        y = padded[:, :length] * taps[0]
        for i in range(1, width):
            y = torch.addcmul(y, padded[:, i : i + length], taps[i])
        if bias is not None:
            y = y + bias.to(x.dtype)
        return y, padded[:, length:].clone(memory_format=torch.contiguous_format)
