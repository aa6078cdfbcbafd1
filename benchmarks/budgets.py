"""Budgets replayed on finished learning curves: compute saved, good runs lost, beside Optuna's pruners.

    python benchmarks/budgets.py CURVES [CURVES...] [--json]

CURVES is the folder of a study, or a CSV with a line a run: `index,name,parameters,step_1,step_100,...`,
losses at equal steps to the end; of that, runs with a loss that is no number are left out, and so is the
first step. Several studies of one space, stage and seed are taken together. Runs arrive in random orders;
each is cut where a policy stops it, and policies see of it only what came before. A CSV has no curve of its
seed, so differences to it are differences to 0, which changes no ranking.

Fixed constants are replayed on all runs; intervals are 95 %, from a bootstrap over the runs, each resample in
several orders. Constants that were chosen are never shown on the runs that chose them: runs are split into
halves many times, the constants chosen on one half (of a grid, what saves most while at most 5 % of the best
five are lost; or while at most 5 % of the orders lose any) and replayed on the other; the intervals of these
rows are the middle 95 % of the splits. Last, budgets are replayed on sets of as many curves drawn from what
`spaces/simulated/curves.py` fitted to the published ones; intervals are the middle 95 % of the sets' figures.
"""

import argparse
import contextlib
import csv
import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from replay import Array, MedianStopping, replay_many
from rich.console import Console
from rich.table import Table

from asi_arch.analyst.statistics import runs_at
from asi_arch.records import StopRule
from asi_arch.search.budgets.base import AVERAGE, Budget, Facts, averaged, judge
from asi_arch.search.budgets.full import Full
from asi_arch.search.budgets.halving import Halving
from asi_arch.search.budgets.racing import Racing
from asi_arch.spaces.simulated import curves as fitted
from asi_arch.study import Study

Curve = tuple[tuple[int, float], ...]

BEST = 5
WARM_UP = 0.5  # of the steps, in the published runs
CHANCE = 0.05  # of losing a good run that is accepted
ORDERS = 20  # of each resample of the runs
SHOWN = (2.05, 0.64)  # mean and deviation of the latent fitness of the published models that have a curve


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Finished runs. goodness: by what makes a run good, each run's value, lower is better."""

    curves: Sequence[Curve]
    seed: Curve
    warm_up: int
    goodness: Mapping[str, Sequence[float]]

    def part(self, places: Sequence[int]) -> "Sample":
        """Give the runs at some places."""
        goodness = {name: [values[i] for i in places] for name, values in self.goodness.items()}
        return replace(self, curves=[self.curves[i] for i in places], goodness=goodness)


Score = Mapping[str, tuple[float, float, float]]
"""What a budget did, as shares with their intervals, by the names of `shares`."""

Stopper = Callable[[Sample], Iterator[int]]
"""Takes runs in the order of arrival; yields for each the number of points that it got."""


def read_csv(path: Path) -> Sample:
    """Give the complete runs of a file, without their first point.

    Good is a low loss at the last step; or over the last five points, which is less a matter of luck.
    """
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    steps = [int(name.removeprefix("step_")) for name in header[4:]]
    curves = []
    for row in rows:
        with contextlib.suppress(ValueError):
            losses = [float(cell) for cell in row[4:]]
            if all(map(math.isfinite, losses)):
                curves.append(tuple(zip(steps, losses, strict=True)))
    return Sample(
        curves=curves,
        seed=tuple((step, 0.0) for step in steps),
        warm_up=round(WARM_UP * steps[-1]),
        goodness={
            "last loss": [curve[-1][1] for curve in curves],
            "mean of 5": [averaged(curve, 5) for curve in curves],
        },
    )


def read_studies(folders: Sequence[Path]) -> Sample:
    """Give the candidates of studies that were trained to the end; good is a high fitness, or a low loss."""
    curves, fitness, seed, warm_up = [], [], (), 0
    for folder in folders:
        study = Study.open(folder)
        facts = study.bench.facts(study.settings.seed)
        seed, warm_up = tuple(facts.seed), facts.warm_up
        for e in study.archive.experiments("candidate", "finished"):
            runs = runs_at(e, study.settings.stage)
            if e.fitness is not None and runs and runs[0].curve[-1][0] == facts.steps:
                curves.append(runs[0].curve)
                fitness.append(-e.fitness.value)
        study.close()
    goodness = {"fitness": fitness, "mean of 5": [averaged(curve, 5) for curve in curves]}
    return Sample(curves=curves, seed=seed, warm_up=warm_up, goodness=goodness)


