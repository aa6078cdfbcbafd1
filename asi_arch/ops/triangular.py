"""The inverse of a unit lower triangular matrix, exact to rounding at every chunk length."""

from typing import Any

import torch
from torch import Tensor

from asi_arch.ops.dtypes import without_autocast

BLOCK = 16  # powers of a 16 x 16 strictly lower block stay small; those of 64 x 64 overflow float32


def unit_lower_inverse(a: Tensor) -> Tensor:
    """Give (I + A)^-1 for a strictly lower triangular A; differentiable.

    Diagonal blocks of 16 x 16 are inverted by Neumann doubling and merged in pairs. Doubling over the whole
    matrix is a trap: with correlated keys the powers of A grow as binomials do, and cancel.

    Args:
        a: [..., C, C], C a power of two. Entries on and above the diagonal must be 0.

    Source: arXiv:2406.06484, section 3.2 (the UT transform).
    """
    return _UnitLowerInverse.apply(a)  # type: ignore[no-any-return, no-untyped-call]


class _UnitLowerInverse(torch.autograd.Function):
    """With X = (I + A)^-1, dA = -X^T dX X^T: two products, instead of a walk back through the doubling."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        x = _merge_blocks(a)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        xt = x.transpose(-1, -2)
        with without_autocast(x):
            grad: Tensor = -(xt @ grads[0] @ xt)
        return grad  # not lower triangular: whoever masked A drops the rest in its own backward pass


def _neumann(a: Tensor) -> Tensor:
    """Sum (-A)^i over i < C by doubling: (I - A)(I + A^2)(I + A^4)..."""
    size = a.shape[-1]
    power = -a.flatten(0, -3)
    x = power + torch.eye(size, dtype=a.dtype, device=a.device)
    reach = 2
    while reach < size:
        power = power @ power
        x = torch.baddbmm(x, x, power)
        reach *= 2
    return x.view(a.shape)


def _merge_blocks(a: Tensor) -> Tensor:
    """Invert the diagonal blocks, then merge pairs: [[P, 0], [M, Q]]^-1 = [[P', 0], [-Q' M P', Q']]."""
    size = a.shape[-1]
    if size <= BLOCK:
        return _neumann(a)
    x = _neumann(torch.stack([a[..., i : i + BLOCK, i : i + BLOCK] for i in range(0, size, BLOCK)], -3))
    step = BLOCK
    while step < size:
        starts = range(0, size, 2 * step)
        below = torch.stack([a[..., i + step : i + 2 * step, i : i + step] for i in starts], -3)
        p, q = x[..., 0::2, :, :], x[..., 1::2, :, :]
        corner = -(q @ below @ p)
        upper = torch.cat([p, torch.zeros_like(p)], -1)
        x = torch.cat([upper, torch.cat([corner, q], -1)], -2)
        step *= 2
    return x.squeeze(-3)
