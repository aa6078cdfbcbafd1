"""Budgets replayed on finished learning curves: compute saved, good runs lost, beside Optuna's pruners.

    python benchmarks/budgets.py CURVES.csv [--orders 500] [--json]

CURVES.csv has a line a run: `index,name,parameters,step_1,step_100,...`, losses at equal steps to the end;
runs with a loss that is no number are left out, and so is the first step. Runs arrive in random orders; each
is cut where a policy stops it, and policies see of it only what came before. The published runs have no
curve of their seed, so differences to it are differences to 0, which changes no ranking.

The constants of our budgets are chosen on a random half of the curves: of a small grid, what saves most
while at most 5 % of the orders lose any of the five best; and, less strictly, while at most 5 % of the
five best are lost. They are then run on the other half, and on all.
"""

import argparse
import contextlib
import csv
import itertools
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from asi_arch.records import Bar, StopRule
from asi_arch.search.budgets.base import Budget, Facts, averaged, judge
from asi_arch.search.budgets.full import Full
from asi_arch.search.budgets.halving import Halving
from asi_arch.search.budgets.racing import Racing

Curve = tuple[tuple[int, float], ...]
Stopper = Callable[[Sequence[Curve]], Iterator[int]]
"""Takes curves in the order of arrival; yields for each the number of points that it got."""

BEST = 5
WARM_UP = 0.5  # of the steps, in the published runs
CHANCE = 0.05  # of losing a good run that is accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a policy did, as shares: `lost` of single good runs, `any_lost` of orders that lost one or more.

    by_last: good runs are those of lowest loss at the last step. by_mean: of lowest mean over the
    last five points, which is less a matter of luck.
    """

    saved: float
    lost_by_last: float
    any_lost_by_last: float
    lost_by_mean: float
    any_lost_by_mean: float


def read_curves(path: Path) -> list[Curve]:
    """Give the complete curves of a file, without their first point."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    steps = [int(name.removeprefix("step_")) for name in header[4:]]
    curves = []
    for row in rows:
        with contextlib.suppress(ValueError):
            losses = [float(cell) for cell in row[4:]]
            if all(map(math.isfinite, losses)):
                curves.append(tuple(zip(steps, losses, strict=True)))
    return curves