def ours(budget: Budget) -> Stopper:
    """Give a budget as a stopper, asked anew before each run: the slow twin of `replay_many`."""

    def stop(arriving: Sample) -> Iterator[int]:
        seen: list[Curve] = []
        for curve in arriving.curves:
            facts = Facts(
                steps=curve[-1][0],
                warm_up=arriving.warm_up,
                seed=arriving.seed,
                curves=seen,
                planned=len(arriving.curves),
            )
            points = stopped_at(curve, budget.rule(facts))
            seen.append(curve[:points])
            yield points

    return stop


def stopped_at(curve: Curve, rule: StopRule | None) -> int:
    """Give how many points of a curve a rule lets it have."""
    if rule is None:
        return len(curve)
    ends = range(1, len(curve))
    return next((end for end in ends if not judge(curve[:end], rule).go_on), len(curve))


def peer(make: Callable[[int], object]) -> Stopper:
    """Give a pruner of Optuna's as a stopper, in a study of its own, in memory."""

    def stop(arriving: Sample) -> Iterator[int]:
        import optuna

        study = optuna.create_study(direction="minimize", pruner=make(arriving.warm_up))
        for curve in arriving.curves:
            trial, points = study.ask(), len(curve)
            for end, (step, loss) in enumerate(curve, 1):
                trial.report(loss, step)
                if end < len(curve) and trial.should_prune():
                    points = end
                    break
            state = optuna.trial.TrialState
            if points == len(curve):
                study.tell(trial, curve[-1][1])
            else:
                study.tell(trial, state=state.PRUNED)
            yield points

    return stop


