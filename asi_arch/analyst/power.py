"""How many seeds a claim needs: from the noise as known now, never from the gain that was seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from asi_arch.analyst.noise import Noise, Spread, planned_spread

FEWEST_SEEDS = 3
MOST_SEEDS = 8
POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Seeds for each side of a comparison. power: chance that they show the wanted effect, if it is real."""

    seeds: int
    power: float


def seeds_needed(
    noise: Noise,
    candidate: Sequence[float],
    baseline: Sequence[float],
    effect: float,
    alpha: float = 0.05,
    *,
    most: int = MOST_SEEDS,
) -> Plan:
    """Give the fewest seeds, equally many for candidate and baseline, that show an effect with power 0.8.

    Only the noise of the runs so far is used and not their means, so a plan may be renewed as runs come
    in and the test keeps its level closely (an internal pilot). The effect is one worth having, fixed
    before: planning on the gain that made a lead would plan on luck.
    Source: J. Wittes and E. Brittain, Statistics in Medicine 9 (1990) 65.

    Args:
        noise: of all groups at the stage.
        candidate: its values so far, perhaps none.
        baseline: likewise.
        effect: smallest gain that is not to be missed, in the measure's unit, above 0.
        alpha: two-sided level of this one test, after correction for the others.
        most: seeds beyond which no plan goes, at least 3.

    Returns:
        From 3 to `most` seeds; with `most` the power may lie below 0.8.
    """

    def plan(seeds: int) -> Plan:
        a, b = (planned_spread(noise, values, seeds - 1) for values in (candidate, baseline))
        new = sum(max(0, seeds - max(1, len(values))) for values in (candidate, baseline))
        return Plan(seeds=seeds, power=power_of(a, b, seeds, seeds, effect, alpha, most=noise.freedom + new))

    low, high = FEWEST_SEEDS, max(most, FEWEST_SEEDS)
    while low < high:  # power rises with the seeds
        middle = (low + high) // 2
        low, high = (low, middle) if plan(middle).power >= POWER else (middle + 1, high)
    return plan(low)


def power_of(
    a: Spread, b: Spread, runs: int, against: int, effect: float, alpha: float, *, most: float = math.inf
) -> float:
    """Give the chance that a two-sided test at `alpha` finds a gain of `effect`: that of a noncentral t.

    0 where nothing is known of the noise (no degree of freedom). most: as `difference_noise`.
    Source: J. Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), section 2.
    """
    from scipy.stats import nct, t

    error, freedom = difference_noise(a, runs, b, against, most)
    if freedom <= 0:
        return 0.0
    if error == 0:
        return 1.0
    value = float(nct.sf(t.isf(alpha / 2, freedom), freedom, effect / error))
    return value if math.isfinite(value) else 1.0  # where the series of the noncentral t ends: far beyond 1


def difference_noise(
    a: Spread, runs: int, b: Spread, against: int, most: float = math.inf
) -> tuple[float, float]:
    """Give standard error and degrees of freedom of a difference of two means, unpaired, unequal noise.

    most: degrees of freedom that all groups have together. The two sides share what all groups show,
    which Welch's formula would count twice.
    Source: B. L. Welch, Biometrika 34 (1947) 28; F. E. Satterthwaite, Biometrics 2 (1946) 110.
    """
    first, second = a.deviation**2 / runs, b.deviation**2 / against
    if min(a.freedom, b.freedom) <= 0:
        return math.sqrt(first + second), 0.0
    if first + second == 0:
        return 0.0, min(most, a.freedom + b.freedom)
    share = first / (first + second)
    freedom = 1 / (share**2 / a.freedom + (1 - share) ** 2 / b.freedom)
    return math.sqrt(first + second), min(most, freedom)
