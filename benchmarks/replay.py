"""Budgets of ours replayed over many orders of arrival at once, on arrays.

The rules are those of `asi_arch/search/budgets`, told once more for all orders together, which is a
hundred times faster than to ask them run by run; `tests/test_benchmarks.py` holds that both stop the same
runs at the same points. Letters: O orders, R runs in the order of arrival, P points of a curve.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import stdtrit

from asi_arch.search.budgets.base import AVERAGE, Facts, over_seed, window_of
from asi_arch.search.budgets.full import Full
from asi_arch.search.budgets.halving import Halving
from asi_arch.search.budgets.racing import FEWEST, Racing

Array = np.ndarray
Limits = Callable[[int], Array | None]
"""Takes a place of arrival; gives [O, P], the highest height with which that run goes on at each point."""


class MedianStopping:
    """Stops a run after the warm-up when its loss is above the median of all runs that reached the step.

    enough: runs that must have reached a step before it stops any.
    """

    enough = 5


def heights_of(facts: Facts) -> Array:
    """Give [R, P]: how far each averaged loss lies above the seed's; NaN where nothing is averaged."""
    window = window_of(facts, AVERAGE)
    known = [over_seed(curve, facts, window) for curve in facts.curves]
    return np.array([[height.get(step, np.nan) for step, _ in facts.seed] for height in known])


def replay_many(budget: object, facts: Facts, orders: Array) -> Array:
    """Give [O, R], how many points each run got, in the order of arrival.

    Args:
        budget: Full, Halving, Racing (both with the usual average) or MedianStopping.
        facts: of all runs, each to its end.
        orders: [O, R], places of runs in the order of arrival.
    """
    heights = heights_of(facts)[orders]
    count, runs, points = heights.shape
    got = np.full((count, runs), points)
    limits = _limits(budget, facts, heights, got)
    for place in range(runs):
        limit = limits(place)
        if limit is not None:
            above = heights[:, place] > limit
            above[:, -1] = True  # a run ends there at the latest
            got[:, place] = above.argmax(axis=1) + 1
    return got


def _limits(budget: object, facts: Facts, heights: Array, got: Array) -> Limits:
    """Give a budget's limits. got: as far as it is known when limits are asked for."""
    match budget:
        case Full():
            return lambda place: None
        case Halving():
            return _halving(budget, facts, heights, got)
        case Racing():
            return _racing(budget, facts, heights, got)
        case MedianStopping():
            return _median(budget, facts, heights, got)
    raise TypeError(f"no replay of {budget!r}")


def _halving(budget: Halving, facts: Facts, heights: Array, got: Array) -> Limits:
    steps = [step for step, _ in facts.seed]
    rungs = [steps.index(step) for step in budget.rung_steps(facts)]

    def limits(place: int) -> Array | None:
        known, counts = _sorted(heights[:, :place, rungs], got[:, :place], rungs)
        places = np.maximum(1, np.ceil(budget.keep * (counts + 1)).astype(int))
        is_bar = (counts >= budget.fewest) & (places <= counts)
        return _spread(_picked(known, places - 1), is_bar, rungs, heights)

    return limits


def _median(budget: MedianStopping, facts: Facts, heights: Array, got: Array) -> Limits:
    after = [i for i, (step, _) in enumerate(facts.seed[:-1]) if step >= facts.warm_up]

    def limits(place: int) -> Array | None:
        known, counts = _sorted(heights[:, :place, after], got[:, :place], after)
        middle = (_picked(known, (counts - 1) // 2) + _picked(known, counts // 2)) / 2
        return _spread(middle, counts >= budget.enough, after, heights)

    return limits


def _sorted(known: Array, got: Array, points: Sequence[int]) -> tuple[Array, Array]:
    """Give the heights of the runs that reached some points, from the lowest up, and [O, P] their number."""
    reached = got[:, :, None] > np.array(points, dtype=int)
    return np.sort(np.where(reached, known, np.inf), axis=1), reached.sum(axis=1)


def _picked(known: Array, places: Array) -> Array:
    """Give [O, P], the values at some places of sorted ones; what lies outside is clipped."""
    if not known.shape[1]:
        return np.full(places.shape, np.inf)
    inside = np.clip(places, 0, known.shape[1] - 1)
    return np.take_along_axis(known, inside[:, None, :], axis=1)[:, 0]


def _spread(values: Array, is_bar: Array, points: Sequence[int], heights: Array) -> Array:
    """Give limits at all points: infinite where there is no bar."""
    limit = np.full((heights.shape[0], heights.shape[2]), np.inf)
    limit[:, points] = np.where(is_bar, values, np.inf)
    return limit


def _racing(budget: Racing, facts: Facts, heights: Array, got: Array) -> Limits:
    """Keep sums over the finished runs of each order, about the mean of all runs, and fit lines with them."""
    count, runs, points = heights.shape
    steps = np.array([step for step, _ in facts.seed])
    asked = (steps >= budget.earliest * facts.steps) & (steps < facts.steps)
    asked &= ~np.isnan(heights[0, 0])
    chances = np.array([budget.limit_at(step, facts.steps) for step in steps[asked]])
    x = heights[:, :, asked]
    centre = x[0].mean(axis=0)
    x, y = x - centre, heights[:, :, -1]
    middle = y[0].mean()
    y = y - middle
    sums = np.zeros((5, count, int(asked.sum())))  # x, x x, x y; y, y y
    number = np.zeros(count, dtype=int)
    ends = np.full((count, runs), np.inf)  # of finished runs, from the lowest up

    def limits(place: int) -> Array | None:
        if place:
            done = got[:, place - 1] == points
            last, end = x[:, place - 1], y[:, place - 1, None]
            new = np.stack([last, last * last, last * end, 0 * last + end, 0 * last + end * end])
            sums[:] += np.where(done[:, None], new, 0.0)
            number[:] += done
            ends[done, -1] = y[done, place - 1]
            ends[done] = np.sort(ends[done], axis=1)
        if number.max() < budget.best + FEWEST:
            return None
        planned = max(facts.planned, place + 1)
        wanted = ends[:, min(int(np.ceil(budget.best * (place + 1) / planned)), budget.best) - 1]
        limit = np.full((count, points), np.inf)
        limit[:, asked] = _highest(sums, number, wanted, chances, budget.best) + centre
        return limit

    return limits


def _highest(sums: Array, number: Array, wanted: Array, limit: Array, best: int) -> Array:
    """Give [O, P]: `racing.fit_line(x, y).highest(wanted, limit)` from sums; infinite where there is none.

    limit: [P], chances.
    """
    n = np.maximum(number, 3)[:, None]
    sum_x, sum_xx, sum_xy, sum_y, sum_yy = sums
    spread = sum_xx - sum_x * sum_x / n
    both = sum_xy - sum_x * sum_y / n
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(spread > 0, both / spread, 0.0)
        left = np.maximum(0.0, sum_yy - sum_y * sum_y / n - slope * both)
        square = stdtrit(n - 2, limit) ** 2 * left / (n - 2)
        a = slope**2 - square / spread
        lead = sum_y / n - wanted[:, None]
        b, c = 2 * slope * lead, lead * lead - square * (1 + 1 / n)
        height = sum_x / n + (-b + np.sqrt(np.maximum(0.0, b * b - 4 * a * c))) / (2 * a)
    is_bar = (number[:, None] >= best + FEWEST) & (slope > 0) & (a > 0)
    return np.where(is_bar, height, np.inf)
