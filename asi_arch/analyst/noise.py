"""How much runs of one source differ: each group's own noise, drawn towards what all groups show."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from asi_arch.analyst.statistics import deviation, mean

FLOOR = 1e-5  # of the median variance: a group whose runs agree by chance is not free of noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What all groups of runs say of the noise of one.

    groups: those with two runs or more. freedom: their degrees of freedom together.
    pooled: standard deviation of a run, as if all groups shared one.
    prior: standard deviation that a group without runs is expected to have.
    prior_freedom: how many degrees of freedom that expectation is worth: 0 is nothing, infinity is
        that all groups share one noise. Runs in the middle of a transition make it small.
    """

    groups: int
    freedom: int
    pooled: float
    prior: float
    prior_freedom: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The noise of one group's runs. deviation: of a run. freedom: degrees of freedom behind it."""

    deviation: float
    freedom: float


def fit_noise(groups: Iterable[Sequence[float]]) -> Noise:
    """Give what groups of runs, one for each source and stage, say of the noise of one.

    Variances are modelled as d0 s0^2 / chi^2(d0); d0 and s0 come from mean and variance of the
    logarithms of the groups' own variances. Noise that differs from group to group more than chance
    explains gives a small d0, so that each group then stands mostly for itself.
    Source: G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3 (2004) 3, section 6.2 (limma's fitFDist).

    Raises:
        ValueError: no group has two runs, or none that has them differ.
    """
    kept = [group for group in groups if len(group) >= 2]
    variances = [_square(deviation(group)) for group in kept]
    free = [len(group) - 1 for group in kept]
    positive = sorted(v for v in variances if v > 0)
    if not positive:
        raise ValueError("no two runs of one source differ, so there is no noise to judge a gain by")
    floor = FLOOR * positive[len(positive) // 2]
    variances = [max(v, floor) for v in variances]
    pooled = math.sqrt(math.fsum(v * d for v, d in zip(variances, free, strict=True)) / sum(free))
    scale, freedom = _prior(variances, free)
    prior = pooled if math.isinf(freedom) else math.sqrt(scale)
    return Noise(groups=len(kept), freedom=sum(free), pooled=pooled, prior=prior, prior_freedom=freedom)


def spread(noise: Noise, values: Sequence[float]) -> Spread:
    """Give the noise of a group from its own runs and from what all groups show.

    Its variance is (d0 s0^2 + d s^2) / (d0 + d), with d0 + d degrees of freedom, but never more than
    all groups have together. Source: Smyth 2004, eq. 2 and section 3.
    """
    return planned_spread(noise, values, max(0, len(values) - 1))


def planned_spread(noise: Noise, values: Sequence[float], freedom: int) -> Spread:
    """Give the noise of a group as `spread` will, once it has so many degrees of freedom of its own."""
    own = len(values) - 1
    total = noise.prior_freedom + max(freedom, 0)
    most = float(noise.freedom + max(0, freedom - max(own, 0)))
    if own < 1:
        return Spread(deviation=noise.prior, freedom=min(total, most))
    if math.isinf(noise.prior_freedom):
        return Spread(deviation=noise.prior, freedom=most)
    square = (noise.prior_freedom * noise.prior**2 + own * _square(deviation(values))) / (
        noise.prior_freedom + own
    )
    return Spread(deviation=math.sqrt(square), freedom=min(total, most))


def _square(value: float | None) -> float:
    assert value is not None
    return value * value


def _prior(variances: Sequence[float], free: Sequence[int]) -> tuple[float, float]:
    """Give s0^2 and d0 of the groups' variances and their degrees of freedom."""
    from scipy.special import digamma, polygamma

    if len(variances) == 1:
        return variances[0], 0.0
    logs = [
        math.log(v) - float(digamma(d / 2)) + math.log(d / 2) for v, d in zip(variances, free, strict=True)
    ]
    centre = mean(logs)
    beyond = math.fsum((x - centre) ** 2 for x in logs) / (len(logs) - 1)
    beyond -= mean(float(polygamma(1, d / 2)) for d in free)
    if beyond <= 0:
        return math.exp(centre), math.inf
    half = _inverse_trigamma(beyond)
    return math.exp(centre + float(digamma(half)) - math.log(half)), 2 * half


def _inverse_trigamma(value: float) -> float:
    """Give x > 0 with trigamma(x) = value > 0. Source: Smyth 2004, appendix (Newton on 1 / trigamma)."""
    from scipy.special import polygamma

    if value > 1e7:
        return 1 / math.sqrt(value)
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x
