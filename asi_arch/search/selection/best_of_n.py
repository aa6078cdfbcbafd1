"""The control `best_of_n`: the seed is every proposal's parent."""

from collections.abc import Sequence

from asi_arch.search.selection.base import Choice, Member, draw_of, parents_of
from asi_arch.settings import Settings


def choose(members: Sequence[Member], settings: Settings, seed: int, id: int) -> Choice:
    """Give the seed as the parent of every proposal, and the baselines as its references.

    That is n independent changes of the seed, of which the best is taken.
    """
    others = [member.id for member in parents_of(members) if member.kind == "baseline" and member.id != seed]
    draw = draw_of(settings, id, "best_of_n")
    return seed, tuple(draw.sample(others, min(settings.num_references, len(others))))
