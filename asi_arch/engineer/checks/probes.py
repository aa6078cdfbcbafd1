"""What the leak checks feed a graph: each distinct call once, rows of several kinds, cuts that cover.

Shapes: R probes (the rows of one call), T positions, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asi_arch.engineer.bundle import Place
from asi_arch.engineer.candidate import Candidate
from asi_arch.engineer.checks.common import inputs
from asi_arch.engineer.graph import DROPOUT, build, precision

BORDERS = (1, 8, 16, 31, 32, 33, 48, 63, 64, 65, 127, 128, 129, 256, 257)
CHUNK_TOKENS = 8192  # of one call
LARGE = 10.0  # x normal: the mixer's real inputs have a root mean square near 1
FLOOR = 1e-3  # of a row's root mean square: no position counts as smaller


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One graph to probe.

    trained: it is a graph of the stage, at the stage's T. dropout: it is run with its dropout on.
    """

    place: Place
    mode: str
    length: int
    trained: bool
    dropout: bool = False

    def __str__(self) -> str:
        heads = f", {self.place.num_heads} heads" if self.trained else ""
        dropout = " with dropout" if self.dropout else ""
        return f"T = {self.length}, {self.mode} mode{dropout}, layer {self.place.layer}{heads}"


def distinct_calls(
    candidate: Candidate, lengths: Sequence[int], train_lengths: Sequence[int]
) -> Iterator[Call]:
    """Give each traced call whose graph or whose tensors differ from those of the calls before.

    Without dropout, most graphs of train mode are those of eval mode, and layers share theirs: what is
    equal to the last node and starts from the same numbers gives the same outputs.
    """
    seen: set[tuple[int, int]] = set()
    for place, mode, length in candidate.traced(lengths, train_lengths):
        trained = place in candidate.stage_places and length == candidate.length
        as_eval = mode == "train" and candidate.same_modes(place, length)
        number = candidate.bundle.number(place, "eval" if as_eval else mode, (length,))
        key = (number, candidate.bundle.layers[str(place)])
        if key not in seen:
            seen.add(key)
            yield Call(place=place, mode=mode, length=length, trained=trained)


def dropout_calls(candidate: Candidate, lengths: Sequence[int]) -> Iterator[Call]:
    """Give the calls of train mode that have dropout: a gate that only dropout opens is shut without it."""
    for place, mode, length in candidate.traced((lengths[0],), lengths):
        if mode == "train" and any(n[0] == DROPOUT for n in candidate.graph(place, mode, (length,)).nodes):
            trained = place in candidate.stage_places and length == candidate.length
            yield Call(place=place, mode=mode, length=length, trained=trained, dropout=True)


def run_with_dropout(
    candidate: Candidate, call: Call, tensors: dict[str, Tensor], x: Tensor, seed: int
) -> Tensor:
    """Give y for x, both [R, T, D] in float64, with the masks that a seed draws for this R."""
    graph = candidate.graph(call.place, call.mode, (call.length,))
    inputs = [x if entry.kind == "x" else tensors[entry.name] for entry in graph.inputs]
    with torch.random.fork_rng(), precision(torch.float64):
        torch.manual_seed(seed)
        y: Tensor = build(graph, torch.float64)(*inputs)[0]
        return y


def rows_of(length: int, width: int, seed: int, count: int) -> Tensor:
    """Give x [R, T, D]: normal rows, repeating tokens, 10 x normal, and small ones with zeros, in turn."""
    x = inputs(length, width, seed, count)  # odd rows repeat four vectors
    x[2::4] *= LARGE
    generator = torch.Generator().manual_seed(seed * 31 + length)
    some = torch.rand(x[3::4].shape[:2], generator=generator) < 0.5
    x[3::4] *= 0.1 * some[..., None]
    return x


def selected(length: int, seed: int, count: int) -> list[int]:
    """Give up to `count` positions in 1..T-1: both ends, borders of chunks, and others by chance."""
    ends = [1, length - 1, length - 2, length // 2]
    borders = [b for b in (*BORDERS, *(length - b for b in BORDERS)) if 1 <= b < length]
    chance = torch.randperm(length - 1, generator=torch.Generator().manual_seed(seed + length)) + 1
    wanted = [*ends, *borders[seed % 2 :: 2], *chance.tolist()]
    return sorted(set(list(dict.fromkeys(p for p in wanted if 1 <= p < length))[:count]))


def chunks(positions: Sequence[int], length: int) -> Iterator[list[int]]:
    """Give positions in parts that one call can carry."""
    size = max(1, CHUNK_TOKENS // length)
    yield from (list(positions[i : i + size]) for i in range(0, len(positions), size))


def singles(base: Tensor, positions: Sequence[int], seed: int) -> Tensor:
    """Give [R, T, D]: copy r of a row [1, T, D] with the one position `positions[r]` changed.

    In turn: to a new vector, to 10 times another, to a vector that the row has elsewhere, to zero.
    """
    _, length, width = base.shape
    generator = torch.Generator().manual_seed(seed)
    index = torch.tensor(positions)
    new = torch.randn(len(positions), width, generator=generator, dtype=base.dtype)
    elsewhere = base[0, torch.randint(0, length, (len(positions),), generator=generator)]
    kind = ((index + seed) % 4)[:, None]
    new = torch.where(kind == 1, LARGE * new, torch.where(kind == 2, elsewhere, new * (kind != 3)))
    moved = base.repeat(len(positions), 1, 1)
    same = (moved[torch.arange(len(positions)), index] == new).all(-1, keepdim=True)
    moved[torch.arange(len(positions)), index] = torch.where(same, new + 1.0, new)
    return moved


def suffixes(x: Tensor, first: Tensor, seed: int) -> Tensor:
    """Give x [R, T, D] with every position from `first[r]` on replaced by a row of another kind."""
    other = rows_of(x.shape[1], x.shape[2], seed, len(x) + 2)[2:]
    later = torch.arange(x.shape[1]) >= first[:, None]
    return torch.where(later[..., None], other, x)


def large(x: Tensor) -> Tensor:
    """Tell which rows of x are so large that outputs may overflow, which is for `finite` to judge: [R]."""
    return x.detach().pow(2).mean((1, 2)).sqrt() > LARGE / 2


def shift(base: Tensor, moved: Tensor, first: Tensor, lenient: Tensor) -> tuple[float, int, int]:
    """Give how far outputs before `first[r]` moved, of a position's size, and at which row and position.

    base: [R or 1, T, D]. lenient: of each row [R or 1]; where the base itself is not finite, nothing can
    be said of such a row, while of another that counts as moved.
    """
    size = base.pow(2).mean(-1).sqrt()  # [R, T]
    finite = base.isfinite().all(-1)
    whole = torch.where(finite, size, 0.0).pow(2).mean(-1, keepdim=True).sqrt()
    change = (base - moved).abs().amax(-1) / size.clamp_min(FLOOR * whole).clamp_min(1e-12)
    change = torch.where(change.isnan(), torch.inf, change)
    before = torch.arange(base.shape[1]) < first[:, None]
    before = before & (finite | ~lenient[:, None])
    change = torch.where(before, change, 0.0)
    at = int(change.argmax())
    return float(change.max()), at // change.shape[1], at % change.shape[1]
