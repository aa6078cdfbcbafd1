"""The discovery curve: how discoveries grow with compute, and whether a law can be told from the data."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from asi_arch.analyst.curve_fit import FORMS, Fit, Form, expected, fit
from asi_arch.analyst.statistics import mean
from asi_arch.records import Evidence, Experiment

AXES = ("experiments", "hours", "flops")
FEWEST = 5  # discoveries below which no form is fitted
TOLD_APART = 2.0  # of AICc: less is no difference. K. Burnham and D. Anderson (2002), section 2.6
RESAMPLES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Discoveries in bins of compute. edges: 0, then each bin's right edge, in `unit`. counts: by bin."""

    unit: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Give all discoveries."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A form as fitted, in the unit of compute of its curve.

    parameters: by the letters of the formula; c is a compute, a the count after one unit (linear and
    power) or at the end of time (saturating). intervals: of each at 95 %, from refits to
    counts drawn from the fit. weight: Akaike's, of the three. p: chance of a deviance this large, if the form
    is true, from the same draws.
    """

    form: str
    formula: str
    parameters: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    aicc: float
    weight: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """All forms, the best by AICc first, and what follows, in plain sentences."""

    curve: Curve
    forms: tuple[Fitted, ...]
    verdict: str


def curve_of(
    experiments: Sequence[Experiment],
    discovered: Iterable[int],
    axis: str,
    bins: int = 0,
    tokens: float = 1.0,
) -> Curve:
    """Give the discovery curve of a study.

    A discovery counts where its experiment ended, though its proof came later; all compute up to there
    counts, failed and stopped runs included, but not that of the proof.

    Args:
        experiments: all candidates that have ended, in the order of their end.
        discovered: ids of those that are discoveries.
        axis: `experiments`, `hours` (of processor time) or `flops` (of training, see `training_flops`).
        bins: 0 for one for every five discoveries, from 4 to 20.
        tokens: of a training step, for `flops`.

    Raises:
        ValueError: unknown axis, or no compute was spent.
    """
    if axis not in AXES:
        raise ValueError(f"unknown axis {axis!r}; known are {', '.join(AXES)}")
    found, spent, total = set(discovered), [], 0.0
    for experiment in experiments:
        total += _spent(experiment, axis, tokens)
        spent.append(total)
    if total <= 0:
        raise ValueError(f"no compute was spent on the axis {axis!r}")
    places = [x for x, e in zip(spent, experiments, strict=True) if e.id in found]
    return binned(places, total, axis, bins or min(20, max(4, len(places) // 5)))


def binned(places: Sequence[float], total: float, unit: str, bins: int) -> Curve:
    """Give a curve of discoveries at places in 0..total, in equal bins; a place on an edge is left of it."""
    counts = [0] * bins
    for place in places:
        counts[min(bins - 1, max(0, math.ceil(place / total * bins) - 1))] += 1
    return Curve(unit=unit, edges=tuple(total * i / bins for i in range(bins + 1)), counts=tuple(counts))


def find_law(curve: Curve, seed: int = 0, resamples: int = RESAMPLES, what: str = "discoveries") -> Law:
    """Fit linear, power and saturating growth to a curve, and say which the data favour.

    what: the word for what is counted. Counts are taken as Poisson's in disjoint bins, with a mean that
    follows the form. Intervals are
    percentiles of a parametric bootstrap (B. Efron and R. Tibshirani, An Introduction to the
    Bootstrap, section 6.5).
    """
    if curve.total < FEWEST or len(curve.counts) < 4:
        told = f"{curve.total} {what} in {len(curve.counts)} bins: too few to tell forms apart."
        return Law(curve=curve, forms=(), verdict=told)
    edges = [edge / curve.edges[-1] for edge in curve.edges]
    fits = {name: fit(form, edges, curve.counts) for name, form in FORMS.items()}
    least = min(f.aicc for f in fits.values())
    weights = {name: math.exp((least - f.aicc) / 2) for name, f in fits.items()}
    forms = [
        _fitted(FORMS[name], f, curve, edges, weights[name] / sum(weights.values()), seed, resamples)
        for name, f in fits.items()
    ]
    ranked = tuple(sorted(forms, key=lambda f: f.aicc))
    return Law(curve=curve, forms=ranked, verdict=_verdict(curve, ranked, what))


def training_flops(run: Evidence, tokens_per_step: float) -> float:
    """Give the FLOPs of a run's training, forward and backward: three times the forward pass's.

    Source: J. Kaplan et al., arXiv:2001.08361, section 2.1.
    """
    steps = run.curve[-1][0] if run.curve else 0
    return 3 * run.cost.flops_per_token * tokens_per_step * steps


def _spent(experiment: Experiment, axis: str, tokens: float) -> float:
    if axis == "experiments":
        return 1.0
    runs = [run for attempt in experiment.attempts for run in attempt.evidence] + list(experiment.evidence)
    if axis == "hours":
        return sum(run.cpu_seconds for run in runs) / 3600
    return sum(training_flops(run, tokens) for run in runs)


def _fitted(
    form: Form, found: Fit, curve: Curve, edges: Sequence[float], weight: float, seed: int, resamples: int
) -> Fitted:
    import numpy as np

    dice = np.random.default_rng([seed, len(form.name)])
    means = expected(form, found.scale, found.theta, edges)
    drawn = [fit(form, edges, [int(n) for n in dice.poisson(means)]) for _ in range(resamples)]
    own = _in_units(form, found, curve.edges[-1])
    others = [_in_units(form, f, curve.edges[-1]) for f in drawn]
    intervals = {
        letter: tuple(float(v) for v in np.quantile([o[letter] for o in others], (0.025, 0.975)))
        for letter in own
    }
    return Fitted(
        form=form.name,
        formula=form.formula,
        parameters=own,
        intervals={letter: (low, high) for letter, (low, high) in intervals.items()},
        aicc=found.aicc,
        weight=weight,
        p=mean(float(f.deviance >= found.deviance) for f in drawn),
    )


def _in_units(form: Form, found: Fit, total: float) -> dict[str, float]:
    """Give the parameters of a formula with compute in its own unit instead of shares of the total."""
    if form.name == "linear":
        return {"a": found.scale / total}
    if form.name == "power":
        return {"a": found.scale / total**found.theta, "b": found.theta}
    return {"a": found.scale / -math.expm1(-1 / found.theta), "c": found.theta * total}


def _verdict(curve: Curve, ranked: Sequence[Fitted], what: str) -> str:
    best, rest = ranked[0], ranked[1:]
    close = [f for f in rest if f.aicc - best.aicc < TOLD_APART]
    found, by_name = f"{curve.total} {what}", {f.form: f for f in ranked}
    if close:
        names = " and ".join(f.form for f in close)
        told = f"{found}: {best.form} growth fits best, but {names} growth cannot be told from it"
    else:
        gap = min(f.aicc for f in rest) - best.aicc
        told = f"{found}: {best.form} growth fits best (AICc better by {gap:.1f} than the next)"
    low, high = by_name["power"].intervals["b"]
    told += (
        f"; the exponent of a power law is {by_name['power'].parameters['b']:.2f} ({low:.2f} to {high:.2f})."
    )
    if best.p < 0.05:
        told += (
            f" No form describes them well: the counts differ from the best one's more than chance allows "
            f"(p = {best.p:.2g}), so none should be drawn beyond the data."
        )
    if low <= 1 <= high:
        return told + " A constant rate is not excluded: nothing here shows that they come faster or end."
    if high < 1:
        return told + " They come slower the more was spent."
    first, middle, last = _thirds(curve)
    trend = "and still do" if last > middle else "but only early on"
    return (
        f"{told} They came faster the more was spent, {trend}: {first:.0f}, {middle:.0f} and "
        f"{last:.0f} in the thirds of the compute."
    )


def _thirds(curve: Curve) -> list[float]:
    """Give the discoveries in each third of the compute; a bin on a border is shared by length."""
    total, found = curve.edges[-1], [0.0, 0.0, 0.0]
    for low, high, count in zip(curve.edges[:-1], curve.edges[1:], curve.counts, strict=True):
        for i in range(3):
            inside = min(high, total * (i + 1) / 3) - max(low, total * i / 3)
            found[i] += count * max(0.0, inside) / (high - low)
    return found
