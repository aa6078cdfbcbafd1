"""Does anything reach an output that must not: later positions, other rows, or a lost past.

Shapes: R probes (the rows of one call), T positions, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asi_arch.engineer.bundle import Place
from asi_arch.engineer.candidate import Candidate
from asi_arch.engineer.checks.common import (
    CUTS,
    LEAK_LIMIT,
    LENGTHS,
    MATCH_LIMIT,
    NUM_TOKENS,
    SINGLE_CUTS,
    SINGLE_FACTOR,
    SINGLE_LEAK_LIMIT,
    SINGLE_LIMIT,
    TRACED_TOKENS,
    TRAIN_LENGTHS,
    verdict,
)
from asi_arch.engineer.checks.probes import (
    Call,
    chunks,
    distinct_calls,
    dropout_calls,
    large,
    rows_of,
    run_with_dropout,
    selected,
    shift,
    singles,
    suffixes,
)
from asi_arch.engineer.checks.proven import claim
from asi_arch.engineer.checks.settings import FAR, SETTINGS, tensors_of
from asi_arch.records import Verdict

EVERY, LONG = 127, 257  # up to this T, and at this one, each position is changed alone
FEW, SOME = 4, 20  # cuts before a new suffix, and positions changed alone, where not all are
BATCH_LENGTHS = (1, 33, 64, 257)
BATCH_SETTINGS = ("jittered", "raised")
PROVEN_SETTINGS = ("jittered",)  # where the graphs are proven, probes are a check on the proof
SINGLE_LENGTHS, SINGLE_SETTINGS = (2, 33, 64, 257), ("initial", "jittered")  # probed in float32 too
ROWS, MANY_ROWS = 5, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A graph under one setting of its parameters, ready to be probed."""

    candidate: Candidate
    call: Call
    setting: str
    tensors: dict[str, Tensor]
    dtype: torch.dtype = torch.float64

    @property
    def lenient(self) -> bool:
        """Far settings may overflow, which is no fault."""
        return self.setting in FAR

    def run(self, x: Tensor) -> Tensor:
        """Give y for x, both [R, T, D]; x in float64, y in the precision of the probe."""
        call = self.call
        x = x.to(self.dtype)
        if call.dropout:
            seed = SETTINGS.index(self.setting)
            return run_with_dropout(self.candidate, call, self.tensors, x, seed)
        return self.candidate.run(call.place, call.mode, (call.length,), self.tensors, x)[0]

    def rows(self, seed: int, count: int) -> Tensor:
        """Give inputs [R, T, D]."""
        return rows_of(self.call.length, self.call.place.d_model, seed, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """The worst of some probes: how far an output moved, of its position's size, and where.

    x, moved: the row [1, T, D] before and after the change; no `moved` where a gradient is the leak.
    """

    size: float
    position: int
    first: int
    probes: int
    x: Tensor
    moved: Tensor | None = None


def causality(candidate: Candidate) -> Verdict:
    """No output depends on a later input: values replaced, and gradients, at every traced length."""
    worst, probes = 0.0, 0
    basis, claimed = claim(candidate, "causal")
    settings = SETTINGS if basis == "tested" else PROVEN_SETTINGS
    calls = [*distinct_calls(candidate, (), TRAIN_LENGTHS), *dropout_calls(candidate, TRAIN_LENGTHS[:1])]
    for call in calls:
        for setting in settings if call.length > 1 else ():
            probed = Probed(candidate=candidate, call=call, setting=setting,
                            tensors=tensors_of(candidate, call.place, setting))  # fmt: skip
            for leak in leaks_of(probed):
                probes += leak.probes
                if leak.size <= LEAK_LIMIT:
                    worst = max(worst, leak.size)
                    continue
                if _only_through_rows(probed, leak) and not batch(candidate).passed:
                    return verdict("causality", True, "rows move each other, which `batch` judges")
                what = "moves by" if leak.moved is not None else "has a gradient of"
                message = f"y at {leak.position} {what} {leak.size:.1e} of its size for inputs from"
                where = f"{leak.first} on (limit {LEAK_LIMIT:.0e}) at {call}, parameters {setting}"
                return verdict("causality", False, f"{message} {where}")
    message = f"later inputs move outputs by {worst:.1e} of their size at most (limit {LEAK_LIMIT:.0e}, fp64)"
    if basis == "tested":
        leak, call, setting = _single_leak(candidate)
        if leak.size > SINGLE_LEAK_LIMIT:
            what = (
                f"y at {leak.position} moves by {leak.size:.1e} of its size for inputs from {leak.first} on"
            )
            where = f"(limit {SINGLE_LEAK_LIMIT:.0e}, fp32) at {call}, parameters {setting}"
            return verdict("causality", False, f"{what} {where}; in fp64 it does not")
        message += f" and by {leak.size:.1e} in fp32 (limit {SINGLE_LEAK_LIMIT:.0e})"
    every = f"each position to T = {EVERY} and at {LONG}, some to {max(LENGTHS):,}"
    scope = f"{every}, parameters in {len(settings)} settings, gradients too"
    return verdict("causality", True, f"{claimed}; {message}, {probes:,} probes, {scope}", basis)


def _single_leak(candidate: Candidate) -> tuple[Leak, Call, str]:
    """Find the worst leak in float32, which a graph can tell from float64: 1 + 1e-9 - 1 is 0 in one only."""
    found: list[tuple[Leak, Call, str]] = []
    for call in distinct_calls(candidate, SINGLE_LENGTHS, TRAIN_LENGTHS[:2]):
        for setting in SINGLE_SETTINGS if call.length > 1 else ():
            probed = Probed(candidate=candidate, call=call, setting=setting, dtype=torch.float32,
                            tensors=tensors_of(candidate, call.place, setting, torch.float32))  # fmt: skip
            seed = 62 + SETTINGS.index(setting)
            for part in chunks(selected(call.length, seed, SOME), call.length):
                x, first = probed.rows(seed, len(part)), torch.tensor(part)
                found.append((_value_leak(probed, x, suffixes(x, first, seed + 10), first), call, setting))
                moved = singles(x[:1], part, seed)
                found.append((_value_leak(probed, x[:1], moved, first), call, setting))
    return max(found, key=lambda one: one[0].size)


def leaks_of(probed: Probed) -> Iterator[Leak]:
    """Probe a graph for later inputs that reach earlier outputs; each part gives its worst."""
    length, seed = probed.call.length, 2 + SETTINGS.index(probed.setting)
    for part in chunks(_cuts(probed, seed), length):
        x, first = probed.rows(seed, len(part)), torch.tensor(part)
        yield _gradient_leak(probed, x, first)
        yield _value_leak(probed, x, suffixes(x, first, seed + 10), first)
    base = probed.rows(seed, 2)[seed % 2 :][:1]
    for part in chunks(_singles(probed, seed), length):
        yield _value_leak(probed, base, singles(base, part, seed), torch.tensor(part))


def _cuts(probed: Probed, seed: int) -> list[int]:
    """Give the positions from which on all inputs are replaced: each, in what is trained."""
    length, near = probed.call.length, not probed.lenient
    if probed.call.trained and near and length <= EVERY:
        return list(range(1, length))
    few = FEW if length <= LONG else FEW - 1 if probed.setting == "jittered" else FEW - 2
    return selected(length, seed, few)


def _singles(probed: Probed, seed: int) -> list[int]:
    """Give the positions that are changed alone: each, where the price allows."""
    length, jittered = probed.call.length, probed.setting == "jittered"
    every = length <= EVERY or length == LONG if jittered else length <= 33 and not probed.lenient
    if (every or probed.call.trained) and length <= LONG:
        return list(range(1, length))
    some = SOME if length <= LONG else SOME // 2
    return selected(length, seed, some) if jittered or probed.call.trained else []


def _value_leak(probed: Probed, x: Tensor, moved: Tensor, first: Tensor) -> Leak:
    """Compare outputs before `first` [R]. x: [R or 1, T, D]; moved: [R, T, D]."""
    before = x.expand_as(moved) if probed.call.dropout else x  # masks are drawn for a number of rows
    with torch.no_grad():
        size, row, at = shift(probed.run(before), probed.run(moved), first, large(x) | probed.lenient)
    source = x[row : row + 1] if len(x) > 1 else x
    return Leak(size=size, position=at, first=int(first[row]), probes=len(moved), x=source,
                moved=moved[row : row + 1])  # fmt: skip


def _gradient_leak(probed: Probed, x: Tensor, first: Tensor) -> Leak:
    """Hold the gradient of outputs before `first` [R] by inputs [R, T, D] from there on against 0."""
    x = x.clone().requires_grad_()
    y = probed.run(x)
    before = (torch.arange(x.shape[1]) < first[:, None])[..., None]
    probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(len(x)), dtype=y.dtype)
    (grad,) = torch.autograd.grad(torch.where(before, y * probe, 0.0).sum(), x)
    size = grad.pow(2).mean((1, 2)).sqrt().clamp_min(1e-12)
    back = grad.masked_fill(before, 0.0).abs().amax((1, 2)) / size
    unknown = ~grad.isfinite().all(-1).all(-1) & (large(x) | probed.lenient)
    back = torch.where(unknown, 0.0, back.nan_to_num(torch.inf))
    row = int(back.argmax())
    return Leak(size=float(back[row]), position=int(first[row]) - 1, first=int(first[row]), probes=len(x),
                x=x[row : row + 1].detach())  # fmt: skip


