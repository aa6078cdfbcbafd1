"""The paper's policy: a pool of the best, parents from its first ranks, references from the next."""

from collections.abc import Sequence

from asi_arch.search.selection.base import Choice, Member, draw_of, parents_of, ranked, remembered
from asi_arch.settings import Settings


@remembered
def candidate_pool(members: Sequence[Member], settings: Settings) -> tuple[Member, ...]:
    """Give the best `pool_size` experiments by fitness, the best first, equal ones by id.

    The pool moves on only after every `pool_batch` results, so that many proposals are made from one
    ranking. Until `cold_start` candidates have finished it is the seed and the baselines, which stay
    in the ranking afterwards. References are never in it.
    Source: arXiv:2507.18074, Section 3 (50 best, updated every 50, after 200 from the seed alone).
    """
    ended = max((member.result for member in members), default=0)
    updated = ended - ended % settings.pool_batch
    known = [member for member in parents_of(members) if member.result <= updated]
    baselines = [member for member in known if member.kind == "baseline"]
    is_cold = len(known) - len(baselines) < settings.cold_start
    return tuple(ranked(baselines if is_cold else known)[: settings.pool_size])


def choose(members: Sequence[Member], settings: Settings, seed: int, id: int) -> Choice:
    """Give the parent and the references of the proposal that an id is for; see `base.Policy`.

    The parent is drawn evenly from ranks 1 to `parent_ranks` of the pool; while no candidate is in
    it, it is the seed. The references are drawn from the ranks after those; a pool too small for
    that fills them up with the best of the others.
    Source: arXiv:2507.18074, Section 3 (parent from ranks 1-10, references from 11-50).
    """
    pool = candidate_pool(members, settings)
    draw = draw_of(settings, id, "parent")
    cold = all(member.kind != "candidate" for member in pool)
    parent = seed if cold else draw.choice(pool[: settings.parent_ranks]).id
    next_ranks = [member.id for member in pool[settings.parent_ranks :] if member.id != parent]
    drawn = draw.sample(next_ranks, min(settings.num_references, len(next_ranks)))
    others = [member.id for member in pool[: settings.parent_ranks] if member.id != parent]
    return parent, tuple(drawn + others[: settings.num_references - len(drawn)])
