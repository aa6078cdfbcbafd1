"""Forms of a count that grows with compute, fitted by likelihood: linear, power and saturating."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

LEAST_SHAPE, MOST_SHAPE = 0.05, 5.0  # exponents that are looked at
LEAST_TURN, MOST_TURN = 0.02, 50.0  # of a saturating curve's constant, in units of all compute
GRID = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A mean count scale * shape(x, theta) of compute x in 0..1, where 1 is all that was spent.

    grid: values of theta that are tried, by rising value; () for a form without one.
    """

    name: str
    formula: str
    shape: Callable[[float, float], float]
    grid: tuple[float, ...] = ()

    @property
    def parameters(self) -> int:
        """Give how many numbers are fitted."""
        return 2 if self.grid else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A form with its most likely parameters.

    scale, theta: with compute in units of all that was spent; theta is 0 for a form without one.
    log_likelihood: of the counts under Poisson's distribution. aicc: 2k - 2 log L, with the
    correction for few bins. deviance: twice what the log likelihood falls short of a perfect fit.
    """

    form: str
    scale: float
    theta: float
    log_likelihood: float
    aicc: float
    deviance: float


def _geometric(low: float, high: float) -> tuple[float, ...]:
    return tuple(low * (high / low) ** (i / (GRID - 1)) for i in range(GRID))


def _saturating(x: float, turn: float) -> float:
    return -math.expm1(-x / turn) / -math.expm1(-1 / turn)


FORMS: Mapping[str, Form] = {
    "linear": Form(name="linear", formula="a x", shape=lambda x, _: x),
    "power": Form(
        name="power",
        formula="a x^b",
        shape=lambda x, b: x**b,
        grid=_geometric(LEAST_SHAPE, MOST_SHAPE),
    ),
    "saturating": Form(
        name="saturating",
        formula="a (1 - exp(-x / c))",
        shape=_saturating,
        grid=_geometric(LEAST_TURN, MOST_TURN),
    ),
}
"""Each shape is 1 at x = 1, so that the most likely scale is the number of discoveries.

As rates they are: constant; Duane's and Crow's power law (MIL-HDBK-189); Goel's and Okumoto's exponential
(IEEE Trans. Reliability 28 (1979) 206).
"""


def fit(form: Form, edges: Sequence[float], counts: Sequence[int]) -> Fit:
    """Give the most likely parameters of a form for counts of independent events in bins.

    Counts in disjoint bins are independent where cumulative counts are not, so that a likelihood,
    an AIC and an interval mean what they say.

    Args:
        form: one of FORMS.
        edges: 0, then the right edge of each bin, the last one 1.
        counts: events in each bin.
    """
    total = sum(counts)
    thetas, table = form.grid or (0.0,), _table(form.name, tuple(edges))
    heights = [sum(n * log for n, log in zip(counts, row, strict=True)) for row in table]
    best = thetas[heights.index(max(heights))]
    if form.grid:
        best = _refined(form, best, edges, counts)
    likelihood = _log_likelihood(total, _shares(form, best, edges), counts)
    perfect = math.fsum(n * math.log(n) - n - math.lgamma(n + 1) for n in counts if n)
    k, bins = form.parameters, len(counts)
    correction = 2 * k * (k + 1) / (bins - k - 1) if bins > k + 1 else math.inf
    return Fit(
        form=form.name,
        scale=float(total),
        theta=best if form.grid else 0.0,
        log_likelihood=likelihood,
        aicc=2 * k - 2 * likelihood + correction,
        deviance=2 * (perfect - likelihood),
    )


def expected(form: Form, scale: float, theta: float, edges: Sequence[float]) -> list[float]:
    """Give the mean count of each bin."""
    return [scale * share for share in _shares(form, theta, edges)]


def _shares(form: Form, theta: float, edges: Sequence[float]) -> list[float]:
    heights = [form.shape(x, theta) if x > 0 else 0.0 for x in edges]
    return [max(b - a, 1e-300) for a, b in pairwise(heights)]


@cache
def _table(form: str, edges: tuple[float, ...]) -> list[list[float]]:
    """Give the logarithm of each bin's share for every theta of the grid; it is the same for all counts."""
    known = FORMS[form]
    return [[math.log(share) for share in _shares(known, theta, edges)] for theta in known.grid or (0.0,)]


def _shape_likelihood(form: Form, theta: float, edges: Sequence[float], counts: Sequence[int]) -> float:
    """Give the part of the log likelihood that depends on theta, with the scale at its best."""
    shares = _shares(form, theta, edges)
    return math.fsum(n * math.log(share) for n, share in zip(counts, shares, strict=True) if n)


def _log_likelihood(scale: float, shares: Sequence[float], counts: Sequence[int]) -> float:
    terms = []
    for n, share in zip(counts, shares, strict=True):
        mean = scale * share
        terms.append((n * math.log(mean) if n else 0.0) - mean - math.lgamma(n + 1))
    return math.fsum(terms)


def _refined(form: Form, theta: float, edges: Sequence[float], counts: Sequence[int]) -> float:
    """Give a better theta between the neighbours on the grid, by golden-section search."""
    place = form.grid.index(theta)
    low, high = form.grid[max(0, place - 1)], form.grid[min(GRID - 1, place + 1)]
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(20):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if _shape_likelihood(form, a, edges, counts) >= _shape_likelihood(form, b, edges, counts):
            high = b
        else:
            low = a
    return (low + high) / 2