def _only_through_rows(probed: Probed, leak: Leak) -> bool:
    """Tell whether a leak is gone when its row stands alone, and among rows that are all the same."""
    for count in (1, 4):
        x, first = leak.x.repeat(count, 1, 1), torch.full((count,), leak.first)
        if leak.moved is None:
            again = _gradient_leak(probed, x, first)
        else:
            again = _value_leak(probed, x, leak.moved.repeat(count, 1, 1), first)
        if not again.size <= LEAK_LIMIT:
            return False
    return True


def continuation(candidate: Candidate) -> Verdict:
    """A sequence whole, in pieces and token by token gives the same outputs."""
    worst = rounded = 0.0
    for place in candidate.places:
        tokens = (1,) * candidate.num_tokens(place, NUM_TOKENS, TRACED_TOKENS)
        for setting in ("initial", "jittered"):
            tensors = tensors_of(candidate, place, setting)
            for lengths in (*CUTS, tokens):
                error, at = _mismatch(candidate, place, lengths, tensors)
                worst = max(worst, error)
                if not error <= MATCH_LIMIT:
                    return _mismatched(place, lengths, error, f"at position {at} (limit {MATCH_LIMIT:.0e})")
            error, length = _prefix_mismatch(candidate, place, tensors)
            worst = max(worst, error)
            if not error <= MATCH_LIMIT:
                message = (
                    f"the first {length} tokens alone differ by {error:.1e} of their size from the same "
                )
                where = f"in a longer sequence (limit {MATCH_LIMIT:.0e}), layer {place.layer}"
                return verdict("continuation", False, message + where)
        single = tensors_of(candidate, place, "initial", torch.float32)
        for lengths in (*SINGLE_CUTS, tokens):
            error, at = _mismatch(candidate, place, lengths, single)
            limit = SINGLE_LIMIT + SINGLE_FACTOR * _rounding(candidate, place, sum(lengths))
            rounded = max(rounded, error / limit)
            if not error <= limit:
                where = f"in fp32, at position {at} (limit {limit:.0e}); is the state kept with fewer bits?"
                return _mismatched(place, lengths, error, where)
    message = f"wholes, {len(CUTS)} cuts and {NUM_TOKENS} single tokens agree to {worst:.1e} in fp64"
    single_ = f"{rounded:.0%} of the limit that rounding sets in fp32"
    return verdict("continuation", True, f"{message} (limit {MATCH_LIMIT:.0e}); to {single_}")


