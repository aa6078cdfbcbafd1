"""The candidate pool: which experiments the next proposal starts from and looks at."""

import heapq
import random
from collections.abc import Sequence

from asi_arch.archive.base import Row
from asi_arch.settings import Settings


def candidate_pool(rows: Sequence[Row], settings: Settings) -> tuple[Row, ...]:
    """Give the best `pool_size` experiments by fitness, the best first, equal ones by id.

    The pool moves on only after every `pool_batch` results, so that many proposals are made from one
    ranking. Until `cold_start` candidates have finished it is the seed and the baselines, which stay
    in the ranking afterwards. References are never in it.
    Source: arXiv:2507.18074, Section 3 (50 best, updated every 50, after 200 from the seed alone).
    """
    ended = max((row.result for row in rows), default=0)
    updated = ended - ended % settings.pool_batch
    known = [row for row in rows if row.status == "finished" and row.result <= updated]
    candidates = [row for row in known if row.kind == "candidate"]
    if len(candidates) < settings.cold_start:
        candidates = []
    ranked = [row for row in known if row.kind == "baseline"] + candidates
    return tuple(heapq.nsmallest(settings.pool_size, ranked, key=lambda row: (-(row.fitness or 0.0), row.id)))


def choose(rows: Sequence[Row], settings: Settings, seed: int, id: int) -> tuple[int, tuple[int, ...]]:
    """Give the parent and the references of the proposal that an id is for.

    The parent is drawn evenly from ranks 1 to `parent_ranks` of the pool; while no candidate is in
    it, it is the seed. The references are drawn from the ranks after those; a pool too small for
    that fills them up with the best of the others.
    Source: arXiv:2507.18074, Section 3 (parent from ranks 1-10, references from 11-50).

    Args:
        rows: of the study's experiments; the seed has ended.
        settings: the study's; its seed and the id alone seed the draws.
        seed: id of the seed's experiment.
        id: of the proposal.
    """
    pool = candidate_pool(rows, settings)
    draw = random.Random(f"{settings.seed}/{id}/parent")
    cold = all(row.kind != "candidate" for row in pool)
    parent = seed if cold else draw.choice(pool[: settings.parent_ranks]).id
    next_ranks = [row.id for row in pool[settings.parent_ranks :] if row.id != parent]
    drawn = draw.sample(next_ranks, min(settings.num_references, len(next_ranks)))
    others = [row.id for row in pool[: settings.parent_ranks] if row.id != parent]
    return parent, tuple(drawn + others[: settings.num_references - len(drawn)])
