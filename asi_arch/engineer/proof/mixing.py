"""How labels go through products, convolutions, norms, gathers and the recurrences of `asi_arch.ops`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from asi_arch.engineer.graph import operator_of
from asi_arch.engineer.operators import OUR_OPERATORS
from asi_arch.engineer.proof.rules import mix, rule, shapes_of, tensors
from asi_arch.engineer.proof.values import Abstract, contract, each, join, over, partly, unknown


def _product(
    name: str,
    values: Sequence[Abstract],
    letters: Sequence[Sequence[Any]],
    out: Sequence[Any],
    args: list[Any],
    kwargs: dict[str, Any],
    added: Abstract | None = None,
) -> Abstract:
    """Follow a sum of products and what is added to it; sums known to be 0 stay known."""
    result = shapes_of(name, args, kwargs)
    labels, dead = contract(values, letters, out)
    labels = labels.reshape(labels.shape[0], *result.shape)
    if added is not None:
        return unknown(join([labels, added.labels]), result.dtype)
    known = None if dead is None else dead.reshape(result.shape)
    return partly(labels, known, torch.zeros(result.shape), result.dtype)


@rule("matmul.default", "mm.default", "bmm.default", "mv.default", "dot.default")
def _matmul(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    left, right = args
    ranks = len(left.shape), len(right.shape)
    batch = max(0, max(ranks) - 2)
    lead = [f"b{i}" for i in range(batch)]
    first = [*lead[batch - (ranks[0] - 2) :], "i", "k"] if ranks[0] > 1 else ["k"]
    second = [*lead[batch - (ranks[1] - 2) :], "k", "j"] if ranks[1] > 1 else ["k"]
    out = lead + ["i"] * (ranks[0] > 1) + ["j"] * (ranks[1] > 1)
    return _product(name, [left, right], [first, second], out, args, kwargs)


@rule("linear.default")
def _linear(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    x, weight = args[:2]
    bias = kwargs.get("bias", args[2] if len(args) > 2 else None)
    if len(weight.shape) != 2:
        return mix(name, args, kwargs)
    lead = [f"b{i}" for i in range(len(x.shape) - 1)]
    return _product(name, [x, weight], [[*lead, "k"], ["j", "k"]], [*lead, "j"], args, kwargs, bias)


@rule("addmm.default", "baddbmm.default")
def _added(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    added, left, right = args[:3]
    lead = ["b"] * (len(left.shape) - 2)
    letters = [[*lead, "i", "k"], [*lead, "k", "j"]]
    return _product(name, [left, right], letters, [*lead, "i", "j"], args, kwargs, added)


@rule("einsum.default")
def _einsum(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    equation, operands = str(args[0]).replace(" ", ""), args[1]
    given, _, out = equation.partition("->")
    parts = given.split(",")
    plain = [p.replace("...", "") for p in parts]
    if len(parts) != len(operands) or any(len(set(p)) != len(p) for p in plain):
        return mix(name, args, kwargs)
    extra = max(
        (
            len(t.shape) - len(p.replace("...", ""))
            for p, t in zip(parts, operands, strict=True)
            if "..." in p
        ),
        default=0,
    )
    letters = [
        _spelled(p, len(t.shape) - len(p.replace("...", "")), extra)
        for p, t in zip(parts, operands, strict=True)
    ]
    if "->" not in equation:
        flat = [n for names in letters for n in names]
        once = sorted(n for n in set(flat) if flat.count(n) == 1 and len(n) == 1)
        result = [f".{i}" for i in range(extra)] + once
    else:
        result = _spelled(out, extra, extra)
    return _product(name, operands, letters, result, args, kwargs)


def _spelled(part: str, missing: int, extra: int) -> list[str]:
    """Give a subscript as letters, its ellipsis as `.0`, `.1`... aligned on the right."""
    before, dots, after = part.partition("...")
    return [*before, *[f".{i}" for i in range(extra - missing, extra) if dots], *after]


@rule("conv1d.default", "conv1d.padding")
def _conv1d(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given = dict(zip(names, args, strict=False)) | kwargs
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    (stride,) = given.get("stride", [1])
    (dilation,) = given.get("dilation", [1])
    groups, padding = given.get("groups", 1), given.get("padding", [0])
    result = shapes_of(name, args, kwargs)
    if len(x.shape) != 3 or not result.numel():
        return mix(name, args, kwargs)
    taps = weight.shape[2]
    span = (taps - 1) * dilation
    if isinstance(padding, str):
        left = span // 2 if padding == "same" else 0
        right = span - left if padding == "same" else 0
    else:
        left = right = padding[0]
    count, rows = result.shape[2], x.shape[0]
    per_group = x.labels.reshape(-1, rows, groups, x.shape[1] // groups, x.shape[2]).amax(3)
    padded = F.pad(per_group, (left, right))
    zeros = weight.zeros()
    seen = []
    for tap in range(taps):
        if zeros is not None and bool(zeros[:, :, tap].all()):
            continue
        begin = tap * dilation
        seen.append(padded[..., begin : begin + (count - 1) * stride + 1 : stride])
    labels = join(seen) if seen else torch.zeros(*per_group.shape[:-1], count, dtype=torch.int32)
    labels = labels.unsqueeze(3).expand(-1, -1, -1, result.shape[1] // groups, -1)
    labels = labels.reshape(-1, *result.shape)
    others = [weight.labels.amax((2, 3)).reshape(-1, 1, result.shape[1], 1)]
    if bias is not None:
        others.append(bias.labels.reshape(-1, 1, result.shape[1], 1))
    return unknown(join([labels, *others]), result.dtype)


@rule("avg_pool1d.default", "max_pool1d.default")
def _pool(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    x, (size,) = args[0], args[1]
    given = dict(zip(("stride", "padding"), args[2:4], strict=False)) | kwargs
    stride = (given.get("stride") or [size])[0]
    padding = (given.get("padding") or [0])[0]
    if len(args) > 4 or kwargs.get("ceil_mode") or kwargs.get("dilation"):
        return mix(name, args, kwargs)
    result = shapes_of(name, args, kwargs)
    if not result.numel():
        return mix(name, args, kwargs)
    labels = F.pad(x.labels, (padding, padding)).unfold(-1, size, stride).amax(-1)
    return unknown(labels.reshape(-1, *result.shape), result.dtype)


@rule("rms_norm.default", "layer_norm.default")
def _norm(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    x, shape = args[:2]
    labels = over(x.labels, [-1 - i for i in range(len(shape))], True)
    others = [t.labels for t in tensors([args[2:], kwargs])]
    full = torch.zeros_like(x.labels[:1])
    return unknown(join([labels, *others, full]), x.dtype)


@rule("group_norm.default")
def _group_norm(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    x, groups = args[:2]
    shape = x.labels.shape
    grouped = x.labels.reshape(shape[0], shape[1], groups, -1)
    labels = grouped.amax(-1, keepdim=True).expand_as(grouped).reshape(shape)
    others = [t.labels.reshape(shape[0], 1, -1, *[1] * (len(shape) - 3)) for t in tensors([args[2:], kwargs])]
    return unknown(join([labels, *others]), x.dtype)


@rule("glu.default")
def _glu(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    dim = kwargs.get("dim", args[1] if len(args) > 1 else -1)
    halves = each(args[0].labels, lambda part: torch.maximum(*part.chunk(2, dim)))
    return unknown(halves, args[0].dtype)


@rule("one_hot.default")
def _one_hot(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    labels = args[0].labels.unsqueeze(-1)
    return unknown(labels.expand(*labels.shape[:-1], args[1]), torch.int64)


@rule("linalg_solve_triangular.default")
def _triangular(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Row i of the solution depends on rows up to i, for a lower triangle; on rows from i, for an upper."""
    if kwargs.get("left") is False:
        return mix(name, args, kwargs)
    matrix, right = args[:2]
    upper = kwargs["upper"]
    keep = torch.triu if upper else torch.tril
    rows = keep(matrix.labels, 1 if upper else -1) if kwargs.get("unitriangular") else keep(matrix.labels)
    rows = rows.amax(-1, keepdim=True)
    labels = join([rows, right.labels])
    labels = labels.flip(-2).cummax(-2).values.flip(-2) if upper else labels.cummax(-2).values
    result = shapes_of(name, args, kwargs)
    return unknown(labels.expand(labels.shape[0], *result.shape), result.dtype)


