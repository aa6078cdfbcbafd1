"""Budgets replayed on finished learning curves: compute saved, good runs lost, beside Optuna's pruners.

    python benchmarks/budgets.py CURVES [CURVES...] [--orders 500] [--json]

CURVES is the folder of a study, or a CSV with a line a run: `index,name,parameters,step_1,step_100,...`,
losses at equal steps to the end; of that, runs with a loss that is no number are left out, and so is the
first step. Several studies of one space, stage and seed are taken together. Runs arrive in random orders;
each is cut where a policy stops it, and policies see of it only what came before. A CSV has no curve of its
seed, so differences to it are differences to 0, which changes no ranking.

The constants of our budgets are chosen on a random half of the curves: of a small grid, what saves most
while at most 5 % of the orders lose any of the five best; and, less strictly, while at most 5 % of the
five best are lost; by each meaning of best. They are then run on the other half, and on all.
"""

import argparse
import contextlib
import csv
import itertools
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from asi_arch.analyst.statistics import runs_at
from asi_arch.records import Bar, StopRule
from asi_arch.search.budgets.base import Budget, Facts, averaged, judge
from asi_arch.search.budgets.full import Full
from asi_arch.search.budgets.halving import Halving
from asi_arch.search.budgets.racing import Racing
from asi_arch.study import Study

Curve = tuple[tuple[int, float], ...]

