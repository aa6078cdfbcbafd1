"""The gates before training: each runs the graphs and gives one line of verdict.

All run on what was measured to cross the wall, in float64 where exactness matters: there, our
operators and torch's leave differences of rounding only (1e-15), so a leak of 1e-9 stands out.
"""

import itertools
import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from asi_arch.engineer.bundle import Place
from asi_arch.engineer.candidate import COST_BATCH, Candidate
from asi_arch.records import Verdict

LENGTHS = (1, 2, 31, 32, 33, 64, 100, 256, 257, 512, 1024)  # odd, even, at and beside chunk borders
TRAIN_LENGTHS = (33, 64, 1024)
CUTS = ((31, 33), (32, 32), (33, 31), (63, 1), (1, 63), (7, 25, 32), (100, 157), (512, 512))
NUM_TOKENS = 40  # token by token; the first TRACED_TOKENS have a graph of their own
TRACED_TOKENS = 6
LEAK_LIMIT = 1e-9  # of the output's root mean square, in float64
MATCH_LIMIT = 1e-6  # whole against pieces: the same sums in another order, in float64
QUADRATIC_LIMIT = 0.02  # share of the work at T = 1,024 that grows with T squared
STATE_LIMIT = 96  # elements of the state for each of the D channels
Check = Callable[[Candidate], Verdict]
BATCH = 4
JITTERS = (0.0, 1.0)  # of parameters: as initialised, and moved
INPUTS = (("normal", 1.0), ("zero", 0.0), ("10 x normal", 10.0))


def lengths_of(source: str) -> tuple[int, ...]:
    """Give every T at which a source is checked: the fixed ones, and two that its own text decides."""
    draw = random.Random(source)
    return tuple(sorted({*LENGTHS, draw.randint(3, 127), draw.randint(128, 1023)}))


def all_checks() -> tuple[Check, ...]:
    """Give the checks that run on graphs, in their order."""
    return (finite, causality, continuation, batch, determinism, gradients, cost, state)


def _verdict(name: str, passed: bool, message: str) -> Verdict:
    return Verdict(name=name, passed=passed, message=message)


def _inputs(length: int, width: int, seed: int, rows: int = BATCH) -> Tensor:
    """Give x [B, T, D]: even rows are normal; odd rows repeat four vectors, as tokens repeat."""
    generator = torch.Generator().manual_seed(seed * 7919 + length)
    x = torch.randn(rows, length, width, generator=generator, dtype=torch.float64)
    book = torch.randn(4, width, generator=torch.Generator().manual_seed(width), dtype=torch.float64)
    chosen = torch.randint(0, 4, (rows, length), generator=generator)
    x[1::2] = book[chosen[1::2]]
    return x


def _scale(y: Tensor) -> float:
    return max(float(y.detach().pow(2).mean().sqrt()), 1e-12)


def finite(candidate: Candidate) -> Verdict:
    """Outputs and gradients are finite in fp32 and bf16, for normal, zero and large inputs."""
    probes = list(itertools.product((1, 64), INPUTS, (False, True)))
    probes += [(1024, INPUTS[0], False), (1024, INPUTS[0], True)]
    for place in candidate.places:
        tensors = candidate.tensors(place, jitter=0.0, dtype=torch.float32)
        leaves = [t for t in tensors.values() if t.requires_grad]
        for length, (kind, factor), bf16 in probes:
            x = (_inputs(length, place.d_model, 1) * factor).float().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                y, *_ = candidate.run(place, "eval", (length,), tensors, x)
            grads = torch.autograd.grad(y.float().pow(2).sum(), [x, *leaves], allow_unused=True)
            bad = [] if bool(y.isfinite().all()) else ["output"]
            bad += ["gradient"] if any(g is not None and not g.isfinite().all() for g in grads) else []
            if bad:
                where = f"T = {length}, {kind} input, {'bf16' if bf16 else 'fp32'}, layer {place.layer}"
                return _verdict("finite", False, f"{' and '.join(bad)} not finite at {where}")
    message = f"outputs and gradients finite in {len(probes)} probes, fp32 and bf16, T to 1,024"
    return _verdict("finite", True, message)


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
                return _verdict("causality", False, f"{message} (limit {LEAK_LIMIT:.0e}) at {where}")
    message = f"later inputs move outputs by {worst:.1e} at most (limit {LEAK_LIMIT:.0e}, float64)"
    return _verdict("causality", True, f"{message}, {probes} probes, T to {max(LENGTHS):,}")


