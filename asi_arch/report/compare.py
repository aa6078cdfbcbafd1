"""Studies side by side: the best so far over compute, with bands over repeats, and what each found."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median

from asi_arch.errors import SetupError
from asi_arch.report.canvas import COLOURS, INK, canvas, label_ends
from asi_arch.report.plots import time_unit
from asi_arch.report.tables import NONE, Table, figure
from asi_arch.report.view import View, by_fitness, cpu_seconds, fitness_of
from asi_arch.settings import as_values

SAME = ("space", "stage", "steps", "learning_rate", "fitness")  # else fitness does not compare
APART = ("seed", "workers", "hours", "experiments", "seed_runs", "leads", "claim_seeds", "claim_minutes",
         "check_seconds", "train_seconds")  # fmt: skip
"""What repeats of one setting may differ in: chance, how long they ran, and what comes after a search."""
HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Studies of one setting: repeats that differ in their seed. label: what sets it apart."""

    label: str
    views: tuple[View, ...]


def group_studies(named: Sequence[tuple[str, View]]) -> tuple[Group, ...]:
    """Give studies in groups of equal settings, in the order in which they came.

    Args:
        named: each study's name, a word for a group that no setting sets apart, and its view.

    Raises:
        SetupError: there is no study with a candidate, or fitness means something else in two of them.
    """
    for name, view in named:
        if not view.candidates():
            raise SetupError(f"study {name} has no candidate that ended; run it first")
    values = [as_values(view.settings) for _, view in named]
    for key in SAME:
        if len({v[key] for v in values}) > 1:
            told = ", ".join(f"{name} {v[key]!r}" for (name, _), v in zip(named, values, strict=True))
            raise SetupError(f"setting {key!r} differs, so fitness does not compare: {told}")
    differing = [k for k in values[0] if k not in (*SAME, *APART) and len({v[k] for v in values}) > 1]
    groups: dict[tuple[object, ...], list[tuple[str, View]]] = {}
    for (name, view), v in zip(named, values, strict=True):
        groups.setdefault(tuple(v[key] for key in differing), []).append((name, view))
    return tuple(
        Group(
            label=", ".join(_label(k, v) for k, v in zip(differing, key, strict=True))
            or (some[0][0] if len(some) == 1 else "all studies"),
            views=tuple(view for _, view in some),
        )
        for key, some in groups.items()
    )


def _label(key: str, value: object) -> str:
    return "with all parts" if key == "without" and not value else f"{key} {value or 'none'}"


def best_so_far(view: View) -> list[float | None]:
    """Give the best fitness after each candidate that ended; None before the first that has one."""
    return list(accumulate((fitness_of(e) if e.fitness else None for e in view.candidates()), _better))


def hours(view: View) -> list[float]:
    """Give the processor hours that were spent after each candidate that ended."""
    return list(accumulate(cpu_seconds(e) / HOUR for e in view.candidates()))


def compare_table(groups: Sequence[Group]) -> Table:
    """Give a row for each group: medians over repeats with their range, at one number of candidates."""
    count = min(len(view.candidates()) for group in groups for view in group.views)
    rows = []
    for group in groups:
        views = group.views
        best = [value for view in views if (value := best_so_far(view)[count - 1]) is not None]
        passed = [100 * _passed(view, count) / count for view in views]
        failed = [100 * sum(e.fitness is None for e in view.candidates()[:count]) / count for view in views]
        spent = [hours(view)[count - 1] for view in views]
        first = [place for view in views if (place := _first(view)) is not None]
        never = len(views) - len(first)
        cells = [_spread(best), _spread(passed, ".0f"), _spread(failed, ".0f"), _spread(spent)]
        cells.append(_spread(first, ".0f") + (f", {never} never" if never else ""))
        rows.append((group.label, str(len(views)), *cells))
    columns = ("studies", "repeats", f"best fitness after {count}", "passed every baseline, %",
               "without a fitness, %", "processor hours", "candidates until one passed")  # fmt: skip
    return Table(columns=columns, rows=tuple(rows))


def draw_compare(groups: Sequence[Group], path: Path) -> None:
    """Draw the best so far over candidates and over processor time: median and range of repeats."""
    unit, length = time_unit(max(hours(view)[-1] for group in groups for view in group.views) * HOUR)
    with canvas(path, 11.5, 5.6) as drawn:
        left, right = drawn.subplots(1, 2, sharey=True)
        for axes, title in ((left, "candidates"), (right, f"processor time of candidates ({unit})")):
            axes.set_xlabel(title)
            ends = []
            for group, colour in zip(groups, (*COLOURS, INK) * len(groups), strict=False):
                xs, middle, low, high = _band(group, HOUR / length if axes is right else 0.0)
                if not xs:
                    continue
                axes.plot(xs, middle, color=colour, lw=2, drawstyle="steps-post")
                if len(group.views) > 1:
                    axes.fill_between(xs, low, high, color=colour, alpha=0.16, step="post", lw=0)
                ends.append((xs[-1], middle[-1], group.label, colour))
            if axes is right:
                label_ends(axes, ends, size=9)
        left.set_ylabel("best fitness so far (0.5: as good as the seed)")
        left.set_title("Best so far: median and range over repeats")


def _band(group: Group, per_hour: float) -> tuple[list[float], list[float], list[float], list[float]]:
    """Give places, and median, least and largest best so far there, while every repeat has one.

    per_hour: units of an hour; 0 for candidates instead of time.
    """
    curves = []
    for view in group.views:
        counted = [float(i) for i in range(1, len(view.candidates()) + 1)]
        xs = [h * per_hour for h in hours(view)] if per_hour else counted
        curves.append([(x, y) for x, y in zip(xs, best_so_far(view), strict=True) if y is not None])
    if not all(curves):
        return [], [], [], []
    start, end = max(c[0][0] for c in curves), min(c[-1][0] for c in curves)
    places = sorted({x for curve in curves for x, _ in curve if start <= x <= end})
    heights = [[_at(curve, x) for curve in curves] for x in places]
    return places, [median(h) for h in heights], [min(h) for h in heights], [max(h) for h in heights]


def _at(curve: Sequence[tuple[float, float]], x: float) -> float:
    return [y for at, y in curve if at <= x][-1]


def _rival(view: View) -> float:
    rivals = by_fitness(e for e in view.baselines() if e.kind == "baseline" and e.name)
    return fitness_of(rivals[0]) if rivals else 1.0


def _passed(view: View, count: int) -> int:
    bar = _rival(view)
    return sum(1 for e in view.candidates()[:count] if e.fitness and fitness_of(e) > bar)


def _first(view: View) -> float | None:
    bar = _rival(view)
    ended = view.candidates()
    return next((float(i) for i, e in enumerate(ended, 1) if e.fitness and fitness_of(e) > bar), None)


def _better(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else max(a, b)


def _spread(values: Sequence[float], form: str = "") -> str:
    """Give "median (least to largest)" of some values."""
    shown = (
        [f"{v:{form}}" if form else figure(v) for v in (median(values), min(values), max(values))]
        if values
        else []
    )
    if len(values) < 2:
        return shown[0] if shown else NONE
    return f"{shown[0]} ({shown[1]} to {shown[2]})"
