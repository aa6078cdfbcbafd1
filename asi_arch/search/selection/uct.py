"""UCT: down the family tree, from the baselines to the experiment whose next child promises most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from asi_arch.search.selection.base import (
    Choice,
    Member,
    draw_of,
    draw_references,
    parents_of,
    percentiles,
    remembered,
)
from asi_arch.settings import Settings

EXPLORE = math.sqrt(2)  # c of UCB1, for values of 0..1
WIDEN = 0.5  # a node with n experiments below it may have n ** WIDEN children


@dataclass(slots=True)
class Node:
    """A place in the family tree.

    above: the node whose child it is; None at the root. childless: its children that failed, or have
    not ended. visits, total: experiments in its subtree, itself included, and the sum of their values.
    """

    member: Member | None
    above: "Node | None" = None
    children: list["Node"] = field(default_factory=list)
    childless: int = 0
    visits: int = 0
    total: float = 0.0


def choose(members: Sequence[Member], settings: Settings, seed: int, id: int) -> Choice:
    """Walk down the tree and give the node that may have a further child; see `base.Policy`.

    At a node with n experiments in its subtree, itself included, that has fewer than sqrt(n) children,
    the walk ends; else it goes on to the child that has the highest

        mean of its subtree + c sqrt(ln n / n_child),   c = sqrt(2)

    The values are percentiles of fitness; a failed experiment counts 0, and so does one that runs, which
    leads the other workers elsewhere.
    Source: L. Kocsis and C. Szepesvari, ECML 2006 (UCT); R. Coulom, CG 2006 (progressive widening).
    """
    draw = draw_of(settings, id, "uct")
    node = _tree(members)
    while node.children and (node.member is None or _is_full(node)):
        bounds = [_bound(child, node) for child in node.children]
        highest = max(bounds)
        node = draw.choice([c for c, bound in zip(node.children, bounds, strict=True) if bound == highest])
    parent = node.member.id if node.member else seed
    return parent, draw_references(members, parent, settings, draw)


def _is_full(node: Node) -> bool:
    return bool(len(node.children) + node.childless >= node.visits**WIDEN)


def _bound(child: Node, parent: Node) -> float:
    mean = child.total / child.visits
    return mean + EXPLORE * math.sqrt(math.log(parent.visits) / child.visits)


@remembered
def _tree(members: Sequence[Member]) -> Node:
    """Give the root: its children are the experiments without a parent that can have children."""
    values = percentiles(parents_of(members))
    root = Node(None)
    nodes: dict[int, Node] = {}
    for member in members:  # parents come before their children
        above = nodes.get(member.parents[0], root) if member.parents else root
        passed: Node | None = above
        if member.id in values:
            passed = nodes[member.id] = Node(member, above)
            above.children.append(passed)
        elif member.kind == "candidate" and above is not root:
            above.childless += 1
        else:
            continue
        worth = values.get(member.id, 0.0)
        while passed is not None:
            passed.visits += 1
            passed.total += worth
            passed = passed.above
    return root
