"""Abstract values: labels of dependence for each element, and exact values where they are known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MAX_ELEMENTS = 2**22  # of one value and one labelling; beyond it nothing is proven


class TooCoarseError(Exception):
    """The interpretation cannot follow a graph; the message names the operator."""


@dataclass(frozen=True, slots=True)
class Abstract:
    """What is known of one tensor of shape S.

    labels: [L, *S] int32, one labelling after the other; 0: depends on nothing of the input.
    known: [*S] bool, or None: no element is known. A known element has label 0 in every labelling.
    value: [*S], meaningful where known. dtype: of the tensor.
    """

    labels: Tensor
    known: Tensor | None
    value: Tensor | None
    dtype: torch.dtype

    @property
    def shape(self) -> torch.Size:
        """S."""
        return self.labels.shape[1:]

    @property
    def constant(self) -> bool:
        """Whether every element is known."""
        return self.known is not None and bool(self.known.all())

    def zeros(self) -> Tensor | None:
        """Give where an element is known to be 0; None: nowhere."""
        if self.known is None or self.value is None:
            return None
        found = self.known & (self.value == 0)
        return found if bool(found.any()) else None

    def filled(self) -> Tensor:
        """Give a tensor with the known values, and 1 elsewhere."""
        if self.known is None or self.value is None:
            return torch.ones(self.shape, dtype=self.dtype)
        return torch.where(self.known, self.value, torch.ones((), dtype=self.value.dtype))


def unknown(labels: Tensor, dtype: torch.dtype) -> Abstract:
    """Give a value of which nothing is known but its labels."""
    if labels[0].numel() > MAX_ELEMENTS:
        raise TooCoarseError(f"a value of {labels[0].numel():,} elements")
    return Abstract(labels, None, None, dtype)


def constant(value: Tensor, labellings: int) -> Abstract:
    """Give a value that is known everywhere."""
    if value.numel() > MAX_ELEMENTS:
        raise TooCoarseError(f"a value of {value.numel():,} elements")
    labels = torch.zeros((labellings, *[1] * value.dim()), dtype=torch.int32).expand(labellings, *value.shape)
    known = torch.ones((), dtype=torch.bool).expand(value.shape)
    return Abstract(labels, known, value, value.dtype)


def partly(labels: Tensor, known: Tensor | None, value: Tensor | None, dtype: torch.dtype) -> Abstract:
    """Give a value that is known in part; the labels of what is known become 0."""
    if known is None or value is None or not bool(known.any()):
        return unknown(labels, dtype)
    known = known.expand(labels.shape[1:])
    return Abstract(labels.masked_fill(known, 0), known, value.expand(known.shape).to(dtype), dtype)


def each(labels: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of [*S] to every labelling of [L, *S]."""
    return torch.stack([run(part) for part in labels])


def join(parts: Sequence[Tensor]) -> Tensor:
    """Give the later label, element by element, of labels that broadcast against each other.

    Shapes are [L, *S] with S of any rank: they are aligned on the right, as operators do.
    """
    rank = max(part.dim() for part in parts)
    aligned = [part.reshape(part.shape[0], *[1] * (rank - part.dim()), *part.shape[1:]) for part in parts]
    result = aligned[0]
    for part in aligned[1:]:
        result = torch.maximum(result, part)
    return result


