"""Compute that each policy of selection and budget needs to reach the published best, on the simulated space.

Run `python benchmarks/search.py`. Compute is in full runs of the published search (2,000 steps at 20 M
parameters); the target is a true quality, not a lucky measurement. A study that has not reached it after
`--most` full runs is censored: medians stay exact while most studies reach it, and means are restricted:
such a study counts as `--most`, so a mean is never too high. Intervals are 95 %, from a bootstrap over
the repeats. docs/search.md explains the columns; benchmarks/landscape.py shows how the space was fitted.
"""

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from asi_arch.search.budgets.base import Budget
from asi_arch.search.budgets.halving import Halving
from asi_arch.search.budgets.policies import BUDGETS
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
KNOWN: dict[str, Budget] = {**BUDGETS, "halving once": Halving(rungs=1)}
STOPPING = ("halving", "racing")
BOOTSTRAPS = 4000
WANTED = 1 / 3  # of the compute of the paper's policy

Interval = tuple[float, float, float]
"""A figure, and the ends of its interval."""


@dataclass(frozen=True)
class Row:
    """A policy, under which settings, with which budget; everywhere: on all landscapes."""

    name: str
    selection: str
    settings: Settings
    budget: str = "full"
    everywhere: bool = False


ROWS = (
    Row("paper", "paper", PAPER, everywhere=True),
    Row("paper, as shipped", "paper", OURS, everywhere=True),
    Row("uct", "uct", OURS),
    Row("map_elites", "map_elites", OURS),
    Row("thompson", "thompson", OURS, everywhere=True),
    Row("random (control)", "random", OURS, everywhere=True),
    Row("best_of_n (control)", "best_of_n", OURS),
    *(Row(f"paper + {budget}", "paper", PAPER, budget) for budget in STOPPING),
    *(Row(f"uct + {budget}", "uct", OURS, budget) for budget in STOPPING),
    *(Row(f"thompson + {budget}", "thompson", OURS, budget) for budget in ("halving once", *STOPPING)),
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
        budget=KNOWN[row.budget],
    )
    outcome = simulate(plan, number)
    return outcome.found, outcome.named


def figures_of(own: Sequence[float], paper: Sequence[float], most: float) -> dict[str, Interval]:
    """Give median, restricted mean, both as shares of the paper's, and the share of studies that reached it.

    Args:
        own: compute of each repeat, infinite where the target was not reached.
        paper: the same under the paper's policy.
        most: compute after which a study ended.
    """
    draw = np.random.default_rng(0)

    def resampled(values: Sequence[float]) -> np.ndarray:
        """Give [1 + BOOTSTRAPS, repeats]: the values, then resamples."""
        given = np.asarray(values)
        return np.concatenate([given[None], draw.choice(given, (BOOTSTRAPS, len(given)))])

    ours, theirs = resampled(own), resampled(paper)
    high, low = np.median(ours, axis=1), np.median(theirs, axis=1)
    mean, paper_mean = np.minimum(ours, most).mean(axis=1), np.minimum(theirs, most).mean(axis=1)
    ratio = np.where(np.isinf(low), np.nan, high / np.where(np.isinf(low), 1.0, low))
    return {
        "median": _interval(high),
        "mean": _interval(mean),
        "median of paper's": _interval(ratio),
        "mean of paper's": _interval(mean / paper_mean),
        "reached": _interval(np.isfinite(ours).mean(axis=1)),
    }


def _interval(values: np.ndarray) -> Interval:
    """Give the first value with the middle 95 % of the others; order statistics, which may be infinite."""
    order = np.sort(values[1:])
    return float(values[0]), float(order[int(0.025 * len(order))]), float(order[int(0.975 * len(order)) - 1])


def verdict(ratio: Interval) -> str:
    """Say whether a ratio is at most a third: "yes" and "no" only where the whole interval says so."""
    _, low, high = ratio
    return "yes" if high <= WANTED else "no" if low > WANTED else "open"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100, help="studies of each policy on each landscape")
    parser.add_argument("--first", type=int, default=0, help="number of the first repeat, which seeds it")
    parser.add_argument("--most", type=int, default=1800, help="full runs after which a study ends")
    parser.add_argument("--parallel", type=int, default=8, help="proposals before their results are known")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--landscape", choices=WORLDS, action="append", help="which; else the fitted one")
    parser.add_argument("--rows", default="", help="only rows whose name holds this")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args()
    rows = [row for row in ROWS if row.name == "paper" or given.rows in row.name]
    console, found = Console(width=180), []
    console.print(f"target: true quality {TARGET:.3f}, published fitness {published(TARGET):.3f}")
    numbers = range(given.first, given.first + given.repeats)
    with ProcessPoolExecutor(given.workers) as pool:
        for name in given.landscape or ["fitted"]:
            table = _table(f"{name}: {given.repeats} repeats of at most {given.most} full runs")
            paper: list[tuple[float, float]] = []
            for row in rows if name == "fitted" else [row for row in rows if row.everywhere]:
                ask = partial(needed, row, WORLDS[name], given.most, given.parallel)
                results = list(pool.map(ask, numbers, chunksize=4))
                paper = paper or results
                own, theirs = list(zip(*results, strict=True)), list(zip(*paper, strict=True))
                kinds = [figures_of(own[i], theirs[i], given.most) for i in range(2)]
                table.add_row(row.name, *_cells(kinds[0], given.most), *_cells(kinds[1], given.most)[:-1])
                found.append({"landscape": name, "policy": row.name, "found": kinds[0], "named": kinds[1]})
                if given.json:
                    given.json.write_text(json.dumps(found, indent=1))
            console.print(table)


def _table(title: str) -> Table:
    table = Table("policy", title=title)
    for what in ("found", "named"):
        for column in ("median", "mean, restricted", "mean of paper's", "reached"):
            table.add_column(f"{what}: {column}", justify="right")
        if what == "found":
            table.add_column("a third at most?")
    return table


def _cells(figures: dict[str, Interval], most: float) -> list[str]:
    """Give the figures of a kind as cells; what was not reached is more than the most."""
    cells = [_shown(figures["median"], 0, most), _shown(figures["mean"], 0, most)]
    cells += [_shown(figures["mean of paper's"], 2, 99), f"{figures['reached'][0]:.0%}"]
    return [*cells, verdict(figures["mean of paper's"])]


def _shown(figures: Interval, digits: int, most: float) -> str:
    middle, low, high = (f">{most:.0f}" if v == float("inf") else f"{v:.{digits}f}" for v in figures)
    return f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