def _mismatched(place: Place, lengths: tuple[int, ...], error: float, where: str) -> Verdict:
    cut = "token by token" if set(lengths) == {1} else " + ".join(map(str, lengths))
    message = f"{cut} differs from the whole by {error:.1e} of its size {where}, layer {place.layer}"
    return verdict("continuation", False, message)


def _mismatch(
    candidate: Candidate, place: Place, lengths: tuple[int, ...], tensors: dict[str, Tensor]
) -> tuple[float, int]:
    """Give how far the outputs of pieces are from those of the whole, and where they are farthest."""
    total = sum(lengths)
    whole = 64 if set(lengths) == {1} else total
    single = any(t.dtype == torch.float32 for t in tensors.values())
    x = rows_of(whole, place.d_model, 5, 2 if single else 4)
    x = x.float() if single else x
    with torch.no_grad():
        expected = candidate.run(place, "eval", (whole,), tensors, x)[0][:, :total]
        given = candidate.run_pieces(place, lengths, tensors, x)
    error, _, at = shift(expected, given, torch.full((len(x),), total), large(x))
    return error, at


def _prefix_mismatch(candidate: Candidate, place: Place, tensors: dict[str, Tensor]) -> tuple[float, int]:
    """Hold the outputs of each length against those of the longest: lengths are graphs of their own.

    Returns:
        The largest difference, of a position's size, and the length that has it.
    """
    longest = max(candidate.lengths)
    x = rows_of(longest, place.d_model, 8, 2)
    worst, at = 0.0, longest
    with torch.no_grad():
        expected = candidate.run(place, "eval", (longest,), tensors, x)[0]
        for length in candidate.lengths:
            given = candidate.run(place, "eval", (length,), tensors, x[:, :length])[0]
            error, _, _ = shift(expected[:, :length], given, torch.full((len(x),), length), large(x))
            worst, at = max((worst, at), (error, length))
    return worst, at