def peers() -> dict[str, Stopper]:
    """Give Optuna's pruners by title; none when it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    median, halving = optuna.pruners.MedianPruner, optuna.pruners.SuccessiveHalvingPruner
    return {
        "Optuna MedianPruner, as it comes": peer(lambda _: median()),
        "Optuna MedianPruner, after warm-up": peer(lambda steps: median(n_warmup_steps=steps)),
        "Optuna SuccessiveHalvingPruner, as it comes": peer(lambda _: halving()),
        "Optuna SuccessiveHalvingPruner,\nfrom warm-up on, factor 2": peer(
            lambda steps: halving(min_resource=steps, reduction_factor=2)
        ),
    }


def facts_of(sample: Sample) -> Facts:
    """Give what a budget would know had all runs of a sample ended; as many are planned as there are."""
    steps = sample.curves[0][-1][0]
    return Facts(
        steps=steps,
        warm_up=sample.warm_up,
        seed=sample.seed,
        curves=sample.curves,
        planned=len(sample.curves),
    )


def tallied(sample: Sample, orders: Array, got: Array) -> dict[str, Array]:
    """Give [O], for each order, what was saved, and by each meaning of good the share of the best lost.

    Args:
        sample: the runs.
        orders: [O, R], places of runs in the order of arrival; one run may arrive more than once.
        got: [O, R], points that each arrival got.
    """
    steps = np.array([step for step, _ in sample.curves[0]])
    found = {"saved": 1 - steps[got - 1].mean(axis=1) / steps[-1]}
    for name, values in sample.goodness.items():
        best = np.argsort(np.asarray(values)[orders], axis=1, kind="stable")[:, :BEST]
        found[f"lost, {name}"] = np.take_along_axis(got < len(steps), best, axis=1).mean(axis=1)
    return found


def shares(tally: Mapping[str, Array]) -> dict[str, float]:
    """Give the means over orders; of what was lost also the share of orders that lost any."""
    found = {name: float(values.mean()) for name, values in tally.items()}
    lost = [name for name in tally if name != "saved"]
    return found | {name.replace("lost", "orders"): float((tally[name] > 0).mean()) for name in lost}


def random_orders(runs: int, count: int, draw: np.random.Generator) -> Array:
    """Give [O, R], orders of all runs."""
    return np.array([draw.permutation(runs) for _ in range(count)])


def score(budget: object, sample: Sample, orders: int, resamples: int) -> Score:
    """Give what a budget of ours does to all runs of a sample, with a bootstrap over the runs."""
    draw, runs = np.random.default_rng(2), len(sample.curves)
    whole = random_orders(runs, orders, draw)
    figures = shares(tallied(sample, whole, replay_many(budget, facts_of(sample), whole)))
    drawn = [draw.integers(0, runs, runs) for _ in range(resamples)]
    again = np.array([draw.permutation(places) for places in drawn for _ in range(ORDERS)])
    tally = tallied(sample, again, replay_many(budget, facts_of(sample), again))
    parts = [{k: v[i : i + ORDERS] for k, v in tally.items()} for i in range(0, len(again), ORDERS)]
    return with_spread(figures, [shares(part) for part in parts])


def score_peer(stopper: Stopper, sample: Sample, orders: int, resamples: int) -> Score:
    """Give what a pruner does; it is asked run by run, so with fewer orders, and two for each resample."""
    draw, runs = np.random.default_rng(2), len(sample.curves)

    def replayed(asked: Array) -> dict[str, Array]:
        return tallied(sample, asked, np.array([list(stopper(sample.part(list(o)))) for o in asked]))

    figures = shares(replayed(random_orders(runs, orders, draw)))
    drawn = [draw.integers(0, runs, runs) for _ in range(resamples)]
    parts = [shares(replayed(np.array([draw.permutation(places) for _ in range(2)]))) for places in drawn]
    return with_spread(figures, parts)


def with_spread(figures: Mapping[str, float], parts: Sequence[Mapping[str, float]]) -> Score:
    """Give figures with the middle 95 % of what other samples gave."""
    low, high = (
        {name: float(np.quantile([part[name] for part in parts], q)) for name in figures}
        for q in (0.025, 0.975)
    )
    return {name: (value, low[name], high[name]) for name, value in figures.items()}


def grid() -> dict[str, list[Budget]]:
    """Give the constants that are tried, by budget."""
    halvings = itertools.product((0.2, 0.25, 0.33, 0.4, 0.5, 0.6), (1, 2, 4, 8), (4, 8))
    racings = itertools.product((0.05, 0.08, 0.1, 0.12, 0.16, 0.2, 0.3), (0.15, 0.2, 0.25, 0.35, 0.5))
    return {
        "halving": [Halving(keep=k, rungs=r, fewest=f) for k, r, f in halvings],
        "racing": [Racing(limit=limit, earliest=e) for limit, e in racings],
    }


def choose(scored: Sequence[tuple[Mapping[str, float], Budget]], loss: str) -> Budget:
    """Give the budget that saves most while its loss is accepted; the safest if none is."""
    accepted = [(figures, b) for figures, b in scored if figures[loss] <= CHANCE]
    if accepted:
        return max(accepted, key=lambda pair: pair[0]["saved"])[1]
    return min(scored, key=lambda pair: pair[0][loss])[1]


def held_out(
    name: str, losses: Sequence[str], sample: Sample, splits: int, orders: int
) -> dict[str, tuple[Score, str]]:
    """Give what constants do that were chosen on the other half, over random splits; and which were chosen.

    Args:
        name: of the budget.
        losses: figures, one of which may be 5 % at most where constants are chosen; a result for each.
        sample: all runs.
        splits: into halves.
        orders: of arrival, of each half.
    """
    draw, count = np.random.default_rng(3), len(sample.curves)
    found: dict[str, list[dict[str, float]]] = {loss: [] for loss in losses}
    chosen = {loss: Counter[str]() for loss in losses}

    def tried(half: Sample, budgets: Sequence[Budget]) -> list[dict[str, float]]:
        asked = random_orders(len(half.curves), orders, draw)
        facts = facts_of(half)
        return [shares(tallied(half, asked, replay_many(b, facts, asked))) for b in budgets]

    for _ in range(splits):
        places = draw.permutation(count)
        first, second = (sample.part(list(part)) for part in np.array_split(places, 2))
        scored = list(zip(tried(first, grid()[name]), grid()[name], strict=True))
        for loss in losses:
            budget = choose(scored, loss)
            constants = repr(budget).replace(f", average={AVERAGE}", "").partition("(")[2].rstrip(")")
            chosen[loss][constants] += 1
            found[loss] += tried(second, [budget])
    results = {}
    for loss, parts in found.items():
        means = {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
        words, times = chosen[loss].most_common(1)[0]
        results[loss] = (with_spread(means, parts), f"{words} in {times} of {splits}")
    return results


def drawn(runs: int, number: int) -> Sample:
    """Give runs whose curves are drawn from the factors that were fitted to the published ones."""
    draw = random.Random(f"drawn/{number}")
    curves = [fitted.curve(draw.gauss(*SHOWN), draw) for _ in range(runs)]
    return Sample(
        curves=curves,
        seed=tuple((step, 0.0) for step, _ in curves[0]),
        warm_up=round(WARM_UP * curves[0][-1][0]),
        goodness={
            "last loss": [points[-1][1] for points in curves],
            "mean of 5": [averaged(points, 5) for points in curves],
        },
    )


def score_drawn(budget: object, runs: int, sets: int) -> Score:
    """Give what a budget does to sets of drawn runs."""
    draw, found = np.random.default_rng(4), []
    for number in range(sets):
        sample = drawn(runs, number)
        asked = random_orders(runs, ORDERS, draw)
        found.append(shares(tallied(sample, asked, replay_many(budget, facts_of(sample), asked))))
    return with_spread({key: float(np.mean([part[key] for part in found])) for key in found[0]}, found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compute saved by stopping early, and good runs lost.")
    parser.add_argument(
        "curves", type=Path, nargs="+", help="folders of studies, or a CSV of learning curves"
    )
    parser.add_argument("--orders", type=int, default=1000, help="random orders of arrival")
    parser.add_argument("--resamples", type=int, default=200, help="of the runs, for intervals")
    parser.add_argument("--splits", type=int, default=40, help="halves on which constants are chosen")
    parser.add_argument(
        "--peer-orders", type=int, default=40, help="orders and resamples of Optuna's pruners"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    is_csv = options.curves[0].is_file()
    sample = read_csv(options.curves[0]) if is_csv else read_studies(options.curves)
    fixed = {
        "full": Full(),
        "halving": Halving(),
        "racing": Racing(),
        "racing, limit 0.12, from 15 % on": Racing(limit=0.12, earliest=0.15),
        "median stopping": MedianStopping(),
    }
    rows = [(title, score(b, sample, options.orders, options.resamples)) for title, b in fixed.items()]
    for title, stopper in peers().items():
        rows.append((title, score_peer(stopper, sample, options.peer_orders, options.peer_orders)))
    last = list(sample.goodness)[-1]
    for name in grid():
        losses = (f"lost, {last}", f"orders, {last}")
        for what, (figures, words) in held_out(
            name, losses, sample, options.splits, options.orders // 10
        ).items():
            rows.append((f"{name}, chosen for {what} <= 5 %,\non the other half: {words}", figures))
    if is_csv:
        for title, budget in list(fixed.items())[1:]:
            figures = score_drawn(budget, len(sample.curves), options.resamples)
            rows.append((f"{title},\non drawn curves", figures))
    if options.json:
        print(json.dumps([{"budget": title, **figures} for title, figures in rows]))
        return
    _print(rows, len(sample.curves))


def _print(rows: Sequence[tuple[str, Score]], runs: int) -> None:
    table = Table(title=f"{runs} runs; lost: of the best {BEST}, stopped; orders: that lost any of these")
    table.add_column("budget", max_width=60)
    for column in rows[0][1]:
        table.add_column(column, justify="right")
    for title, figures in rows:
        cells = (f"{100 * v:.1f} ({100 * a:.0f} to {100 * b:.0f}) %" for v, a, b in figures.values())
        table.add_row(title, *cells)
    Console(width=190).print(table)
    if not any(title.startswith("Optuna") for title, _ in rows):
        print("Optuna is not installed here, so its pruners are missing: pip install optuna")


if __name__ == "__main__":
    main()
