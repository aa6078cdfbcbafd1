"""Thompson sampling: parents in proportion to the chance that they have the most to hand on."""

from collections.abc import Sequence

from asi_arch.search.selection.base import Choice, Member, draw_of, draw_references, parents_of
from asi_arch.search.selection.family import family
from asi_arch.settings import Settings

SOUND = 0.5  # chance of being broken from which on a member is no parent


def choose(members: Sequence[Member], settings: Settings, seed: int, id: int) -> Choice:
    """Draw what each member may hand on, and give the member of the highest draw; see `base.Policy`.

    The draws are from `family`'s beliefs, in which a member's single run counts little, its parent's and
    its children's results much.
    Source: W. R. Thompson, Biometrika 25 (1933), as in O. Chapelle and L. Li, NIPS 2011, alg. 1.
    """
    draw = draw_of(settings, id, "thompson")
    known = parents_of(members)
    beliefs = family(known)
    drawn = [
        draw.gauss(mean, variance**0.5) if sound >= SOUND else float("-inf")
        for mean, variance, sound in zip(beliefs.mean, beliefs.variance, beliefs.sound, strict=True)
    ]
    parent = known[drawn.index(max(drawn))].id
    return parent, draw_references(members, parent, settings, draw)