def _rounding(candidate: Candidate, place: Place, length: int) -> float:
    """Give how far one whole call in fp32 is from the same in fp64."""
    length = length if length in candidate.lengths else 64
    x = rows_of(length, place.d_model, 5, 2)
    double, single = (
        candidate.run(place, "eval", (length,), tensors_of(candidate, place, "initial", dtype), x.to(dtype))[
            0
        ]
        for dtype in (torch.float64, torch.float32)
    )
    return shift(double, single.double(), torch.full((len(x),), length), large(x))[0]


def batch(candidate: Candidate) -> Verdict:
    """A row's output does not depend on other rows, nor on how many there are."""
    worst, probes = 0.0, 0
    basis, claimed = claim(candidate, "separate")
    settings = BATCH_SETTINGS if basis == "tested" else PROVEN_SETTINGS
    for call in distinct_calls(candidate, BATCH_LENGTHS, TRAIN_LENGTHS[:2]):
        for setting in settings if call.length <= EVERY else settings[:1]:
            probed = Probed(candidate=candidate, call=call, setting=setting,
                            tensors=tensors_of(candidate, call.place, setting))  # fmt: skip
            for what, size, count in _row_leaks(probed):
                probes += count
                worst = max(worst, size)
                if not size <= LEAK_LIMIT:
                    message = f"{what} by {size:.1e} of its size (limit {LEAK_LIMIT:.0e})"
                    return verdict("batch", False, f"{message} at {call}, parameters {setting}")
    message = f"other rows move a row by {worst:.1e} of its size at most (limit {LEAK_LIMIT:.0e}, fp64)"
    scope = f"B 1, 2, 4, {ROWS} and {MANY_ROWS}, gradients too"
    return verdict("batch", True, f"{claimed}; {message}, {probes:,} probes, {scope}", basis)


def _row_leaks(probed: Probed) -> Iterator[tuple[str, float, int]]:
    """Give what moves a row, by how much, and the number of probes."""
    x, other = probed.rows(6, ROWS), probed.rows(7, ROWS)
    y = probed.run(x.requires_grad_())
    probe = torch.randn(y[0].shape, generator=torch.Generator().manual_seed(6), dtype=y.dtype)
    finite = y[1:].isfinite().all(-1).all(-1)
    if bool(y[0].isfinite().all()):
        (grad,) = torch.autograd.grad((y[0] * probe).sum(), x)
        others = torch.where(finite | ~(large(x[1:]) | probed.lenient), grad[1:].abs().amax((1, 2)), 0.0)
        size = others.max() / grad[0].pow(2).mean().sqrt().clamp_min(1e-12)
        yield "another row's gradient reaches a row", float(size.nan_to_num(torch.inf)), ROWS - 1
    x, y, length = x.detach(), y.detach(), probed.call.length
    with torch.no_grad():
        for what, given, rows in _companies(x, other, length):
            moved = probed.run(given)
            index = torch.tensor([(at, row) for at, row in enumerate(rows) if row is not None])
            base, everywhere = index[:, 1], torch.full((len(index),), length)
            lenient = (large(x) | probed.lenient)[base]
            size_, _, _ = shift(y[base], moved[index[:, 0]], everywhere, lenient)
            yield what, size_, len(index)


def _companies(x: Tensor, other: Tensor, length: int) -> Iterator[tuple[str, Tensor, Sequence[int | None]]]:
    """Give rows in other company: what is done, the rows [B, T, D], and which of x each is (or none)."""
    n = len(x)
    for count in (1, 2, 4):
        yield f"with {count} rows instead of {n} a row moves", x[:count], list(range(count))
    yield "alone, the last row moves", x[-1:], [n - 1]
    yield "in another order a row moves", x.flip(0), list(range(n))[::-1]
    yield "next to itself a row moves", x[[0, 0, 1, 0]], [0, 0, 1, 0]
    for kept in (0, n // 2):
        changed = other.clone()
        changed[kept] = x[kept]
        yield (
            "with the other rows replaced a row moves",
            changed,
            [i if i == kept else None for i in range(n)],
        )
    if length <= 64:
        crowd = torch.cat([other.repeat(MANY_ROWS // n, 1, 1)[: MANY_ROWS - n], x])
        rows: list[int | None] = [None] * (MANY_ROWS - n)
        yield f"among {MANY_ROWS} rows a row moves", crowd, rows + list(range(n))
