"""MAP-Elites: the best of every behaviour, so that a kind of design is not lost because another leads."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from asi_arch.search.selection.base import Choice, Member, draw_of, draw_references, ranked, remembered
from asi_arch.settings import Settings

ELITES = 3  # kept in a cell: the single best of noisy runs is often the luckiest
ISLANDS = 8  # for experiments without a behaviour


def choose(members: Sequence[Member], settings: Settings, seed: int, id: int) -> Choice:
    """Draw a cell evenly, then a parent evenly from its elites; see `base.Policy`.

    A cell is a coarse behaviour: size of the state, cost, mechanism. What has none belongs to the
    island of its first ancestor after the baselines, of which there are 8.
    Source: arXiv:1504.04909, fig. 1 (a cell drawn evenly); there a cell keeps one elite.
    """
    draw = draw_of(settings, id, "map_elites")
    cells = _cells(members)
    parent = draw.choice(cells[draw.choice(sorted(cells))][:ELITES])
    return parent, draw_references(members, parent, settings, draw)


@remembered
def _cells(members: Sequence[Member]) -> Mapping[tuple[str, ...], list[int]]:
    """Give the ids in each cell, the best first."""
    cells = defaultdict(list)
    founders = _founders(members)
    for member in ranked(members):
        cells[member.cell or (f"island {founders[member.id] % ISLANDS}",)].append(member.id)
    return cells


def _founders(members: Sequence[Member]) -> Mapping[int, int]:
    """Give each member's first ancestor after the baselines, or itself; parents come before children."""
    kinds = {member.id: member.kind for member in members}
    found: dict[int, int] = {}
    for member in members:
        parent = member.parents[0] if member.parents else None
        follows = parent in found and kinds.get(parent) == "candidate"
        found[member.id] = found[parent] if follows and parent is not None else member.id
    return found
