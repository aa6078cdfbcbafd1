"""The control `random`: a parent drawn evenly from all."""

from collections.abc import Sequence

from asi_arch.search.selection.base import Choice, Member, draw_of, parents_of
from asi_arch.settings import Settings


def choose(members: Sequence[Member], settings: Settings, seed: int, id: int) -> Choice:
    """Draw parent and references evenly from all that have finished, whatever their fitness.

    What a search gains that knows nothing of its results.
    """
    draw = draw_of(settings, id, "random")
    known = [member.id for member in parents_of(members)]
    parent = draw.choice(known)
    others = [id for id in known if id != parent]
    return parent, tuple(draw.sample(others, min(settings.num_references, len(others))))
