"""How a function of plain torch becomes an operator of the dispatcher, forward and backward.

The operator `asi_arch::<name>` runs the function; its backward pass is a second operator,
`asi_arch::<name>_backward`, so that a compiler keeps both whole and a fused kernel can serve them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The arguments of an operator that gives two tensors: an output and a state.

    Args:
        required: names of the tensors that must be given, in order.
        optional: names of the tensors that may be None, behind them.
        scaled: whether `float? scale=None` stands at the end.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    scaled: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensors, in order."""
        return self.required + self.optional

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all arguments, in order."""
        return self.tensors + ("scale",) * self.scaled

    def forward_schema(self) -> str:
        """Give the operator's schema."""
        parts = [f"Tensor {n}" for n in self.required] + [f"Tensor? {n}=None" for n in self.optional]
        parts += ["float? scale=None"] * self.scaled
        return f"({', '.join(parts)}) -> (Tensor, Tensor)"

    def backward_schema(self) -> str:
        """Give the schema of its backward operator: one gradient per tensor, empty for None."""
        parts = ["Tensor grad_o", "Tensor grad_state", *(f"Tensor {n}" for n in self.required)]
        parts += [f"Tensor? {n}" for n in self.optional] + ["float? scale"] * self.scaled
        return f"({', '.join(parts)}) -> ({', '.join(['Tensor'] * len(self.tensors))})"


def register(name: str, run: Callable[..., Pair], fake: Callable[..., Pair], signature: Signature) -> None:
    """Define `asi_arch::name` and its backward operator.

    Args:
        name: the operator's name without the namespace.
        run: gives (output, state) from the arguments of `signature`; autograd must pass through it, and its
            outputs must be contiguous and share no memory with an input or with each other.
        fake: gives tensors of the same shapes, dtypes and strides, and refuses wrong shapes.
        signature: the operator's arguments.
    """
    count = len(signature.tensors)
    forward = torch.library.custom_op(
        f"asi_arch::{name}", run, mutates_args=(), schema=signature.forward_schema()
    )
    backward = torch.library.custom_op(
        f"asi_arch::{name}_backward",
        _backward_kernel(run, count),
        mutates_args=(),
        schema=signature.backward_schema(),
    )

    def keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Pair) -> None:
        ctx.save_for_backward(*inputs[:count])
        ctx.rest = inputs[count:]

    def differentiate(ctx: Any, grad_o: Tensor, grad_state: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        grads = backward(grad_o, grad_state, *saved, *ctx.rest)
        given = [None if t is None else grad for t, grad in zip(saved, grads, strict=True)]
        return (*given, *(None for _ in ctx.rest))

    def fake_grads(grad_o: Tensor, grad_state: Tensor, *args: Any) -> tuple[Tensor, ...]:
        return tuple(grad_o.new_empty(0) if t is None else _like(t) for t in args[:count])

    forward.register_fake(fake)
    backward.register_fake(fake_grads)
    forward.register_autograd(differentiate, setup_context=keep_inputs)


def _backward_kernel(run: Callable[..., Pair], count: int) -> Callable[..., tuple[Tensor, ...]]:
    """Run the function again under autograd, and walk it back."""

    def kernel(grad_o: Tensor, grad_state: Tensor, *args: Any) -> tuple[Tensor, ...]:
        with _autograd_inside_a_kernel(), torch.enable_grad():
            leaves = [None if t is None else t.detach().requires_grad_() for t in args[:count]]
            outputs = run(*leaves, *args[count:])
            given = [t for t in leaves if t is not None]
            grads = iter(torch.autograd.grad(outputs, given, [grad_o, grad_state]))
        # outputs of an operator may share no memory, and autograd gives views of one tensor
        return tuple(grad_o.new_empty(0) if t is None else _own(next(grads)) for t in leaves)

    return kernel


def _own(t: Tensor) -> Tensor:
    return t.clone(memory_format=torch.contiguous_format)


def _like(t: Tensor) -> Tensor:
    return torch.empty_like(t, memory_format=torch.contiguous_format)


def _autograd_inside_a_kernel() -> AbstractContextManager[None]:
    """Let autograd record inside an operator's kernel, where the dispatcher has switched it off."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for name in ("AutogradFunctionality", "AutogradCPU", "AutogradCUDA", "AutogradOther", "ADInplaceOrView"):
        excluded = excluded - torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, name))
    included = torch._C._dispatch_tls_local_include_set()
    return torch._C._ForceDispatchKeyGuard(included, excluded)
