"""How labels and known values go through the operators that move, compute and sum elements."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asi_arch.engineer.graph import operator_of
from asi_arch.engineer.proof.values import (
    Abstract,
    constant,
    each,
    join,
    over,
    partly,
    unknown,
)

Rule = Callable[[str, list[Any], dict[str, Any]], Any]
_KINDS = tomllib.loads((Path(__file__).parent / "kinds.toml").read_text())
RULES: dict[str, Rule] = {}
FILLS = {"constant_pad_nd.default": 2, "pad.default": 3}  # where the number that is filled in stands
REDUCED = {"linalg_norm.default": 2, "linalg_vector_norm.default": 2, "norm.ScalarOpt_dim": 2}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of some operators of aten, or of `asi_arch.NAME`."""

    def keep(function: Rule) -> Rule:
        for name in names:
            RULES[name if name.startswith("asi_arch.") else f"aten.{name}"] = function
        return function

    return keep


def tensors(values: Any) -> list[Abstract]:
    """Give the tensors among arguments, in order, those in lists too."""
    if isinstance(values, Abstract):
        return [values]
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return [t for value in values for t in tensors(value)]
    return []


def replaced(values: Any, make: Callable[[Abstract], Tensor]) -> Any:
    """Give arguments with every abstract tensor made a real one."""
    if isinstance(values, Abstract):
        return make(values)
    if isinstance(values, Mapping):
        return {key: replaced(value, make) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [replaced(value, make) for value in values]
    return values


def apply(name: str, args: list[Any], kwargs: dict[str, Any], labellings: int) -> Any:
    """Give the abstract result, or results, of one operator.

    Raises:
        TooCoarseError: a value is too large, or the operator cannot be followed.
    """
    inputs = tensors([args, kwargs])
    short = name.removeprefix("aten.")
    if short in _KINDS["make"] or all(t.constant for t in inputs):
        result = operator_of(name)(*replaced(args, Abstract.filled), **replaced(kwargs, Abstract.filled))
        if isinstance(result, Tensor):
            return constant(result, labellings)
        return [constant(part, labellings) for part in result]
    return RULES.get(name, mix)(short, args, kwargs)


def shapes_of(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operator on zeros, for the shapes and types of its results."""
    return operator_of(f"aten.{name}" if "asi_arch" not in name else name)(
        *replaced(args, _zeros), **replaced(kwargs, _zeros)
    )


def _zeros(value: Abstract) -> Tensor:
    return torch.zeros((), dtype=value.dtype).expand(value.shape)


def mix(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Every element of the result may depend on every element of the arguments."""
    latest = join([over(t.labels, [], False) for t in tensors([args, kwargs])])
    result = shapes_of(name, args, kwargs)

    def spread(part: Tensor) -> Abstract:
        labels = latest.reshape(-1, *[1] * part.dim()).expand(-1, *part.shape)
        return unknown(labels, part.dtype)

    return spread(result) if isinstance(result, Tensor) else [spread(part) for part in result]


@rule(*_KINDS["move"])
def _move(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Let the operator move labels, what is known, and the values."""
    if name == "dropout.default":
        return args[0]
    run = operator_of(f"aten.{name}")
    plain = list(args)
    if name in FILLS and len(args) > FILLS[name]:
        plain[FILLS[name]] = 0.0
    inputs = tensors([args, kwargs])
    first = inputs[0]
    moved = [
        run(*replaced(plain, lambda t, i=i: t.labels[i]), **kwargs)  # type: ignore[misc]
        for i in range(first.labels.shape[0])
    ]
    some = any(t.known is not None for t in inputs) or name in ("tril.default", "triu.default") or (
        name in ("constant_pad_nd.default", "pad.default", "diag_embed.default")
    )  # fmt: skip
    doubts = run(*replaced(plain, _doubt), **kwargs) if some else None
    values = run(*replaced(args, Abstract.filled), **kwargs) if some else None
    dtype = first.dtype

    def part(labels: Sequence[Tensor], doubt: Tensor | None, value: Tensor | None) -> Abstract:
        return partly(torch.stack(list(labels)), None if doubt is None else doubt == 0, value, dtype)

    if isinstance(moved[0], Tensor):
        return part(moved, doubts, values)
    count = range(len(moved[0]))
    return [part([m[i] for m in moved], doubts and doubts[i], values and values[i]) for i in count]


def _doubt(value: Abstract) -> Tensor:
    """Give 1 where nothing is known, as a type that every operator moves."""
    if value.known is None:
        return torch.ones((), dtype=torch.int32).expand(value.shape)
    return (~value.known).int()


@rule(*_KINDS["cast"])
def _cast(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    given = args[0]
    dtype = operator_of(f"aten.{name}")(*replaced(args, _zeros), **replaced(kwargs, Abstract.filled)).dtype
    return partly(given.labels, given.known, given.value, dtype)


@rule(*_KINDS["elementwise"])
def _elementwise(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if name == "outer.default":
        left, right = args
        args = [_moved(left, lambda t: t.unsqueeze(-1)), right]
    inputs = tensors([args, kwargs])
    labels = join([t.labels for t in inputs])
    shape = labels.shape[1:]
    if all(t.known is None for t in inputs):
        dtype = operator_of("aten.mul.Tensor" if name == "outer.default" else f"aten.{name}")(
            *replaced(args, lambda t: torch.ones([1] * t.labels[0].dim(), dtype=t.dtype)),
            **replaced(kwargs, lambda t: torch.ones([1] * t.labels[0].dim(), dtype=t.dtype)),
        ).dtype
        return unknown(labels, dtype)
    if name == "outer.default":
        name = "mul.Tensor"
    value = operator_of(f"aten.{name}")(*replaced(args, Abstract.filled), **replaced(kwargs, Abstract.filled))
    known = torch.ones((), dtype=torch.bool)
    for t in inputs:
        known = known & (t.known if t.known is not None else torch.zeros((), dtype=torch.bool))
    special = SPECIAL.get(name.split(".")[0])
    if special is not None and "alpha" not in kwargs:
        labels, known, value = special(args, labels, known.expand(shape), value)
    return partly(labels, known.expand(shape), value, value.dtype)


def _moved(value: Abstract, run: Callable[[Tensor], Tensor]) -> Abstract:
    known = None if value.known is None else run(value.known)
    return Abstract(
        each(value.labels, run), known, None if value.value is None else run(value.value), value.dtype
    )


def _absorbed(value: Any, number: float, shape: torch.Size) -> Tensor | None:
    """Give where an argument is known to be a number that decides the result alone."""
    if not isinstance(value, Abstract) or value.known is None or value.value is None:
        return None
    return (value.known & (value.value == number)).expand(shape)


def _absorbing(numbers: Sequence[tuple[float, float]]) -> Callable[..., Any]:
    """Make the rule of an operator for which some numbers decide: (number, result)."""

    def special(args: list[Any], labels: Tensor, known: Tensor, value: Tensor) -> Any:
        for argument in args[:2]:
            for number, result in numbers:
                if number == float("-inf") and not value.dtype.is_floating_point:
                    continue
                found = _absorbed(argument, number, known.shape)
                if found is not None:
                    known = known | found
                    value = torch.where(found, torch.full((), result, dtype=value.dtype), value)
        return labels, known, value

    return special


def _chosen(
    which: Abstract, yes: Any, no: Any, labels: Tensor, known: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Follow a choice: where it is known, only the chosen one counts."""
    if which.known is None or which.value is None:
        return labels, known, value
    sure = which.known.expand(known.shape)
    picked = which.value.bool().expand(known.shape)
    empty, full = torch.zeros_like(labels), torch.ones_like(known)

    def parts(choice: Any) -> tuple[Tensor, Tensor, Tensor]:
        if not isinstance(choice, Abstract):
            return empty, full, torch.full(known.shape, choice, dtype=value.dtype)
        sees = choice.known.expand(known.shape) if choice.known is not None else ~full
        return join([choice.labels, empty]), sees, choice.filled().to(value.dtype).expand(known.shape)

    one, other = parts(yes), parts(no)
    labels = torch.where(sure, torch.where(picked, one[0], other[0]), labels)
    known = torch.where(sure, torch.where(picked, one[1], other[1]), known)
    return labels, known, torch.where(picked, one[2], other[2])


def _where(args: list[Any], labels: Tensor, known: Tensor, value: Tensor) -> Any:
    return _chosen(args[0], args[1], args[2], labels, known, value)


def _masked_fill(args: list[Any], labels: Tensor, known: Tensor, value: Tensor) -> Any:
    return _chosen(args[1], args[2], args[0], labels, known, value)


def _fill(args: list[Any], labels: Tensor, known: Tensor, value: Tensor) -> Any:
    filler = args[1]
    if not isinstance(filler, Abstract):
        return labels, torch.ones_like(known), value
    return join([filler.labels, torch.zeros_like(labels)]), known, value


def _and_or(number: float) -> Callable[..., Any]:
    """Make the rule of a bitwise operator, which one truth value decides."""
    decided = _absorbing([(number, number)])

    def special(args: list[Any], labels: Tensor, known: Tensor, value: Tensor) -> Any:
        return decided(args, labels, known, value) if value.dtype == torch.bool else (labels, known, value)

    return special


ZERO, MINUS = _absorbing([(0.0, 0.0)]), _absorbing([(float("-inf"), float("-inf"))])
SPECIAL: dict[str, Callable[..., Any]] = {
    "mul": ZERO,
    "multiply": ZERO,
    "add": MINUS,
    "logical_and": ZERO,
    "logical_or": _absorbing([(1.0, 1.0)]),
    "bitwise_and": _and_or(0.0),
    "__and__": _and_or(0.0),
    "bitwise_or": _and_or(1.0),
    "__or__": _and_or(1.0),
    "where": _where,
    "masked_fill": _masked_fill,
    "fill": _fill,
}


@rule(*_KINDS["reduce"])
def _reduce(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    given = args[0]
    place = REDUCED.get(name, 1)
    dims = kwargs.get("dim", args[place] if len(args) > place else None)
    dims = [dims] if isinstance(dims, int) else list(dims or [])
    result = shapes_of(name, args, kwargs)
    first = result if isinstance(result, Tensor) else result[0]
    labels = over(given.labels, dims, True)
    labels = labels.reshape(labels.shape[0], *first.shape)
    if isinstance(result, Tensor):
        return unknown(labels, result.dtype)
    return [unknown(labels, part.dtype) for part in result]


@rule(*_KINDS["cumulate"])
def _cumulate(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    given, dim = args[0], kwargs.get("dim", args[1] if len(args) > 1 else 0)
    result = shapes_of(name, args, kwargs)
    labels = each(given.labels, lambda part: part.cummax(dim).values) if given.shape.numel() else given.labels
    if not isinstance(result, Tensor):
        return [unknown(labels, part.dtype) for part in result]
    if given.known is None or name == "logcumsumexp.default":
        return unknown(labels, result.dtype)
    known = (~given.known).int().cummax(dim).values == 0
    return partly(
        labels, known, operator_of(f"aten.{name}")(given.filled(), *args[1:], **kwargs), result.dtype
    )


@rule(*_KINDS["along"])
def _along(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    given, second = args[0], name == "cosine_similarity.default"
    place = {"cosine_similarity.default": 2, "diff.default": 2, "topk.default": 2}.get(name, 1)
    default = 1 if second else -1
    dim = kwargs.get("dim", args[place] if len(args) > place else default)
    if name == "diff.default" and len(tensors([args, kwargs])) > 1:
        return mix(name, args, kwargs)
    result = shapes_of(name, args, kwargs)
    labels = join([args[0].labels, args[1].labels]) if second else given.labels
    labels = over(labels, [dim], True)
    if second:
        return unknown(labels.reshape(labels.shape[0], *result.shape), result.dtype)
    if isinstance(result, Tensor):
        gone = given.known & (given.value == float("-inf")) if given.known is not None else None
        labels = labels.expand(labels.shape[0], *result.shape)
        if name == "softmax.int" and gone is not None:
            return partly(labels, gone, torch.zeros(result.shape), result.dtype)
        return unknown(labels, result.dtype)
    return [unknown(labels.expand(labels.shape[0], *part.shape), part.dtype) for part in result]
