"""How many seeds a claim needs: from the noise as known now, never from the gain that was seen."""

from collections.abc import Sequence
from dataclasses import dataclass

from asi_arch.analyst.noise import Difference, Noise, difference

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
        spread = difference(noise, candidate, baseline, seeds)
        return Plan(seeds=seeds, power=power_of(spread, effect, alpha))

    low, high = FEWEST_SEEDS, max(most, FEWEST_SEEDS)
    while low < high:  # power rises with the seeds
        middle = (low + high) // 2
        low, high = (low, middle) if plan(middle).power >= POWER else (middle + 1, high)
    return plan(low)


def power_of(spread: Difference, effect: float, alpha: float) -> float:
    """Give the chance that a two-sided test at `alpha` finds a gain of `effect`.

    The gain that is measured is taken as spread about the effect as it is about 0 under no effect: a
    shifted Student's instead of a noncentral one, within 0.03 of it where the power is 0.6 or more and
    there are 4 degrees of freedom.
    Source: J. Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), section 2.
    """
    return spread.beyond(spread.margin(1 - alpha) - effect)
