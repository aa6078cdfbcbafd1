"""Asynchronous successive halving: at a few rungs, only the better share of all that came so far goes on."""

import math
from dataclasses import dataclass

from asi_arch.records import StopRule
from asi_arch.search.budgets.base import AVERAGE, Facts, bars, over_seed, window_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Halving:
    """A run goes on at a rung if it is in the better share of all runs of the study that reached it.

    Losses are compared as differences to the seed's own curve at equal steps, averaged over the last
    points. No rung lies before the end of the warm-up, within which curves say little of their
    ends, nor are points from it averaged in.
    Source: L. Li et al., arXiv:1810.05934 (ASHA), here as a stopping rule: a run that is not in the
    share when it comes is ended for good, so nothing need be kept to be resumed.

    Args:
        keep: share that goes on at each rung.
        rungs: how many, at equal distances between `earliest` and the end.
        earliest: share of the steps before which no rung lies, if the warm-up ends earlier.
        fewest: runs that must have reached a rung before it stops any.
        average: share of a curve's points that is averaged.
    """

    keep: float = 0.5
    rungs: int = 4
    earliest: float = 0.5
    fewest: int = 8
    average: float = AVERAGE

    def rule(self, facts: Facts) -> StopRule | None:
        """Give the rungs' bars as the runs so far set them; None while there are too few."""
        window = window_of(facts, self.average)
        steps = self.rung_steps(facts)
        heights = [over_seed(curve, facts, window) for curve in facts.curves]
        limits = []
        for step in steps:
            known = sorted(height[step] for height in heights if step in height)
            places = max(1, math.ceil(self.keep * (len(known) + 1)))
            if len(known) >= self.fewest and places <= len(known):
                limits.append((step, known[places - 1]))
        if not limits:
            return None
        reason = f"of the runs that came so far, the better {self.keep:.0%} go on there"
        return StopRule(budget="halving", window=window, bars=bars(limits, facts, window), reason=reason)

    def rung_steps(self, facts: Facts) -> list[int]:
        """Give the steps of the rungs: of the curve's points, the first ones at or after equal distances."""
        window = window_of(facts, self.average)
        steps = [step for step, _ in facts.seed]
        after = [i for i, step in enumerate(steps) if step >= facts.warm_up]
        if not after:
            return []
        least = max(self.earliest * facts.steps, steps[min(after[0] + window - 1, len(steps) - 1)])
        wanted = [least + (facts.steps - least) * i / self.rungs for i in range(self.rungs)]
        found = (next((s for s in steps if s >= step), facts.steps) for step in wanted)
        return sorted({s for s in found if s < facts.steps})
