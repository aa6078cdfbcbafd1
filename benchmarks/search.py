"""Compute that each policy of selection needs to reach the published best, on the simulated space.

Run `python benchmarks/search.py`. Compute is in full runs of the published search (2,000 steps at 20 M
parameters); the target is a true quality, not a lucky measurement. Intervals are 95 %, from a bootstrap
over the repeats. docs/search.md explains the columns.
"""

import argparse
import json
import os
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from asi_arch.search.budgets.policies import budget_of
from asi_arch.search.selection.policies import policy_of
from asi_arch.search.simulate import Plan, simulate
from asi_arch.settings import Settings
from asi_arch.spaces.simulated.curves import curve
from asi_arch.spaces.simulated.landscape import TARGET, Landscape, published

PAPER = Settings(cold_start=200, pool_batch=50, patience=0)
OURS = Settings(patience=0)
FITTED = Landscape()
EVEN = FITTED.level / (1 - FITTED.kept)
WORLDS = {
    "fitted": FITTED,
    "noise x 2": replace(FITTED, noise=2 * FITTED.noise),
    "no inheritance": replace(FITTED, kept=0.0, level=EVEN, fresh=FITTED.fresh / (1 - FITTED.kept**2) ** 0.5),
    "failures x 2": replace(FITTED, failed=2 * FITTED.failed, broken=min(0.9, 2 * FITTED.broken)),
    "half the noise is its own": replace(FITTED, hidden=0.5),
}
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Row:
    """A policy, under which settings, with which budget; everywhere: on all landscapes."""

    name: str
    selection: str
    settings: Settings
    budget: str = "full"
    everywhere: bool = True


ROWS = (
    Row("paper", "paper", PAPER),
    Row("paper, cold 4, batch 4", "paper", OURS),
    Row("uct", "uct", OURS),
    Row("map_elites", "map_elites", OURS),
    Row("thompson", "thompson", OURS),
    Row("random (control)", "random", OURS),
    Row("best_of_n (control)", "best_of_n", OURS),
    Row("paper + halving", "paper", PAPER, "halving", everywhere=False),
    Row("paper + racing", "paper", PAPER, "racing", everywhere=False),
    Row("thompson + halving", "thompson", OURS, "halving"),
    Row("thompson + racing", "thompson", OURS, "racing", everywhere=False),
)


def needed(row: Row, world: Landscape, most: int, parallel: int, number: int) -> tuple[float, float]:
    """Give the compute of one repeat until the target is found, and until it is the leader."""
    plan = Plan(
        policy=policy_of(row.selection),
        settings=row.settings,
        world=world,
        curve=curve,
        target=TARGET,
        at_most=most,
        parallel=parallel,
        budget=budget_of(row.budget),
    )
    outcome = simulate(plan, number)
    return outcome.found, outcome.named


def interval(values: Sequence[float], against: Sequence[float] | None = None) -> tuple[float, float, float]:
    """Give a median, or a ratio of medians, with its 95 % bootstrap interval."""
    draw = random.Random(0)

    def once(of: Sequence[float], over: Sequence[float] | None) -> float:
        high, low = median(of), median(over) if over else 1.0
        return float("inf") if low == float("inf") else high / low

    drawn = sorted(
        once(draw.choices(values, k=len(values)), draw.choices(against, k=len(against)) if against else None)
        for _ in range(BOOTSTRAPS)
    )
    return once(values, against), drawn[int(0.025 * BOOTSTRAPS)], drawn[int(0.975 * BOOTSTRAPS) - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100, help="studies of each policy on each landscape")
    parser.add_argument("--most", type=int, default=1800, help="full runs after which a study ends")
    parser.add_argument("--parallel", type=int, default=8, help="proposals before their results are known")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--quick", action="store_true", help="20 repeats on the fitted landscape only")
    parser.add_argument("--rows", default="", help="only rows whose name holds this")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args()
    repeats = 20 if given.quick else given.repeats
    worlds = {"fitted": FITTED} if given.quick else WORLDS
    rows = [row for row in ROWS if row.name == "paper" or given.rows in row.name]
    console, found = Console(), []
    console.print(f"target: true quality {TARGET:.3f}, published fitness {published(TARGET):.3f}")
    with ProcessPoolExecutor(given.workers) as pool:
        for name, world in worlds.items():
            table = Table("policy", "found: runs", "of paper's", "named: runs", "of paper's", "never found")
            table.title = f"{name}: {repeats} repeats"
            paper: list[tuple[float, float]] = []
            for row in rows if world == FITTED else [row for row in rows if row.everywhere]:
                ask = partial(needed, row, world, given.most, given.parallel)
                results = list(pool.map(ask, range(repeats), chunksize=4))
                paper = paper or results
                cells, figures = [row.name], {"landscape": name, "policy": row.name, "repeats": results}
                for i, what in enumerate(("found", "named")):
                    own, reference = [r[i] for r in results], [r[i] for r in paper]
                    figures[what], figures[f"{what} of paper"] = interval(own), interval(own, reference)
                    cells += [shown(figures[what], 0, given.most), shown(figures[f"{what} of paper"], 2, 99)]
                never = sum(r[0] == float("inf") for r in results)
                table.add_row(*cells, f"{never / repeats:.0%}")
                found.append(figures)
            console.print(table)
            if given.json:
                given.json.write_text(json.dumps(found, indent=1))


def shown(figures: tuple[float, float, float], digits: int, most: float) -> str:
    """Give a figure and its interval; what was not reached is more than the most."""
    middle, low, high = (f">{most}" if v == float("inf") else f"{v:.{digits}f}" for v in figures)
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