BEST = 5
WARM_UP = 0.5  # of the steps, in the published runs
CHANCE = 0.05  # of losing a good run that is accepted


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a policy did, as shares, by what makes a run good.

    lost: of the best runs. any_lost: of the orders that lost one or more.
    """

    saved: float
    lost: Mapping[str, float]
    any_lost: Mapping[str, float]


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
    """Give a budget as a stopper, asked anew before each run, as a study asks it."""

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


class MedianStopping:
    """Stops a run after the warm-up when its loss is above the median of all runs that reached the step."""

    def rule(self, facts: Facts) -> StopRule | None:
        """Give a bar at the median for each step that five runs reached."""
        bars = []
        for step, _ in facts.seed[:-1]:
            known = [dict(curve)[step] for curve in facts.curves if curve[-1][0] >= step]
            if step >= facts.warm_up and len(known) >= 5:
                bars.append(Bar(step=step, loss=median(known)))
        return StopRule(budget="median", window=1, bars=tuple(bars), reason="above the median")


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


def replay(stopper: Stopper, sample: Sample, orders: int, seed: int) -> Score:
    """Give what a stopper does to runs over random orders of arrival."""
    dice, curves = random.Random(f"orders/{seed}"), sample.curves
    best = {name: set(smallest(values)) for name, values in sample.goodness.items()}
    saved, lost, any_lost = 0.0, dict.fromkeys(best, 0.0), dict.fromkeys(best, 0.0)
    for _ in range(orders):
        order = dice.sample(range(len(curves)), len(curves))
        points = dict(zip(order, stopper(sample.part(order)), strict=True))
        spent = sum(curves[i][n - 1][0] for i, n in points.items())
        kept = {i for i, n in points.items() if n == len(curves[i])}
        saved += (1 - spent / sum(curve[-1][0] for curve in curves)) / orders
        for name, good in best.items():
            lost[name] += len(good - kept) / BEST / orders
            any_lost[name] += bool(good - kept) / orders
    return Score(saved=saved, lost=lost, any_lost=any_lost)


def smallest(values: Sequence[float]) -> list[int]:
    """Give the places of the smallest values, those of the best runs."""
    return sorted(range(len(values)), key=lambda i: values[i])[:BEST]


def grid() -> dict[str, list[Budget]]:
    """Give the constants that are tried on the first half, by budget."""
    halvings = itertools.product((0.33, 0.4, 0.5, 0.6), (2, 4, 8), (4, 8))
    racings = itertools.product((0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3), (0.25, 0.35, 0.5))
    return {
        "halving": [Halving(keep=k, rungs=r, fewest=f) for k, r, f in halvings],
        "racing": [Racing(limit=limit, earliest=e) for limit, e in racings],
    }


def choose(scored: Sequence[tuple[Score, Budget]], loss: Callable[[Score], float]) -> Budget:
    """Give the budget that saves most while its loss is accepted; the safest if none is."""
    accepted = [(score, b) for score, b in scored if loss(score) <= CHANCE]
    if accepted:
        return max(accepted, key=lambda pair: pair[0].saved)[1]
    return min(scored, key=lambda pair: loss(pair[0]))[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compute saved by stopping early, and good runs lost.")
    parser.add_argument(
        "curves", type=Path, nargs="+", help="folders of studies, or a CSV of learning curves"
    )
    parser.add_argument("--orders", type=int, default=500, help="random orders of arrival")
    parser.add_argument("--choices", type=int, default=100, help="orders on which constants are chosen")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    is_csv = options.curves[0].is_file()
    sample = read_csv(options.curves[0]) if is_csv else read_studies(options.curves)
    count = len(sample.curves)
    shuffled = random.Random("halves").sample(range(count), count)
    first, second = sample.part(shuffled[: count // 2]), sample.part(shuffled[count // 2 :])
    stoppers: dict[str, Stopper] = {"full": ours(Full()), "median stopping": ours(MedianStopping())}
    stoppers |= {f"{name}, default": ours(b) for name, b in (("halving", Halving()), ("racing", Racing()))}
    stoppers |= chosen(first, options.choices) | peers()
    rows = []
    for title, stopper in stoppers.items():
        for name, runs in (("chosen on", first), ("other half", second), ("all", sample)):
            rows.append((title, name, replay(stopper, runs, options.orders, 2)))
    if options.json:
        print(json.dumps([{"budget": t, "curves": n, **asdict(score)} for t, n, score in rows]))
        return
    _print(rows, count, options.orders)


def chosen(sample: Sample, orders: int) -> dict[str, Stopper]:
    """Give our budgets with constants that are chosen on runs, by title."""
    found: dict[str, Stopper] = {}
    for name, budgets in grid().items():
        scored = [(replay(ours(b), sample, orders, 1), b) for b in budgets]
        rules: dict[str, list[str]] = {}
        known = {repr(b): b for b in budgets}
        for goodness in sample.goodness:
            for title in ("any_lost", "lost"):
                budget = choose(scored, lambda score, t=title, g=goodness: getattr(score, t)[g])
                words = f"orders, {goodness}" if title == "any_lost" else f"runs, {goodness}"
                rules.setdefault(repr(budget), []).append(words)
        for constants, words in rules.items():
            inside = constants.partition("(")[2].rstrip(")")
            found[f"{name}, 5 % of {'; '.join(words)}: {inside}"] = ours(known[constants])
    return found


def _print(rows: Sequence[tuple[str, str, Score]], runs: int, orders: int) -> None:
    table = Table(title=f"{runs} runs, {orders} orders; lost: of the best {BEST}, stopped before their end")
    names = list(rows[0][2].lost)
    table.add_column("budget", max_width=60)
    table.add_column("curves")
    for column in ("saved", *(f"{what}, {n}" for n in names for what in ("lost", "orders"))):
        table.add_column(column, justify="right")
    before = ""
    for title, sample, score in rows:
        figures = [score.saved, *(v[n] for n in names for v in (score.lost, score.any_lost))]
        cells = ("" if title == before else title, sample, *(f"{value:.1%}" for value in figures))
        table.add_row(*cells, end_section=sample == "all")
        before = title
    Console(width=150).print(table)
    if not any(title.startswith("Optuna") for title, _, _ in rows):
        print("Optuna is not installed here, so its pruners are missing: pip install optuna")


if __name__ == "__main__":
    main()
