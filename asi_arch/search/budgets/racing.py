"""Racing: a run is stopped when it can hardly end among the best, judged by how finished runs went on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from asi_arch.records import StopRule
from asi_arch.search.budgets.base import AVERAGE, Curve, Facts, bars, over_seed, window_of

FEWEST = 4  # finished runs more than `best`, before anything is predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Racing:
    """A run is stopped where its chance of ending among the study's best k is not worth the steps left.

    The end of a run is predicted from its height over the seed at that step by a straight line through
    all finished runs of the study; what is left over gives Student's distribution of the prediction.
    To stop saves the share of the steps that is left, and risks that chance: it is done where the chance
    is below `limit` times that share, so late stops, which save little, need to be surer. Since the line
    rises, the chance falls with the height, and the rule is a bar for each step: the height at which both
    are equal. Where finished runs do not show, at that level, that height then says anything of the
    end, there is no bar; so warm-up needs no rule of its own, but none lies before `earliest`.
    Of n runs so far, k n / N are expected among the best k of N that are planned, since runs come in
    no order: a run must have a chance to be as good as the last of those.
    Source: the predictive distribution of linear regression, e.g. A. Gelman et al., Bayesian Data
    Analysis (3rd ed.), section 14.2; racing: O. Maron and A. Moore, NIPS 1993.

    Args:
        best: k, counted among all runs that the study is to have.
        limit: chance that all steps of a run are worth.
        earliest: share of the steps before which no run is stopped.
        average: share of a curve's points that is averaged, both at a step and at the end.
    """

    best: int = 5
    limit: float = 0.16
    earliest: float = 0.2
    average: float = AVERAGE

    def rule(self, facts: Facts) -> StopRule | None:
        """Give a bar for each step of the curve where runs so far allow one."""
        window = window_of(facts, self.average)
        heights = finished(facts, window)
        if len(heights) < self.best + FEWEST:
            return None
        ends = [height[facts.steps] for height in heights]
        runs = len(facts.curves) + 1
        place = math.ceil(self.best * runs / max(facts.planned, runs))
        wanted = sorted(ends)[min(place, self.best) - 1]
        limits = []
        for step, _ in facts.seed[window - 1 :]:
            if self.earliest * facts.steps <= step < facts.steps:
                line = fit_line([height[step] for height in heights], ends)
                height = line.highest(wanted, self.limit_at(step, facts.steps))
                if height is not None:
                    limits.append((step, height))
        if not limits:
            return None
        reason = (
            f"from there the chance of the best {self.best} is below {self.limit:.2g} times the share of the "
            f"steps that is left, by {len(ends)} runs"
        )
        return StopRule(budget="racing", window=window, bars=bars(limits, facts, window), reason=reason)

    def limit_at(self, step: int, steps: int) -> float:
        """Give the chance below which a run is stopped at a step of so many: what the others are worth."""
        return self.limit * (1 - step / steps)

    def calibration(self, facts: Facts) -> dict[int, float]:
        """Give by step how many finished runs, of all, ended below the interval that the others predict.

        Each run is predicted from the line through all others; the share that ended better than
        the quantile `limit_at` of its prediction should be near that. Empty while there are too few.
        """
        window = window_of(facts, self.average)
        heights = finished(facts, window)
        if len(heights) < self.best + FEWEST + 1:
            return {}
        ends = [height[facts.steps] for height in heights]
        shares = {}
        for step, _ in facts.seed[window - 1 :]:
            if self.earliest * facts.steps <= step < facts.steps:
                at, limit = [height[step] for height in heights], self.limit_at(step, facts.steps)
                shares[step] = sum(
                    ends[i] < fit_line(at[:i] + at[i + 1 :], ends[:i] + ends[i + 1 :]).quantile(at[i], limit)
                    for i in range(len(ends))
                ) / len(ends)
        return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A least-squares line y = middle + slope (x - centre), with what its predictions need.

    spread: sum of squares of x about its centre. noise: standard deviation about the line.
    """

    runs: int
    centre: float
    middle: float
    slope: float
    spread: float
    noise: float

    def quantile(self, x: float, share: float) -> float:
        """Give the value below which a further y at x lies with a chance of `share`."""
        u = x - self.centre
        error = self.noise * math.sqrt(1 + 1 / self.runs + u * u / self.spread)
        return self.middle + self.slope * u + _student(share, self.runs - 2) * error

    def highest(self, wanted: float, limit: float) -> float | None:
        """Give the x above which the chance of y <= wanted is below `limit`; None: there is none.

        It solves middle + slope u - wanted = t noise sqrt(1 + 1/n + u^2 / spread) for u = x - centre;
        for large u the right side grows as fast as t noise / sqrt(spread), which the slope must exceed:
        that is, it must be above 0 at the level `limit`.
        """
        t = -_student(limit, self.runs - 2)
        square = (t * self.noise) ** 2
        a = self.slope**2 - square / self.spread
        if self.slope <= 0 or a <= 0:
            return None
        lead = self.middle - wanted
        b, c = 2 * self.slope * lead, lead * lead - square * (1 + 1 / self.runs)
        return self.centre + (-b + math.sqrt(max(0.0, b * b - 4 * a * c))) / (2 * a)


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Give the least-squares line through at least three points; a slope of 0 where all x are equal."""
    n = len(x)
    centre, middle = math.fsum(x) / n, math.fsum(y) / n
    spread = math.fsum((v - centre) ** 2 for v in x)
    both = math.fsum((v - centre) * (w - middle) for v, w in zip(x, y, strict=True))
    slope = both / spread if spread > 0 else 0.0
    left = math.fsum((w - middle - slope * (v - centre)) ** 2 for v, w in zip(x, y, strict=True))
    return Line(
        runs=n,
        centre=centre,
        middle=middle,
        slope=slope,
        spread=spread or 1.0,
        noise=math.sqrt(left / (n - 2)),
    )


def finished(facts: Facts, window: int) -> list[dict[int, float]]:
    """Give the heights over the seed, by step, of the runs that went to the end."""
    full: list[Curve] = [curve for curve in facts.curves if curve and curve[-1][0] == facts.steps]
    return [over_seed(curve, facts, window) for curve in full]


@cache
def _student(share: float, freedom: int) -> float:
    """Give a quantile of Student's distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))
