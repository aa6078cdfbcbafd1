"""What grows with T: work, memory and the state."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

import torch

from asi_arch.engineer.bundle import Place
from asi_arch.engineer.candidate import COST_BATCH, Candidate
from asi_arch.engineer.checks.common import CUTS, TRACED_TOKENS, verdict
from asi_arch.engineer.cost import Cost
from asi_arch.engineer.graph import Graph
from asi_arch.records import Verdict

GROWTH_LENGTHS = (64, 256, 512, 1024)  # chunks that divide 64 need no padding, which would bend a line
SLOPE_LIMIT = 1.01  # refuses 1.9 % of the work at T = 1,024 that grow as T^1.5, 1 % as T^2, 7.5 % as T log T
LEAST = 1e-3  # of the mean cost of a token: less is taken as this much, so that a flat start has a slope
STATE_LIMIT = 96  # elements of the state for each of the D channels
SERIES = {"FLOPs": "flops", "elements touched": "touched", "peak bytes": "peak_bytes"}


def cost(candidate: Candidate) -> Verdict:
    """Work, elements touched and peak memory grow as T: a later token costs no more than an earlier one."""
    steepest: dict[str, float] = {}
    for place in candidate.places:
        costs = [candidate.cost(place, length) for length in GROWTH_LENGTHS]
        for what, name in SERIES.items():
            series = {length: getattr(c, name) for length, c in zip(GROWTH_LENGTHS, costs, strict=True)}
            found = peak_slope(series) if name == "peak_bytes" else slope(series)
            steepest[what] = max(found, steepest.get(what, 0.0))
            if found > SLOPE_LIMIT:
                share = share_above_line(series)
                message = f"{what} grow as T^{found:.3f} (limit T^{SLOPE_LIMIT}): {share:.1%} at T = 1,024"
                where = f"{culprit(costs[-2], costs[-1])}, layer {place.layer}"
                cure = "chunks of a fixed power of two up to 256 leave a line"
                return verdict("cost", False, f"{message} are more than a line, mostly {where}; {cure}")
    grown = ", ".join(f"{what} as T^{value:.3f}" for what, value in steepest.items())
    return verdict("cost", True, f"{grown} at most, T = 64 to 1,024 (limit T^{SLOPE_LIMIT})")


def slope(series: Mapping[int, float]) -> float:
    """Give the steepest exponent with which a cost by T grows.

    What one more token costs is taken in each range between two lengths; between two ranges it grows
    with some power of T, 0 for a line whatever its constant part is. The exponent is 1 plus the largest
    such power of any two ranges: one steep step is enough, wherever it lies.
    """
    lengths = sorted(series)
    least = LEAST * series[lengths[-1]] / lengths[-1]
    tokens = [
        (math.sqrt(a * b), max((series[b] - series[a]) / (b - a), least))
        for a, b in itertools.pairwise(lengths)
    ]
    powers = [
        math.log(later / earlier) / math.log(at / before)
        for i, (before, earlier) in enumerate(tokens)
        for at, later in tokens[i + 1 :]
    ]
    return 1 + max(powers) if least > 0 else 0.0


def peak_slope(series: Mapping[int, float]) -> float:
    """Give the steepest exponent with which a peak by T grows.

    A peak is the largest of several sums, and where another becomes the largest a line has a bend. But
    while each of them is a line, the peak over T falls: so the exponent is that of the peak itself.
    """
    powers = [
        math.log(series[b] / max(series[a], 1)) / math.log(b / a)
        for a, b in itertools.combinations(sorted(series)[1:], 2)
    ]
    return max(powers)


def share_above_line(series: Mapping[int, float]) -> float:
    """Give the share of the last value that lies above the line through the first two."""
    first, second, *_, last = sorted(series)
    step = (series[second] - series[first]) / (second - first)
    return 1 - (series[first] + step * (last - first)) / max(series[last], 1)


def culprit(half: Cost, full: Cost) -> str:
    """Name the operator whose work grows most beyond twice that at half the T, and the largest value."""
    beyond = {name: value - 2 * half.operators.get(name, 0) for name, value in full.operators.items()}
    return (
        f"in {max(beyond, key=lambda name: beyond[name], default='none')} (largest value: {full.largest_at})"
    )


def state(candidate: Candidate) -> Verdict:
    """The state has one shape, whatever T was and however it was cut, and is no store of the past."""
    size = calls = limit = 0
    for place in candidate.places:
        limit = STATE_LIMIT * place.d_model
        first: State | None = None
        for pieces, seen in states(candidate, place):
            first, calls, size = first or seen, calls + 1, elements(seen)
            if seen != first:
                message = f"the state grows with T: {elements(first)} elements at T = 1, {size}"
                if size == elements(first):
                    message = f"the state changes shape: {described(first)} at T = 1, {described(seen)}"
                where = f"at T = {' + '.join(map(str, pieces))}, layer {place.layer}"
                return verdict("state", False, f"{message} {where} (limit: the same at every T)")
            if size > limit:
                message = f"the state has {size} elements (limit {limit}), layer {place.layer}"
                return verdict("state", False, message)
    message = f"{size} elements for each sequence (limit {limit})"
    return verdict("state", True, f"{message}, the same after all {calls} calls, T = 1 to 1,024 and pieces")


State = tuple[tuple[tuple[int, ...], str], ...]  # of each leaf: shape for COST_BATCH sequences, dtype


def states(candidate: Candidate, place: Place) -> Iterator[tuple[tuple[int, ...], State]]:
    """Give the state after every traced call of a layer: each T by itself, then the pieces of each cut.

    Where a traced call follows, it is the state that this one takes, and `continuation` sees no other
    enter; behind the last piece the call is run.
    """
    cuts = (*CUTS, (1,) * TRACED_TOKENS)
    following = {cut[:i]: cut[: i + 1] for cut in cuts for i in range(1, len(cut))}
    known: dict[int, State] = {}
    for pieces in dict.fromkeys([*((length,) for length in candidate.lengths), *following, *cuts]):
        number = candidate.bundle.number(place, "eval", pieces)
        if pieces in following:
            yield pieces, _taken(candidate.graph(place, "eval", following[pieces]))
            continue
        if number not in known and len(pieces) == 1 and pieces[0] in GROWTH_LENGTHS:
            found = candidate.cost(place, pieces[0])
            known[number] = _leaves(zip(found.shapes[1:], found.dtypes[1:], strict=True))
        elif number not in known:
            known[number] = _given(candidate, place, pieces)
        yield pieces, known[number]


def _given(candidate: Candidate, place: Place, pieces: tuple[int, ...]) -> State:
    """Run the last piece on zeros, in float64, for which `continuation` has its module built."""
    taken = _taken(candidate.graph(place, "eval", pieces))
    before = [torch.zeros(shape, dtype=getattr(torch, dtype)) for shape, dtype in taken]
    before = [leaf.double() if leaf.is_floating_point() else leaf for leaf in before]
    x = torch.zeros(COST_BATCH, pieces[-1], place.d_model, dtype=torch.float64)
    tensors = candidate.tensors(place, 0.0, torch.float64)
    with torch.no_grad():
        _, *after = candidate.run(place, "eval", pieces, tensors, x, *before)
    return _leaves((tuple(leaf.shape), leaf.dtype) for leaf in after)


def _taken(graph: Graph) -> State:
    shapes = (tuple(COST_BATCH if size == -1 else size for size in i.shape) for i in graph.state_inputs())
    return _leaves(zip(shapes, (i.dtype for i in graph.state_inputs()), strict=True))


def _leaves(found: Iterable[tuple[tuple[int, ...], torch.dtype]]) -> State:
    """Name dtypes; all floats are one, for in float64 every float of a graph is."""
    return tuple((s, "float" if d.is_floating_point else str(d).split(".")[1]) for s, d in found)


def elements(state: State) -> int:
    """Count a state's elements for one sequence."""
    return sum(math.prod(shape) for shape, _ in state) // COST_BATCH


def described(state: State) -> str:
    """Give shapes and dtypes in words."""
    return ", ".join(f"{list(shape)} {dtype}" for shape, dtype in state) or "nothing"