def over(labels: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Give the latest label over some dimensions of S, counted without the labellings; all, if none."""
    rank = labels.dim() - 1
    if rank == 0:
        return labels
    places = sorted({d % rank + 1 for d in dims}) if dims else list(range(1, rank + 1))
    if any(labels.shape[p] == 0 for p in places):
        shape = [1 if i in places else n for i, n in enumerate(labels.shape) if keep or i not in places]
        return torch.zeros(shape, dtype=labels.dtype)
    return labels.amax(places, keepdim=keep)


def contract(
    values: Sequence[Abstract], letters: Sequence[Sequence[Any]], out: Sequence[Any]
) -> tuple[Tensor, Tensor | None]:
    """Follow a sum of products, as einsum does: labels, and where the sum is known to be 0.

    letters: of each value's dimensions; a letter is anything that can be compared. out: of the result.
    A term with a factor that is known to be 0 depends on nothing.
    """
    sizes: dict[Any, int] = {}
    for value, names in zip(values, letters, strict=True):
        if len(set(names)) != len(names):
            raise TooCoarseError("a diagonal in einsum")
        for name, size in zip(names, value.shape, strict=True):
            sizes[name] = size if sizes.get(name, 1) == 1 else sizes[name]
    shape = [sizes[name] for name in out]
    if 0 in sizes.values():
        return torch.zeros(values[0].labels.shape[0], *shape, dtype=torch.int32), None
    summed = [name for name in sizes if name not in out]
    order = [*out, *summed]
    factors = [_aligned(v, names, order) for v, names in zip(values, letters, strict=True)]
    for place in range(len(order)):
        factors = _narrowed(factors, place)
    labels, dead = _products(factors, len(out))
    labels = labels.expand(labels.shape[0], *shape)
    return labels, None if dead is None else dead.expand(shape)


def _aligned(value: Abstract, names: Sequence[Any], order: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
    """Give labels and zeros with one dimension for each letter of an order."""
    places = [names.index(name) for name in order if name in names]
    shape = [value.shape[names.index(name)] if name in names else 1 for name in order]
    labels = value.labels.permute(0, *[p + 1 for p in places]).reshape(value.labels.shape[0], *shape)
    zeros = value.zeros()
    return labels, None if zeros is None else zeros.permute(places).reshape(shape)


def _narrowed(factors: list[tuple[Tensor, Tensor | None]], place: int) -> list[tuple[Tensor, Tensor | None]]:
    """Make a dimension 1 where every factor is the same all along it."""
    for labels, zeros in factors:
        if not bool((labels == labels.narrow(place + 1, 0, 1)).all()):
            return factors
        if zeros is not None and not bool((zeros == zeros.narrow(place, 0, 1)).all()):
            return factors
    return [
        (labels.narrow(place + 1, 0, 1), None if zeros is None else zeros.narrow(place, 0, 1))
        for labels, zeros in factors
    ]


def _products(factors: list[tuple[Tensor, Tensor | None]], kept: int) -> tuple[Tensor, Tensor | None]:
    """Join all factors, one slice of the summed dimensions after the other where they are large."""
    shape = torch.Size(torch.broadcast_shapes(*[labels.shape for labels, _ in factors]))  # type: ignore[no-untyped-call]
    masks = [zeros for _, zeros in factors if zeros is not None]
    summed = range(kept, len(shape) - 1)
    if shape.numel() > 8 * MAX_ELEMENTS and len(summed) > 0 and shape[kept + 1] > 1:
        pieces = []
        for i in range(shape[kept + 1]):
            pieces.append(_products([_slice(factor, kept, i) for factor in factors], kept))
        labels = torch.stack([labels for labels, _ in pieces]).amax(0)
        if any(dead is None for _, dead in pieces):
            return labels, None
        return labels, torch.stack([dead for _, dead in pieces if dead is not None]).all(0)
    if shape.numel() > 8 * MAX_ELEMENTS:
        raise TooCoarseError(f"a product of {shape.numel():,} terms")
    labels = join([labels for labels, _ in factors])
    if not masks:
        return (labels.amax([p + 1 for p in summed]) if summed else labels), None
    dead = masks[0]
    for mask in masks[1:]:
        dead = dead | mask
    labels = labels.masked_fill(dead, 0)
    dead = dead.expand(labels.shape[1:])
    if not summed:
        return labels, dead
    return labels.amax([p + 1 for p in summed]), dead.all(kept) if len(summed) == 1 else dead.flatten(
        kept
    ).all(-1)


def _slice(factor: tuple[Tensor, Tensor | None], place: int, i: int) -> tuple[Tensor, Tensor | None]:
    labels, zeros = factor
    at = i if labels.shape[place + 1] > 1 else 0
    labels = labels.narrow(place + 1, at, 1)
    if zeros is not None:
        zeros = zeros.narrow(place, i if zeros.shape[place] > 1 else 0, 1)
    return labels, zeros
