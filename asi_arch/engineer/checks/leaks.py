"""Does anything reach an output that must not: later positions, other rows, or a lost past."""

import torch
from torch import Tensor

from asi_arch.engineer.bundle import Place
from asi_arch.engineer.candidate import Candidate
from asi_arch.engineer.checks.common import (
    BATCH,
    CUTS,
    JITTERS,
    LEAK_LIMIT,
    LENGTHS,
    MATCH_LIMIT,
    NUM_TOKENS,
    TRACED_TOKENS,
    TRAIN_LENGTHS,
    inputs,
    or_infinity,
    scale_of,
    verdict,
)
from asi_arch.records import Verdict


def causality(candidate: Candidate) -> Verdict:
    """No output depends on a later input: values replaced, and gradients, at every traced length."""
    worst, probes = 0.0, 0
    for place, mode, length in candidate.traced((), TRAIN_LENGTHS):
        for jitter in JITTERS:
            if length == 1:
                continue
            tensors = candidate.tensors(place, jitter, torch.float64)
            leak, at = _leak(candidate, (place, mode, length), tensors)
            probes += 4
            worst = max(worst, leak)
            if not leak <= LEAK_LIMIT:
                where = f"T = {length}, {mode} mode, layer {place.layer}, after position {at}"
                message = f"outputs move by {leak:.1e} of their size when later inputs change"
                return verdict("causality", False, f"{message} (limit {LEAK_LIMIT:.0e}) at {where}")
    message = f"later inputs move outputs by {worst:.1e} at most (limit {LEAK_LIMIT:.0e}, float64)"
    return verdict("causality", True, f"{message}, {probes} probes, T to {max(LENGTHS):,}")


def _leak(candidate: Candidate, at: tuple[Place, str, int], tensors: dict[str, Tensor]) -> tuple[float, int]:
    """Give the largest relative leak into a prefix, and the position after which it came."""
    place, mode, length = at
    x = inputs(length, place.d_model, 2, rows=2).requires_grad_()
    y, *_ = candidate.run(place, mode, (length,), tensors, x)
    scale, worst, where = scale_of(y), 0.0, -1
    for cut, factor in sorted({(length - 2, 1.0), ((length - 1) // 2, 5.0), ((length - 1) // 5, 1.0)}):
        moved = torch.cat(
            [x[:, : cut + 1], factor * inputs(length, place.d_model, 3, rows=2)[:, cut + 1 :]], 1
        )
        with torch.no_grad():
            y2, *_ = candidate.run(place, mode, (length,), tensors, moved)
        change = or_infinity((y - y2)[:, : cut + 1].detach().abs().max()) / scale
        worst, where = max((worst, where), (change, cut))
    cut = (length - 1) // 3
    probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(length), dtype=y.dtype)
    (grad,) = torch.autograd.grad((y * probe)[:, : cut + 1].sum(), x)
    back = or_infinity(grad[:, cut + 1 :].abs().max()) / scale_of(grad)
    return max((worst, where), (back, cut))


def continuation(candidate: Candidate) -> Verdict:
    """A sequence whole, in pieces and token by token gives the same outputs."""
    worst = 0.0
    for place in candidate.places:
        for jitter in (0.0, 1.0):
            tensors = candidate.tensors(place, jitter, torch.float64)
            for lengths in (*CUTS, (1,) * candidate.num_tokens(place, NUM_TOKENS, TRACED_TOKENS)):
                total = sum(lengths)
                whole = 64 if lengths[-1] == lengths[0] == 1 else total
                x = inputs(whole, place.d_model, 5)
                with torch.no_grad():
                    expected = candidate.run(place, "eval", (whole,), tensors, x)[0][:, :total]
                    given = candidate.run_pieces(place, lengths, tensors, x)
                    error = or_infinity((expected - given).abs().max() / scale_of(expected))
                worst = max(worst, error)
                if not error <= MATCH_LIMIT:
                    cut = "token by token" if set(lengths) == {1} else " + ".join(map(str, lengths))
                    at = int(
                        ((expected - given).abs().amax((0, 2)) > MATCH_LIMIT * scale_of(expected))
                        .int()
                        .argmax()
                    )
                    message = (
                        f"{cut} differs from the whole by {error:.1e} of its size (limit {MATCH_LIMIT:.0e})"
                    )
                    return verdict(
                        "continuation", False, f"{message}, first at position {at}, layer {place.layer}"
                    )
    message = f"whole, {len(CUTS)} cuts and {NUM_TOKENS} single tokens agree to {worst:.1e}"
    return verdict("continuation", True, f"{message} (limit {MATCH_LIMIT:.0e}, float64)")


def batch(candidate: Candidate) -> Verdict:
    """A row's output does not depend on other rows, nor on how many there are."""
    worst = 0.0
    for place, mode, length in candidate.traced((1, 33, 64, 257), TRAIN_LENGTHS[:2]):
        for jitter in (0.0, 1.0):
            tensors = candidate.tensors(place, jitter, torch.float64)
            x, other = inputs(length, place.d_model, 6), inputs(length, place.d_model, 7)
            other[0] = x[0]
            with torch.no_grad():
                rows = candidate.run(place, mode, (length,), tensors, x)[0]
                changed = candidate.run(place, mode, (length,), tensors, other)[0]
                alone = candidate.run(place, mode, (length,), tensors, x[:1])[0]
            leak = or_infinity((rows[0] - changed[0]).abs().max() / scale_of(rows))
            leak = max(leak, or_infinity((rows[0] - alone[0]).abs().max() / scale_of(rows)))
            worst = max(worst, leak)
            if not leak <= LEAK_LIMIT:
                message = (
                    f"a row moves by {leak:.1e} of its size with the other rows (limit {LEAK_LIMIT:.0e})"
                )
                return verdict("batch", False, f"{message} at T = {length}, {mode} mode, layer {place.layer}")
    message = f"other rows move a row by {worst:.1e} at most (limit {LEAK_LIMIT:.0e}, float64)"
    return verdict("batch", True, f"{message}, B 1 and {BATCH}")
