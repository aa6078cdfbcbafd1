"""Layers with parameters that mixers share: short convolution, norms, gated norm."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asi_arch.ops.functional import rms_norm
from asi_arch.ops.operators import short_conv


class ShortConvolution(nn.Module):
    """A causal depthwise convolution over the last `kernel_size` tokens, then an activation.

    Args:
        channels: C.
        kernel_size: W, in tokens.
        activation: "silu" or None.
    """

    def __init__(self, channels: int, kernel_size: int = 4, activation: str | None = "silu") -> None:
        super().__init__()
        if activation not in ("silu", None):
            raise ValueError(f"activation is {activation!r}: give 'silu' or None")
        self.activation = activation
        self.weight = nn.Parameter(torch.empty(channels, kernel_size))
        nn.init.uniform_(self.weight, -(kernel_size**-0.5), kernel_size**-0.5)  # as nn.Conv1d, depthwise

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x: [B, T, C], state: [B, W-1, C] or None -> y: [B, T, C], state."""
        y, state = short_conv(x, self.weight, None, state)
        return (F.silu(y) if self.activation == "silu" else y), state


class RMSNorm(nn.Module):
    """`rms_norm` over the last axis of size `dim`, with a learned scale that starts at 1."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., dim] -> [..., dim]."""
        return rms_norm(x, self.weight, self.eps)


class GatedRMSNorm(nn.Module):
    """rms_norm(x) * activation(gate): how a linear-attention layer gates its output.

    Source: arXiv:2307.08621, eq. 8 (with one norm per head).
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor, gate: Tensor, activation: str = "silu") -> Tensor:
        """x, gate: [..., dim]; activation: "silu" or "sigmoid" -> [..., dim]."""
        if activation not in ("silu", "sigmoid"):
            raise ValueError(f"activation is {activation!r}: give 'silu' or 'sigmoid'")
        opened = F.silu(gate) if activation == "silu" else torch.sigmoid(gate)
        return rms_norm(x, self.weight, self.eps) * opened
