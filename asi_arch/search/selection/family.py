"""What a family tree says of each member's heritable quality: own runs, parent, children and kin."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from asi_arch.search.selection.base import Member, remembered, value

if TYPE_CHECKING:
    from numpy import float64, intp
    from numpy.typing import NDArray

    Array = NDArray[float64]
    Places = NDArray[intp]

ROUNDS = 6  # of expectation and maximisation
WEIGHT = 10.0  # of the prior of the variances, in members
PRIOR = 0.25  # of both variances, in squares of a normal score: half of the children's spread each
ROOT_VARIANCE = 4.0  # of members without a parent
BROKEN = 0.10  # share of results that say nothing of what is inherited
BROKEN_DENSITY = 0.125  # of these, even over normal scores of -4..4


@dataclass(frozen=True, slots=True)
class Family:
    """Beliefs, in normal scores of fitness. mean, variance: [N]. sound: [N], chance not to be broken."""

    mean: "Array"
    variance: "Array"
    sound: "Array"


@dataclass(slots=True)
class Model:
    """How quality is handed on: x_child = level + kept x_parent + N(0, fresh), y = x + N(0, noise / runs)."""

    level: float = 0.0
    kept: float = 1.0
    fresh: float = PRIOR
    noise: float = PRIOR


@remembered
def family(members: Sequence[Member]) -> Family:
    """Give what the tree says of members that have finished, in their order; parents come before children.

    The model is the linear Gaussian one of breeding: of a member's fitness (as a normal score of its
    rank), x is what its children get and the rest is noise of its runs, or of what cannot be
    inherited:

        x_child = level + kept x_parent + N(0, fresh),   y = x + N(0, noise / runs)

    On a tree the posterior of all x comes from one pass up and one down; the four numbers are
    fitted by expectation-maximisation, the variances under a weak prior. A result that the model
    finds wildly off counts as broken: its y says nothing.
    Selection does not bias it: parents were chosen by results that are in the data.
    Source: C. R. Henderson, Biometrics 31 (1975) (BLUP, here on a tree of one parent each);
    K. C. Chou, A. S. Willsky, A. Benveniste, IEEE TAC 39 (1994) (the two passes).
    """
    import numpy as np

    scores = _normal_scores(members)
    parent, levels = _levels(members)
    runs = np.array([float(max(1, m.runs)) for m in members])
    sound = np.ones(len(members))
    model = Model()
    for _ in range(ROUNDS):
        passes = _Passes(model, scores, runs * sound, parent, levels)
        sound = passes.soundness(runs)
        passes.refit()
    return Family(passes.mean, passes.variance, sound)


def _normal_scores(members: Sequence[Member]) -> "Array":
    """Give the normal quantiles of the ranks of fitness, equal fitness in the order of ids."""
    import numpy as np

    order = np.argsort([value(m) for m in members], kind="stable")
    scores = np.empty(len(members))
    normal = NormalDist()
    scores[order] = _quantiles(len(members), normal)
    return scores


def _quantiles(count: int, normal: NormalDist) -> list[float]:
    return [normal.inv_cdf((i + 0.5) / count) for i in range(count)]


def _levels(members: Sequence[Member]) -> tuple["Places", list["Places"]]:
    """Give each member's parent as a place, -1 for none, and the places at each depth from 1 on."""
    import numpy as np

    place = {m.id: i for i, m in enumerate(members)}
    parent = np.array([place.get(m.parents[0], -1) if m.parents else -1 for m in members])
    depth = np.zeros(len(members), dtype=int)
    for i, above in enumerate(parent):
        depth[i] = depth[above] + 1 if above >= 0 else 0
    return parent, [np.flatnonzero(depth == d) for d in range(1, int(depth.max(initial=0)) + 1)]


class _Passes:
    """One pass up and one down the tree, and what they say of the model."""

    def __init__(
        self, model: Model, scores: "Array", weights: "Array", parent: "Places", levels: list["Places"]
    ) -> None:
        """Infer. weights: [N], runs that count; precisions and shifts below are those of Gaussians over x."""
        import numpy as np

        self.model, self.scores, self.weights = model, scores, weights
        self.parent, self.levels = parent, levels
        a, k, v = model.level, model.kept, model.fresh
        precision = weights / model.noise
        shift = precision * scores
        up_precision, up_shift = np.zeros_like(scores), np.zeros_like(scores)
        for rows in reversed(levels):
            spread = 1 + v * precision[rows]
            up_precision[rows] = k * k * precision[rows] / spread
            up_shift[rows] = k * (shift[rows] - a * precision[rows]) / spread
            np.add.at(precision, parent[rows], up_precision[rows])
            np.add.at(shift, parent[rows], up_shift[rows])
        self.prior_mean = np.zeros_like(scores)
        self.prior_variance = np.full_like(scores, ROOT_VARIANCE)
        self.covariance = np.zeros_like(scores)  # of a member and its parent
        self.variance = 1 / (precision + 1 / ROOT_VARIANCE)
        self.mean = shift * self.variance
        for rows in levels:
            above = parent[rows]
            rest = 1 / np.maximum(1 / self.variance[above] - up_precision[rows], 1e-9)
            rest_mean = rest * (self.mean[above] / self.variance[above] - up_shift[rows])
            self.prior_mean[rows] = a + k * rest_mean
            self.prior_variance[rows] = v + k * k * rest
            self.variance[rows] = 1 / (precision[rows] + 1 / self.prior_variance[rows])
            self.mean[rows] = self.variance[rows] * (
                shift[rows] + self.prior_mean[rows] / self.prior_variance[rows]
            )
            self.covariance[rows] = self.variance[rows] * k * rest / self.prior_variance[rows]

    def soundness(self, runs: "Array") -> "Array":
        """Give the chance that each result is not broken, judged by what its parent lets expect."""
        import numpy as np

        variance = self.prior_variance + self.model.noise / runs
        density = np.exp(-((self.scores - self.prior_mean) ** 2) / (2 * variance)) / np.sqrt(
            2 * np.pi * variance
        )
        good = (1 - BROKEN) * density
        broken = np.where(self.scores < self.prior_mean, BROKEN * BROKEN_DENSITY, 0.0)
        chance: Array = good / np.maximum(good + broken, 1e-12)
        return np.where(self.parent < 0, 1.0, chance)

    def refit(self) -> None:
        """Set the model to what is most likely now, given what is believed of all members."""
        import numpy as np

        model, rows = self.model, np.flatnonzero(self.parent >= 0)
        if len(rows) < 2:
            return
        above, w = self.parent[rows], np.minimum(self.weights[rows], 1.0)
        total = float(w.sum()) + 1e-9
        child, up = self.mean[rows], self.mean[above]
        mean_child, mean_up = float(w @ child) / total, float(w @ up) / total
        both = float(w @ ((child - mean_child) * (up - mean_up) + self.covariance[rows]))
        square = float(w @ ((up - mean_up) ** 2 + self.variance[above]))
        model.kept = min(1.0, max(0.0, (both + WEIGHT * PRIOR) / (square + WEIGHT * PRIOR)))
        model.level = mean_child - model.kept * mean_up
        left = (child - model.level - model.kept * up) ** 2 + self.variance[rows]
        left += model.kept**2 * self.variance[above] - 2 * model.kept * self.covariance[rows]
        model.fresh = (float(w @ left) + WEIGHT * PRIOR) / (total + WEIGHT)
        off = self.weights * ((self.scores - self.mean) ** 2 + self.variance)
        model.noise = (float(off.sum()) + WEIGHT * PRIOR) / (
            float(np.minimum(self.weights, 1).sum()) + WEIGHT
        )
