"""How much runs of one source differ: each group's own noise, drawn towards what all groups show."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from asi_arch.analyst.statistics import deviation

Array = Any  # numpy's [N], float64; numpy is imported where it is used
FLOOR = 1e-5  # of the median variance: a group whose runs agree by chance is not free of noise
FREEDOMS = tuple(2.0 ** (i / 2) for i in range(-2, 17))  # of d0: 0.5 to 256, evenly in its logarithm
SCALES = 33  # values of s0^2, evenly in its logarithm
BEYOND = 3.0  # times e that s0^2 may lie outside the groups' own variances
LEAST = 1e-4  # of the largest weight: smaller ones are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What all groups of runs say of the noise of one.

    groups: those with two runs or more. freedom: their degrees of freedom together.
    pooled: standard deviation of a run, as if all groups shared one.
    weights, scales, freedoms: what is believed of the groups' variances, as weights of pairs s0^2, d0
        that add up to 1. A small d0 says that noise differs from group to group, so that each stands
        mostly for itself; a large one that they share one.
    """

    groups: int
    freedom: int
    pooled: float
    weights: tuple[float, ...]
    scales: tuple[float, ...]
    freedoms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a difference of two means is spread about the truth: a mixture of Student's distributions.

    weights: add up to 1. errors: standard error of each part. freedoms: degrees of freedom of each.
    """

    weights: Array
    errors: Array
    freedoms: Array

    def beyond(self, value: float) -> float:
        """Give the chance to lie above the truth by more than a value."""
        from scipy.special import stdtr

        return float(self.weights @ stdtr(self.freedoms, -value / self.errors))

    def margin(self, level: float) -> float:
        """Give the half width of the interval that holds the truth with a chance of `level`."""
        from scipy.optimize import brentq

        wanted, high = (1 - level) / 2, float(self.errors.max())
        while self.beyond(high) > wanted:
            high *= 2
        return float(brentq(lambda value: self.beyond(value) - wanted, 0.0, high, xtol=1e-9 * high))

    @property
    def error(self) -> float:
        """Give one standard error for all parts."""
        return math.sqrt(float(self.weights @ self.errors**2))

    @property
    def freedom(self) -> float:
        """Give the parts' mean degrees of freedom."""
        return float(self.weights @ self.freedoms)


def fit_noise(groups: Iterable[Sequence[float]]) -> Noise:
    """Give what groups of runs, one for each source and stage, say of the noise of one.

    A group's true variance is modelled as s0^2 d0 / chi^2(d0), so that its measured variance s^2 of d
    degrees of freedom is s0^2 times a draw of F(d, d0). Where Smyth takes the best s0 and d0, here they
    keep their whole posterior, from a flat prior on their logarithms: with few groups the best d0 is
    often infinite although their noise differs, and then intervals are too short.
    Source: G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3 (2004) 3, section 3 (the model).

    Raises:
        ValueError: no group has two runs, or none that has them differ.
    """
    import numpy as np
    from scipy.special import gammaln

    kept = [group for group in groups if len(group) >= 2]
    measured = [_variance(group) for group in kept]
    positive = sorted(v for v in measured if v > 0)
    if not positive:
        raise ValueError("no two runs of one source differ, so there is no noise to judge a gain by")
    s = np.maximum(np.array(measured), FLOOR * positive[len(positive) // 2])
    d = np.array([len(group) - 1.0 for group in kept])
    span = np.linspace(np.log(s.min()) - BEYOND, np.log(s.max()) + BEYOND, SCALES)
    scale, freedom = (grid[..., None] for grid in np.meshgrid(np.exp(span), np.array(FREEDOMS)))
    f = s / scale
    density = (
        gammaln((d + freedom) / 2)
        - gammaln(d / 2)
        - gammaln(freedom / 2)
        + d / 2 * np.log(d * f / (d * f + freedom))
        + freedom / 2 * np.log(freedom / (d * f + freedom))
    )  # of log s^2, up to a constant
    log_weight = density.sum(-1)
    weight = np.exp(log_weight - log_weight.max())
    held = weight > LEAST
    return Noise(
        groups=len(kept),
        freedom=int(d.sum()),
        pooled=math.sqrt(float((s * d).sum() / d.sum())),
        weights=tuple((weight[held] / weight[held].sum()).tolist()),
        scales=tuple(scale[..., 0][held].tolist()),
        freedoms=tuple(freedom[..., 0][held].tolist()),
    )


def difference(noise: Noise, own: Sequence[float], other: Sequence[float], seeds: int = 0) -> Difference:
    """Give how the difference of two means of runs is spread, unpaired and with unequal noise.

    For each s0^2 and d0, a side's variance is (d0 s0^2 + d s^2) / (d0 + d) with d0 + d degrees of freedom.
    The difference has those of the side with fewer: close to Behrens's and Fisher's distribution, which
    is what follows for two unknown variances, where Welch's freedom gave intervals that were too short.
    Source: Smyth 2004, section 3; P. L. Hsu, Statistical Research Memoirs 2 (1938) 1.

    Args:
        noise: of all groups, these two included.
        own: values of one side.
        other: of the other side.
        seeds: 0, or how many runs each side is going to have, with the variances as known now.
    """
    import numpy as np

    sides = [_side(noise, values, seeds) for values in (own, other)]
    (square, free), (other_square, other_free) = sides
    weights = np.array(noise.weights)
    return Difference(weights, np.sqrt(square + other_square), np.minimum(free, other_free))


def about_mean(noise: Noise, own: Sequence[float]) -> Difference:
    """Give how the mean of one side's values is spread about the truth, as `difference` takes each side."""
    import numpy as np

    square, free = _side(noise, own, 0)
    return Difference(np.array(noise.weights), np.sqrt(square), free)


def _side(noise: Noise, values: Sequence[float], seeds: int) -> tuple[Array, Array]:
    """Give the variance of one side's mean, and its degrees of freedom, for each s0^2 and d0."""
    import numpy as np

    scale, freedom = np.array(noise.scales), np.array(noise.freedoms)
    known, runs = max(0, len(values) - 1), max(seeds or len(values), 1)
    measured = _variance(values) if known else 0.0
    square = (freedom * scale + known * measured) / (freedom + known) / runs
    return square, freedom + max(runs - 1, known)


def _variance(values: Sequence[float]) -> float:
    found = deviation(values)
    assert found is not None
    return found * found
