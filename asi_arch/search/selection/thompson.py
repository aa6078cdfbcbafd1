"""Thompson sampling: parents in proportion to the chance that they have the most to hand on."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from asi_arch.search.selection.base import Choice, Member, draw_of, draw_references, parents_of, remembered
from asi_arch.search.selection.family import family
from asi_arch.settings import Settings

SOUND = 0.5  # chance of being broken from which on a member is no parent
SHARPER = 0.5  # times the beliefs' deviation: a study is too short to gain by all of their exploring
NONE = (0, 0)
PRIOR = (1.0, 0.1)  # children that came to something, and that did not, before any is known


def choose(members: Sequence[Member], settings: Settings, seed: int, id: int) -> Choice:
    """Draw what each member may hand on, and give the member of the highest draw; see `base.Policy`.

    The draws are from `family`'s beliefs, in which a member's single run counts little, its parent's and
    its children's results much; they deviate half as much as believed. Whether a child comes to
    something is drawn too, from how many of the member's children failed, Beta(1 + finished,
    0.1 + failed): where it does not, the next highest is asked. So a parent whose every change is known
    by now, or fails, is left.
    Source: W. R. Thompson, Biometrika 25 (1933), as in O. Chapelle and L. Li, NIPS 2011, alg. 1, with
    what they call posterior reshaping, alpha = 0.5.
    """
    draw = draw_of(settings, id, "thompson")
    known = parents_of(members)
    drawn = [float("-inf")] * len(known)
    for place, mean, deviation in _sound(known):
        drawn[place] = draw.gauss(mean, deviation)
    ended = _children(members)
    order = (known[place].id for place in _falling(drawn))
    bearing = (id for id in order if _bears(ended.get(id, NONE), draw))
    parent = next(bearing, known[drawn.index(max(drawn))].id)
    return parent, draw_references(members, parent, settings, draw)


@remembered
def _sound(known: Sequence[Member]) -> list[tuple[int, float, float]]:
    """Give place, mean and deviation of the draws of each member that is not thought broken."""
    beliefs = family(known)
    means, variances, sound = beliefs.mean.tolist(), beliefs.variance.tolist(), beliefs.sound.tolist()
    return [(i, means[i], SHARPER * variances[i] ** 0.5) for i in range(len(known)) if sound[i] >= SOUND]


def _falling(values: Sequence[float]) -> Iterator[int]:
    """Give the places of values from the highest down, equal ones in order; sorts after the first one."""
    yield values.index(max(values))
    yield from sorted(range(len(values)), key=values.__getitem__, reverse=True)[1:]


def _bears(children: tuple[int, int], draw: random.Random) -> bool:
    """Draw whether a child of a member comes to something, given how many finished and failed."""
    finished, failed = children
    return draw.random() < draw.betavariate(PRIOR[0] + finished, PRIOR[1] + failed)


@remembered
def _children(members: Sequence[Member]) -> Mapping[int, tuple[int, int]]:
    """Give by id how many children finished, and failed."""
    counts = Counter((m.parents[0], m.status) for m in members if m.parents)
    ids = {parent for parent, _ in counts}
    return {id: (counts[id, "finished"], counts[id, "failed"]) for id in ids}