def ours(budget: Budget) -> Stopper:
    """Give a budget as a stopper, asked anew before each run, as a study asks it."""

    def stop(arriving: Sequence[Curve]) -> Iterator[int]:
        steps = arriving[0][-1][0]
        seed = tuple((step, 0.0) for step, _ in arriving[0])
        seen: list[Curve] = []
        for curve in arriving:
            facts = Facts(
                steps=steps,
                warm_up=round(WARM_UP * steps),
                seed=seed,
                curves=seen,
                planned=len(arriving),
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


def peer(make: Callable[[], object]) -> Stopper:
    """Give a pruner of Optuna's as a stopper, in a study of its own, in memory."""

    def stop(arriving: Sequence[Curve]) -> Iterator[int]:
        import optuna

        study = optuna.create_study(direction="minimize", pruner=make())
        for curve in arriving:
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
    pruners = optuna.pruners
    return {
        "Optuna MedianPruner, as it comes": peer(lambda: pruners.MedianPruner()),
        "Optuna MedianPruner, after warm-up": peer(lambda: pruners.MedianPruner(n_warmup_steps=1000)),
        "Optuna SuccessiveHalvingPruner, as it comes": peer(lambda: pruners.SuccessiveHalvingPruner()),
        "Optuna SuccessiveHalvingPruner, from warm-up on, factor 2": peer(
            lambda: pruners.SuccessiveHalvingPruner(min_resource=1000, reduction_factor=2)
        ),
    }


def replay(stopper: Stopper, curves: Sequence[Curve], orders: int, seed: int) -> Score:
    """Give what a stopper does to curves over random orders of arrival."""
    dice = random.Random(f"orders/{seed}")
    last = set(best(curves, lambda curve: curve[-1][1]))
    smooth = set(best(curves, lambda curve: averaged(curve, 5)))
    totals = [0.0] * 5
    for _ in range(orders):
        order = dice.sample(range(len(curves)), len(curves))
        points = dict(zip(order, stopper([curves[i] for i in order]), strict=True))
        spent = sum(curves[i][n - 1][0] for i, n in points.items())
        kept = {i for i, n in points.items() if n == len(curves[i])}
        losses = (len(last - kept), len(smooth - kept))
        found = [1 - spent / (len(curves) * curves[0][-1][0])]
        found += [value for loss in losses for value in (loss / BEST, float(loss > 0))]
        totals = [a + b for a, b in zip(totals, found, strict=True)]
    saved, lost, any_lost, lost_mean, any_mean = (total / orders for total in totals)
    return Score(
        saved=saved,
        lost_by_last=lost,
        any_lost_by_last=any_lost,
        lost_by_mean=lost_mean,
        any_lost_by_mean=any_mean,
    )


def best(curves: Sequence[Curve], end: Callable[[Curve], float]) -> list[int]:
    """Give the places of the best runs."""
    return sorted(range(len(curves)), key=lambda i: end(curves[i]))[:BEST]


def grid() -> dict[str, list[Budget]]:
    """Give the constants that are tried on the first half, by budget."""
    halvings = itertools.product((0.33, 0.4, 0.5, 0.6), (2, 4, 8), (4, 8))
    racings = itertools.product((0.03, 0.05, 0.07, 0.1, 0.15, 0.2), (0.25, 0.35, 0.5))
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
    parser.add_argument("curves", type=Path, help="CSV of learning curves")
    parser.add_argument("--orders", type=int, default=500, help="random orders of arrival")
    parser.add_argument("--choices", type=int, default=100, help="orders on which constants are chosen")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    curves = read_curves(options.curves)
    shuffled = random.Random("halves").sample(curves, len(curves))
    first, second = shuffled[: len(curves) // 2], shuffled[len(curves) // 2 :]
    stoppers: dict[str, Stopper] = {"full": ours(Full()), "median stopping": ours(MedianStopping())}
    stoppers |= {f"{name} (default)": ours(b) for name, b in (("halving", Halving()), ("racing", Racing()))}
    for name, budgets in grid().items():
        scored = [(replay(ours(b), first, options.choices, 1), b) for b in budgets]
        for title, loss in (
            ("few orders lose one", lambda s: s.any_lost_by_last),
            ("few runs lost", lambda s: s.lost_by_last),
        ):
            chosen = choose(scored, loss)
            stoppers[f"{name}, chosen on half: {title}\n{_constants(chosen)}"] = ours(chosen)
    stoppers |= peers()
    rows = []
    for title, stopper in stoppers.items():
        for sample, runs in (("half it was chosen on", first), ("other half", second), ("all", curves)):
            rows.append((title, sample, replay(stopper, runs, options.orders, 2)))
    if options.json:
        print(json.dumps([{"budget": t, "curves": s, **asdict(score)} for t, s, score in rows]))
        return
    _print(rows, len(curves), options.orders)


def _constants(budget: Budget) -> str:
    return repr(budget).partition("(")[2].rstrip(")")


def _print(rows: Sequence[tuple[str, str, Score]], runs: int, orders: int) -> None:
    table = Table(
        title=f"{runs} curves, {orders} orders; good: the best {BEST}; lost: stopped before the end"
    )
    for column in ("budget", "curves", "saved", "lost, last", "orders, last", "lost, mean", "orders, mean"):
        table.add_column(column, justify="left" if column in ("budget", "curves") else "right")
    before = ""
    for title, sample, score in rows:
        figures = (f"{value:.1%}" for value in asdict(score).values())
        table.add_row("" if title == before else title, sample, *figures, end_section=sample == "all")
        before = title
    Console(width=140).print(table)
    if not any(title.startswith("Optuna") for title, _, _ in rows):
        print("Optuna is not installed here, so its pruners are missing: pip install optuna")


if __name__ == "__main__":
    main()