def _leak(candidate: Candidate, at: tuple[Place, str, int], tensors: dict[str, Tensor]) -> tuple[float, int]:
    """Give the largest relative leak into a prefix, and the position after which it came."""
    place, mode, length = at
    x = _inputs(length, place.d_model, 2, rows=2).requires_grad_()
    y, *_ = candidate.run(place, mode, (length,), tensors, x)
    scale, worst, where = _scale(y), 0.0, -1
    for cut, factor in sorted({(length - 2, 1.0), ((length - 1) // 2, 5.0), ((length - 1) // 5, 1.0)}):
        moved = torch.cat(
            [x[:, : cut + 1], factor * _inputs(length, place.d_model, 3, rows=2)[:, cut + 1 :]], 1
        )
        with torch.no_grad():
            y2, *_ = candidate.run(place, mode, (length,), tensors, moved)
        change = or_infinity((y - y2)[:, : cut + 1].detach().abs().max()) / scale
        worst, where = max((worst, where), (change, cut))
    cut = (length - 1) // 3
    probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(length), dtype=y.dtype)
    (grad,) = torch.autograd.grad((y * probe)[:, : cut + 1].sum(), x)
    back = or_infinity(grad[:, cut + 1 :].abs().max()) / _scale(grad)
    return max((worst, where), (back, cut))


def or_infinity(value: Tensor) -> float:
    """Give a number; what is not one counts as infinite, so that no limit lets it pass."""
    number = float(value)
    return math.inf if math.isnan(number) else number


def continuation(candidate: Candidate) -> Verdict:
    """A sequence whole, in pieces and token by token gives the same outputs."""
    worst = 0.0
    for place in candidate.places:
        for jitter in (0.0, 1.0):
            tensors = candidate.tensors(place, jitter, torch.float64)
            for lengths in (*CUTS, (1,) * candidate.num_tokens(place, NUM_TOKENS, TRACED_TOKENS)):
                total = sum(lengths)
                whole = 64 if lengths[-1] == lengths[0] == 1 else total
                x = _inputs(whole, place.d_model, 5)
                with torch.no_grad():
                    expected = candidate.run(place, "eval", (whole,), tensors, x)[0][:, :total]
                    given = candidate.run_pieces(place, lengths, tensors, x)
                    error = or_infinity((expected - given).abs().max() / _scale(expected))
                worst = max(worst, error)
                if not error <= MATCH_LIMIT:
                    cut = "token by token" if set(lengths) == {1} else " + ".join(map(str, lengths))
                    at = int(
                        ((expected - given).abs().amax((0, 2)) > MATCH_LIMIT * _scale(expected))
                        .int()
                        .argmax()
                    )
                    message = (
                        f"{cut} differs from the whole by {error:.1e} of its size (limit {MATCH_LIMIT:.0e})"
                    )
                    return _verdict(
                        "continuation", False, f"{message}, first at position {at}, layer {place.layer}"
                    )
    message = f"whole, {len(CUTS)} cuts and {NUM_TOKENS} single tokens agree to {worst:.1e}"
    return _verdict("continuation", True, f"{message} (limit {MATCH_LIMIT:.0e}, float64)")


def batch(candidate: Candidate) -> Verdict:
    """A row's output does not depend on other rows, nor on how many there are."""
    worst = 0.0
    for place, mode, length in candidate.traced((1, 33, 64, 257), TRAIN_LENGTHS[:2]):
        for jitter in (0.0, 1.0):
            tensors = candidate.tensors(place, jitter, torch.float64)
            x, other = _inputs(length, place.d_model, 6), _inputs(length, place.d_model, 7)
            other[0] = x[0]
            with torch.no_grad():
                rows = candidate.run(place, mode, (length,), tensors, x)[0]
                changed = candidate.run(place, mode, (length,), tensors, other)[0]
                alone = candidate.run(place, mode, (length,), tensors, x[:1])[0]
            leak = or_infinity((rows[0] - changed[0]).abs().max() / _scale(rows))
            leak = max(leak, or_infinity((rows[0] - alone[0]).abs().max() / _scale(rows)))
            worst = max(worst, leak)
            if not leak <= LEAK_LIMIT:
                message = (
                    f"a row moves by {leak:.1e} of its size with the other rows (limit {LEAK_LIMIT:.0e})"
                )
                return _verdict(
                    "batch", False, f"{message} at T = {length}, {mode} mode, layer {place.layer}"
                )
    message = f"other rows move a row by {worst:.1e} at most (limit {LEAK_LIMIT:.0e}, float64)"
    return _verdict("batch", True, f"{message}, B 1 and {BATCH}")


def determinism(candidate: Candidate) -> Verdict:
    """Two calls agree to the bit, and train and eval mode differ in dropout only."""
    for place in candidate.all_places:
        for length in TRAIN_LENGTHS if place in candidate.places else (candidate.length,):
            if not candidate.same_modes(place, length):
                message = f"train and eval mode differ beyond dropout at T = {length}, layer {place.layer}"
                return _verdict("determinism", False, message)
    for place in candidate.places:
        tensors = candidate.tensors(place, 1.0, torch.float32)
        x = _inputs(64, place.d_model, 8).float()
        with torch.no_grad():
            a, b = (candidate.run(place, "eval", (64,), tensors, x)[0] for _ in range(2))
        if not torch.equal(a, b):
            message = f"two calls differ by {float((a - b).abs().max()):.1e} (limit 0), layer {place.layer}"
            return _verdict("determinism", False, message)
    return _verdict(
        "determinism", True, "two calls are equal to the bit; train and eval differ in dropout only"
    )


def gradients(candidate: Candidate) -> Verdict:
    """Every parameter gets a gradient that is not zero."""
    count = 0
    for place in candidate.places:
        tensors = candidate.tensors(place, 1.0, torch.float64)
        reached: dict[str, float] = dict.fromkeys((n for n, t in tensors.items() if t.requires_grad), 0.0)
        for seed in (9, 10):
            x = _inputs(64, place.d_model, seed)
            y, *_ = candidate.run(place, "eval", (64,), tensors, x)
            probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
            leaves = [tensors[name] for name in reached]
            for name, grad in zip(reached, torch.autograd.grad((y * probe).sum(), leaves, allow_unused=True),
                                  strict=True):  # fmt: skip
                reached[name] = max(reached[name], 0.0 if grad is None else float(grad.abs().max()))
        dead = [name for name, size in reached.items() if size == 0.0]
        if dead:
            message = f"no gradient reaches {', '.join(dead[:4])} ({len(dead)} of {len(reached)} parameters)"
            return _verdict("gradients", False, f"{message}, layer {place.layer}; use it or leave it out")
        count += len(reached)
    return _verdict("gradients", True, f"all {count} parameter tensors get a gradient")


def cost(candidate: Candidate) -> Verdict:
    """Work and memory grow linearly with T: the part that grows with T squared is nearly nothing."""
    shown = ""
    for place in candidate.places:
        costs = [candidate.cost(place, length) for length in (256, 512, 1024)]
        for what, series in (
            ("FLOPs", [c.flops for c in costs]),
            ("bytes", [c.written_bytes for c in costs]),
        ):
            share = quadratic_share(series)
            growth = series[2] / max(series[1], 1)
            shown = shown or f"{what} grow x {growth:.2f} from T = 512 to 1,024"
            if share > QUADRATIC_LIMIT:
                message = f"{share:.0%} of the {what} at T = 1,024 grow with T squared"
                where = (
                    f"x {growth:.2f} from T = 512; largest value: {costs[2].largest_at}, layer {place.layer}"
                )
                return _verdict("cost", False, f"{message} (limit {QUADRATIC_LIMIT:.0%}), {where}")
    return _verdict("cost", True, f"{shown}; no part grows with T squared (limit {QUADRATIC_LIMIT:.0%})")


def quadratic_share(series: Sequence[int]) -> float:
    """Give the share of the last value that is quadratic, from values at T/4, T/2 and T.

    For a + b T + c T^2 the combination w(T) - 3 w(T/2) + 2 w(T/4) is 3/8 c T^2.
    """
    quarter, half, full = series
    return (full - 3 * half + 2 * quarter) * 8 / 3 / max(full, 1)


def state(candidate: Candidate) -> Verdict:
    """The state has one shape, whatever T was, and is no store of the whole past."""
    size = limit = 0
    for place in candidate.places:
        seen: tuple[tuple[int, ...], ...] | None = None
        for length in (1, 64, 257, 1024):
            shapes = candidate.cost(place, length).shapes[1:]
            if seen is not None and shapes != seen:
                was, now = (sum(math.prod(s) for s in shape) // COST_BATCH for shape in (seen, shapes))
                message = f"the state grows with T: {was} elements at T = 1, {now} at T = {length}"
                return _verdict(
                    "state", False, f"{message}, layer {place.layer} (limit: the same at every T)"
                )
            seen = shapes
        size = sum(math.prod(s) for s in seen or ()) // COST_BATCH
        limit = STATE_LIMIT * place.d_model
        if size > limit:
            message = f"the state has {size} elements (limit {limit}), layer {place.layer}"
            return _verdict("state", False, message)
    return _verdict("state", True, f"{size} elements for each sequence, at every T (limit {limit})")
