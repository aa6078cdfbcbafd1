"""What grows with T: work, memory and the state."""

import math
from collections.abc import Sequence

from asi_arch.engineer.candidate import COST_BATCH, Candidate
from asi_arch.engineer.checks.common import verdict
from asi_arch.records import Verdict

QUADRATIC_LIMIT = 0.02  # share of the work at T = 1,024 that grows with T squared
STATE_LIMIT = 96  # elements of the state for each of the D channels


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
                return verdict("cost", False, f"{message} (limit {QUADRATIC_LIMIT:.0%}), {where}")
    return verdict("cost", True, f"{shown}; no part grows with T squared (limit {QUADRATIC_LIMIT:.0%})")


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
                return verdict("state", False, f"{message}, layer {place.layer} (limit: the same at every T)")
            seen = shapes
        size = sum(math.prod(s) for s in seen or ()) // COST_BATCH
        limit = STATE_LIMIT * place.d_model
        if size > limit:
            message = f"the state has {size} elements (limit {limit}), layer {place.layer}"
            return verdict("state", False, message)
    return verdict("state", True, f"{size} elements for each sequence, at every T (limit {limit})")
