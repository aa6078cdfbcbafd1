"""The simulated landscape beside the published tree that it was fitted to.

    python benchmarks/landscape.py TREE.json [--studies 10] [--json]

TREE is the released tree: `{"results": [{"index", "parent", "score"}, ...]}`. Each figure is computed by one
function from parents and scores, of the published tree and of simulated studies under the paper's policy with
as many candidates; of these the mean and the range are shown. Scores are compared on the latent scale u.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, linear_regression, median, quantiles, stdev

from rich.console import Console
from rich.table import Table

from asi_arch.search.selection.policies import policy_of
from asi_arch.search.simulate import Plan, simulate
from asi_arch.settings import Settings
from asi_arch.spaces.simulated.curves import curve
from asi_arch.spaces.simulated.landscape import Landscape, latent, published

PAPER = Settings(cold_start=200, pool_batch=50, patience=0)
SEED_SCORE = 1.6395  # the one run of the seed that the published search compared with
TALL = 2.5  # fitness of a parent whose children are looked at by themselves


@dataclass(frozen=True)
class Node:
    """A candidate that was scored. index: place in the order of proposals, from 1, the seed; score: 0..3."""

    index: int
    parent: int | None
    score: float


def read_tree(path: Path) -> list[Node]:
    """Give the published nodes by index."""
    rows = json.loads(path.read_text())["results"]
    return sorted((Node(r["index"], r["parent"], r["score"]) for r in rows), key=lambda n: n.index)


def simulated(number: int, count: int) -> list[Node]:
    """Give the nodes of a simulated study under the paper's policy of as many indices as were published."""
    plan = Plan(
        policy=policy_of("paper"),
        settings=PAPER,
        world=Landscape(),
        curve=curve,
        target=float("inf"),
        at_most=count,
        parallel=50,
    )
    members = simulate(plan, number).members[:count]
    nodes = [Node(1, None, SEED_SCORE)]
    for m in members[1:]:
        if m.fitness is not None:
            nodes.append(Node(m.id, m.parents[0], published(m.fitness)))
    return nodes


def figures(nodes: Sequence[Node]) -> Mapping[str, float]:
    """Give the figures of a tree by what they say."""
    score = {node.index: node.score for node in nodes}
    pairs = [(score[n.parent], n.score) for n in nodes if n.parent in score]
    u = [(latent(a), latent(b)) for a, b in pairs]
    line = linear_regression([a for a, _ in u], [b for _, b in u])
    off = [b - line.intercept - line.slope * a for a, b in u]
    children = Counter(n.parent for n in nodes if n.parent in score)
    found = {
        "slope of a child's u on its parent's": line.slope,
        "deviation about that line": stdev(off),
        "... by its quartiles, over 1.349": (quantiles(off)[2] - quantiles(off)[0]) / 1.349,
        "deviation within a family, parents with 10 or more": _within(nodes, score),
        "slope of families' medians on their parent's u": _between(nodes, score),
        "children that beat their parent": fmean(child > parent for parent, child in pairs),
        f"... parent above {TALL}": fmean(child > parent for parent, child in pairs if parent > TALL),
        "indices without a score": 1 - len(nodes) / nodes[-1].index,
        "scores more than 1 below the line": fmean(value < -1 for value in off),
        "nodes that became parents": len(children) / len(nodes),
        "children of the ten most used parents": sum(c for _, c in children.most_common(10)) / len(pairs),
        "generations, at most": max(_depths(nodes).values()),
    }
    for first, last in ((1, 200), (201, 500), (501, 1000), (1001, nodes[-1].index)):
        part = [n.score for n in nodes if first <= n.index <= last]
        if part:
            found[f"median fitness, {first} to {last}"] = median(part)
    return found


def _families(nodes: Sequence[Node], score: Mapping[int, float]) -> Mapping[int, list[float]]:
    """Give the children's u by parent, of parents with ten children or more."""
    found = defaultdict(list)
    for node in nodes:
        if node.parent in score:
            found[node.parent].append(latent(node.score))
    return {parent: values for parent, values in found.items() if len(values) >= 10}


def _within(nodes: Sequence[Node], score: Mapping[int, float]) -> float:
    """Give the deviation of siblings by their quartiles, which the broken ones hardly move; a median."""
    parts = [quantiles(values) for values in _families(nodes, score).values()]
    return median((high - low) / 1.349 for low, _, high in parts)


def _between(nodes: Sequence[Node], score: Mapping[int, float]) -> float:
    """Give by how much families' medians rise with what their parent showed: what of a score is handed on."""
    families = _families(nodes, score)
    shown = [latent(score[parent]) for parent in families]
    return linear_regression(shown, [median(values) for values in families.values()]).slope


def _depths(nodes: Sequence[Node]) -> Mapping[int, int]:
    """Give each node's generations from the seed; parents come before their children."""
    found: dict[int, int] = {}
    for node in nodes:
        found[node.index] = found.get(node.parent, 0) + 1 if node.parent else 0
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="The simulated landscape beside the published tree.")
    parser.add_argument("tree", type=Path, help="the released tree, JSON")
    parser.add_argument("--studies", type=int, default=10, help="simulated studies")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    tree = read_tree(options.tree)
    truth = figures(tree)
    drawn = [figures(simulated(number, tree[-1].index)) for number in range(options.studies)]
    rows = {name: (value, [d[name] for d in drawn]) for name, value in truth.items()}
    if options.json:
        print(json.dumps(rows))
        return
    table = Table("figure", "published", "simulated, mean", "range", title=f"{len(tree)} published nodes")
    for name, (value, values) in rows.items():
        table.add_row(name, f"{value:.3f}", f"{fmean(values):.3f}", f"{min(values):.3f} to {max(values):.3f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