@rule("gather.default", "index_select.default")
def _gather(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    x, dim, index = args[:3]
    if name == "gather.default" and len(index.shape) != len(x.shape):
        return mix(name, args, kwargs)
    result = shapes_of(name, args, kwargs)
    if index.constant:
        run = operator_of(f"aten.{name}")
        labels = each(x.labels, lambda part: run(part, dim, index.value))
        known = None if x.known is None else run(x.known, dim, index.value)
        return partly(labels, known, run(x.filled(), dim, index.value), x.dtype)
    labels = over(x.labels, [dim], True)
    if name == "gather.default":
        same = all(
            a == b
            for i, (a, b) in enumerate(zip(x.shape, index.shape, strict=True))
            if i != dim % len(x.shape)
        )
        labels = labels if same else over(x.labels, [], True)
        labels = join([labels, index.labels])
    else:
        labels = join([labels, over(index.labels, [], True).reshape(-1, *[1] * len(x.shape))])
    return unknown(labels.expand(labels.shape[0], *result.shape), result.dtype)


@rule("index.Tensor")
def _index(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    x, indices = args
    if not all(i is None or i.constant for i in indices):
        return mix(name, args, kwargs)
    places = [None if i is None else i.value for i in indices]
    run = operator_of("aten.index.Tensor")
    labels = each(x.labels, lambda part: run(part, places))
    known = None if x.known is None else run(x.known, places)
    return partly(labels, known, run(x.filled(), places), x.dtype)


@rule("scatter.src", "scatter.value", "scatter_add.default", "scatter.reduce", "index_add.default")
def _scatter(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    x, dim, index, source = args[:4]
    result = shapes_of(name, args, kwargs)
    if name == "index_add.default" or not index.constant:
        return _scatter_widely(name, args, kwargs)
    if not isinstance(source, Abstract):
        return unknown(x.labels, result.dtype)
    cut = tuple(slice(0, n) for n in index.shape)
    labels = torch.stack(
        [
            mine.scatter_reduce(dim, index.value, theirs[cut], "amax", include_self=True)
            for mine, theirs in zip(x.labels.clone(), source.labels, strict=True)
        ]
    )
    return unknown(labels, result.dtype)


def _scatter_widely(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Every place along the dimension may be written by every source along it."""
    x, dim, index = args[:3]
    written = [index, *tensors([args[3:], kwargs])]
    alike = all(
        len(t.shape) == len(x.shape)
        and all(
            a == b for i, (a, b) in enumerate(zip(t.shape, x.shape, strict=True)) if i != dim % len(x.shape)
        )
        for t in written
    )
    if not alike:
        return mix(name, args, kwargs)
    return unknown(join([x.labels, *[over(t.labels, [dim], True) for t in written]]), x.dtype)


@rule(*OUR_OPERATORS - {"asi_arch.short_conv.default"})
def _recurrence(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """o_t depends on q_t and on k, v, g, beta up to t, and on the state; the state on all of them."""
    names = [a.name for a in operator_of(name)._schema.arguments]  # type: ignore[attr-defined]
    given = dict(zip(names, args, strict=False)) | kwargs
    o, state = shapes_of(name, args, kwargs)
    written = [_by_head(given[n], o.shape) for n in ("k", "v", "g", "beta") if n in given]
    if given.get("initial_state") is not None:
        written.append(given["initial_state"].labels.amax((3, 4)).unsqueeze(2))  # [L, B, 1, H]
    past = join(written).cummax(2).values  # [L, B, T, H]
    labels = join([past, _by_head(given["q"], o.shape)]).unsqueeze(-1)
    final = past[:, :, -1, :, None, None]
    return [
        unknown(labels.expand(-1, *o.shape), o.dtype),
        unknown(final.expand(-1, *state.shape), state.dtype),
    ]


def _by_head(value: Abstract, shape: Sequence[int]) -> Tensor:
    """Give labels [L, B, T, H] of a sequence [B, T, H, *] or of a decay [H]."""
    labels = value.labels
    if labels.dim() == 2:
        return labels[:, None, None, :]
    return labels.amax(-1) if labels.dim() == 5 else labels


@rule("asi_arch.short_conv.default")
def _short_conv(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    given = dict(zip(("x", "weight", "bias", "state"), args, strict=False)) | kwargs
    x, weight, state = given["x"], given["weight"], given.get("state")
    y, after = shapes_of(name, args, kwargs)
    width = weight.shape[1]
    before = state.labels if state is not None else torch.zeros(
        x.labels.shape[0], x.shape[0], width - 1, x.shape[2], dtype=torch.int32
    )  # fmt: skip
    all_seen = torch.cat([before, x.labels], 2)
    labels = all_seen.unfold(2, width, 1).amax(-1)
    others = [weight.labels.amax(-1)[:, None, None, :]]
    if given.get("bias") is not None:
        others.append(given["bias"].labels[:, None, None, :])
    last = all_seen[:, :, all_seen.shape[2] - (width - 1) :]
    return [unknown(join([labels, *others]), y.dtype), unknown(last, after.dtype)]
