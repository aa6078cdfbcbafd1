"""The landscape: how good a child is, given its parent, and how far a measurement is off.

Quality lives on a latent scale on which the published fitness s of 0..3 is

    s = TOP / (1 + exp(-u)),   u = x + noise

with x the quality that children inherit. On this scale steps are of one size everywhere; on the published
one they shrink near the top, because two of its three terms saturate.
"""

import math
import random
from dataclasses import dataclass

TOP = 2.8  # highest published fitness that can be had: two terms at 0.9975, the judge's at 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Landscape:
    """How quality is handed on and measured; the defaults are fitted (docs/search.md says how, and how well).

    A child of a parent of quality p has

        x = level + kept p + N(0, fresh),   with the chance broken less an exponential of mean `drop`

    and each of its runs shows u = x + N(0, noise). failed: chance that nothing comes of it at all.
    seed: quality of the seed. hidden: share of the noise's variance that belongs to the candidate and shows
    in all its runs, but is not handed on.
    """

    level: float = 0.476
    kept: float = 0.721
    fresh: float = 0.239
    noise: float = 0.417
    broken: float = 0.347
    drop: float = 0.9
    failed: float = 0.011
    seed: float = -0.314
    hidden: float = 0.0

    def child(self, parent: float, draw: random.Random, share: float = 1.0) -> float:
        """Give the inherited quality of a child.

        share: of a generation's way; a child of n shares of 1 / n has the same distribution as one child.
        """
        kept = float(self.kept**share)
        fixed = self.level / (1 - self.kept) if self.kept < 1 else 0.0
        level = fixed * (1 - kept) if self.kept < 1 else self.level * share
        fresh = self.fresh * (math.sqrt((1 - kept**2) / (1 - self.kept**2)) if self.kept < 1 else share**0.5)
        x = level + kept * parent + draw.gauss(0.0, fresh)
        is_broken = draw.random() < 1 - (1 - self.broken) ** share
        return x - draw.expovariate(1 / self.drop) if is_broken else x

    def own(self, draw: random.Random) -> float:
        """Give what a candidate has of its own, and does not hand on."""
        return draw.gauss(0.0, self.noise * math.sqrt(self.hidden)) if self.hidden else 0.0

    def error(self, draw: random.Random) -> float:
        """Give by how far one run is off."""
        return draw.gauss(0.0, self.noise * math.sqrt(1 - self.hidden))


TARGET = 2.77
"""Expected quality of the best published model, #1598, given its own score and those of its kin (sd 0.14).

Its score was 2.718, which is 3.50 on this scale. The highest score, 2.742 of #383, is expected to be 1.73.
"""


def published(u: float) -> float:
    """Give the fitness of 0..3 of a latent value."""
    return TOP / (1 + math.exp(-u))


def latent(score: float) -> float:
    """Give the latent value of a published fitness below TOP."""
    return math.log(score / (TOP - score))
