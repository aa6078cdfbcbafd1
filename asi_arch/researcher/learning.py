"""Learn from past trials which moves pay: a Bayesian linear model, asked by Thompson sampling."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asi_arch.records import Trial

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Array = NDArray[float64]

PRECISION = 4.0  # of a move's effect before any trial: its sd is half the noise's
SHAPE, RATE = 2.0, 1.0  # of the noise's inverse gamma, in squares of the scale
FAILURE = -2.0  # the gain of a failed child, in scales


@dataclass(frozen=True, slots=True)
class Dice:
    """What chance says in one sample: the noise's variance, and a standard normal number for each effect."""

    variance: float
    normal: Sequence[float]


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What trials say of moves: the effects' posterior, in units of `scale`.

    With y the gain of a child over its parent (a failed child counts as -2 scales) and x a 1 for
    each move that made it, the model is

        y = b + x . w + e,   e ~ N(0, s^2),   w, b ~ N(0, s^2 / PRECISION),   s^2 ~ InvGamma(SHAPE, RATE)

    and with X the trials' rows (x, 1) the posterior is

        L = PRECISION I + X^T X,   m = L^-1 X^T y,   a = SHAPE + n / 2,
        r = RATE + (y^T y - m^T L m) / 2,   s^2 ~ InvGamma(a, r),   (w, b) ~ N(m, s^2 L^-1)

    A Thompson sample is one draw of w; the moves with the highest draws are made. A move that was
    never tried is drawn from its prior, so with few trials nearly all is exploration, and a move
    that failed or lost is still tried now and then.
    The scale is the root mean square of all gains, so that the model does not depend on the unit.
    What it leaves out: that moves pay or not depending on the parent and on each other.
    Source: arXiv:1209.3352, alg. 1 (Thompson sampling with a linear model), here with the noise
    unknown under its conjugate prior.
    """

    names: tuple[str, ...]
    scale: float
    mean: "Array"
    precision: "Array"
    shape: float
    rate: float

    def sample(self, rng: random.Random) -> dict[str, float]:
        """Draw an effect for each move, in units of the scale; all draws come from `rng`."""
        return self.effects(self.throw(rng))

    def throw(self, rng: random.Random) -> Dice:
        """Draw the dice of one sample: all that `sample` takes from `rng`."""
        return Dice(self.rate / rng.gammavariate(self.shape, 1.0), [rng.gauss(0.0, 1.0) for _ in self.mean])

    def effects(self, dice: Dice) -> dict[str, float]:
        """Give the sample that some dice make; other beliefs over the same moves may read them too."""
        import numpy as np

        factor = np.linalg.cholesky(self.precision)
        drawn = self.mean + dice.variance**0.5 * np.linalg.solve(factor.T, np.array(dice.normal))
        return {name: float(effect) for name, effect in zip(self.names, drawn, strict=False)}


def learn(names: Sequence[str], trials: Sequence[Trial]) -> Beliefs:
    """Give the posterior over the effects of named moves; moves of other names are ignored."""
    import numpy as np

    gains = [trial.gain for trial in trials if trial.gain is not None]
    scale = (sum(g * g for g in gains) / len(gains)) ** 0.5 if gains else 0.0
    scale = scale or 1.0
    place = {name: i for i, name in enumerate(names)}
    rows = np.zeros((len(trials), len(names) + 1))
    rows[:, -1] = 1.0
    for row, trial in zip(rows, trials, strict=True):
        row[[place[name] for name in trial.moves if name in place]] = 1.0
    y = np.array([FAILURE if t.gain is None else t.gain / scale for t in trials])
    precision = PRECISION * np.eye(len(names) + 1) + rows.T @ rows
    mean = np.linalg.solve(precision, rows.T @ y)
    rate = RATE + max(0.0, float(y @ y - mean @ precision @ mean)) / 2
    return Beliefs(tuple(names), scale, mean, precision, SHAPE + len(trials) / 2, rate)


def track_record(trials: Sequence[Trial]) -> Mapping[str, tuple[int, int, float]]:
    """Give, for each move, its trials, how many of them failed, and the mean gain of the others."""
    found: dict[str, list[float | None]] = {}
    for trial in trials:
        for name in trial.moves:
            found.setdefault(name, []).append(trial.gain)
    return {name: _summary(gains) for name, gains in found.items()}


def _summary(gains: Sequence[float | None]) -> tuple[int, int, float]:
    ended = [gain for gain in gains if gain is not None]
    return len(gains), len(gains) - len(ended), sum(ended) / len(ended) if ended else 0.0
