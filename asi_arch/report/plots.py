"""Figures of a study: progress over compute, learning curves, and one task against another."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from asi_arch.analyst.statistics import mean, mean_metric, seed_noise
from asi_arch.records import Evidence, Experiment
from asi_arch.report.canvas import BLUE, COLOURS, GREY, INK, RED, canvas, label_ends, label_points
from asi_arch.report.view import View, by_fitness, cpu_seconds, fitness_of
from asi_arch.space import MetricSpec

CURVES = 5  # candidates among the learning curves
Point = tuple[float, float]


def draw_progress(view: View, path: Path) -> None:
    """Draw the best fitness so far over processor time, with each candidate and each baseline.

    Time counts candidates in the order in which they ended, failed ones too; baselines' own is left out.
    """
    candidates, lines = view.candidates(), by_fitness(view.baselines())
    seconds = list(accumulate(cpu_seconds(e) for e in candidates))
    unit, length = time_unit(max(seconds, default=0.0))
    times = [second / length for second in seconds]
    ended = list(zip(times, candidates, strict=True))
    scored = [(time, fitness_of(e), e.id) for time, e in ended if e.fitness]
    failed = [time for time, e in ended if not e.fitness]
    heights = [fitness for _, fitness, _ in scored] + [fitness_of(e) for e in lines]
    low, high = min(heights, default=0.0), max(heights, default=1.0)
    margin = max(0.05 * (high - low), 0.01)
    with canvas(path, 9.5, 6.0) as figure:
        axes = figure.add_subplot()
        axes.set(title="Best so far", xlabel=f"processor time of candidates ({unit})")
        axes.set(ylabel="fitness (0.5: as good as the seed)")
        axes.set(xlim=(0, max(times, default=1.0) * 1.02 or 1.0), ylim=(low - 2 * margin, high + margin))
        _scatter(axes, [(time, fitness) for time, fitness, _ in scored], "candidate", BLUE, "o", 24)
        _draw_best(axes, scored, max(times, default=0.0))
        _scatter(axes, [(time, low - margin) for time in failed], "no fitness", RED, "x", 30)
        for e in lines:
            _, colour, width, dashes = _stroke(view, e)
            axes.axhline(fitness_of(e), color=colour, lw=width, ls=dashes, zorder=1)
        _draw_legend(axes)
        right = axes.get_xlim()[1]
        label_ends(axes, [(right, fitness_of(e), _label(view, e), INK) for e in lines])


def draw_curves(view: View, path: Path) -> None:
    """Draw the training loss of the best candidates and of all baselines, smoothed alike.

    The height is that of the curves after an eighth of the steps, so that the ends can be told apart.
    """
    strokes = [_stroke(view, e) for e in by_fitness(view.baselines())]
    strokes += [(e, COLOURS[i], 2.0, "-") for i, e in enumerate(view.best(CURVES))]
    curves = [(stroke, _smooth(view.runs(stroke[0]))) for stroke in strokes]
    curves = [(stroke, curve) for stroke, curve in curves if curve]
    with canvas(path, 9.5, 5.8) as figure:
        axes = figure.add_subplot()
        axes.set(title="Learning curves", xlabel="step", ylabel="training loss (moving mean)")
        if not curves:
            return
        for (_, colour, width, dashes), curve in curves:
            axes.plot([s for s, _ in curve], [v for _, v in curve], color=colour, lw=width, ls=dashes)
        visible = [v for _, curve in curves for s, v in curve if s >= curve[-1][0] / 8]
        margin = max(0.03 * (max(visible) - min(visible)), 1e-6)
        axes.set_ylim(min(visible) - margin, max(visible) + margin)
        axes.set_xlim(0, max(curve[-1][0] for _, curve in curves))
        ends = [(*curve[-1], _label(view, e), colour) for (e, colour, _, _), curve in curves]
        label_ends(axes, ends)


def draw_tasks(view: View, path: Path) -> None:
    """Draw the first two metrics against each other, and who is not beaten on both by any other."""
    across, up = view.space.metrics[:2]
    shown = [(e, view.runs(e)) for e in (*view.baselines(), *view.candidates())]
    points = {e.id: (mean_metric(runs, across.name), mean_metric(runs, up.name)) for e, runs in shown if runs}
    known = [e for e, runs in shown if runs]
    with canvas(path, 9.5, 6.6) as figure:
        axes = figure.add_subplot()
        axes.set(title="Two tasks", xlabel=_title(across), ylabel=_title(up))
        _draw_axis(axes.xaxis, axes.set_xscale, [x for x, _ in points.values()])
        _draw_axis(axes.yaxis, axes.set_yscale, [y for _, y in points.values()])
        best = [e for e in view.best(CURVES) if e.id in points]
        rivals = [points[e.id] for e in known if e.kind != "reference"]  # what breaks the rules beats nobody
        _draw_front(axes, unbeaten(rivals, across, up))
        _scatter(axes, [points[e.id] for e in known if e.kind == "candidate"], "candidate", BLUE, "o", 30)
        _scatter(axes, [points[e.id] for e in known if e.kind != "candidate"], "baseline", INK, "D", 46)
        _draw_noise(axes, view, across, up)
        ring = {
            "s": 70,
            "facecolors": "none",
            "edgecolors": BLUE,
            "linewidths": 1.6,
            "label": "best by fitness",
        }
        axes.scatter([points[e.id][0] for e in best], [points[e.id][1] for e in best], **ring)
        _draw_legend(axes)
        labels = [(*points[e.id], e.name, INK) for e in known if e.kind != "candidate"]
        labels += [(*points[e.id], f"#{e.id}", BLUE) for e in best]
        label_points(axes, labels)


def unbeaten(points: Sequence[Point], across: MetricSpec, up: MetricSpec) -> list[Point]:
    """Give the points that no other point beats on both metrics, from the best on the first one on."""
    signs = (1 if across.higher_is_better else -1, 1 if up.higher_is_better else -1)
    front: list[Point] = []
    for x, y in sorted(points, key=lambda p: (-signs[0] * p[0], -signs[1] * p[1])):
        if not front or signs[1] * y > signs[1] * front[-1][1]:
            front.append((x, y))
    return front


def time_unit(seconds: float) -> tuple[str, float]:
    """Give the unit in which a time reads well, and its length in seconds."""
    units = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
    return next((unit for unit in units if seconds >= 3 * unit[1]), units[-1])


def _draw_front(axes: Any, front: Sequence[Point]) -> None:
    line = {"color": BLUE, "lw": 1.2, "alpha": 0.6, "zorder": 1, "label": "unbeaten on both"}
    axes.plot([x for x, _ in front], [y for _, y in front], **line)


def _draw_best(axes: Any, scored: Sequence[tuple[float, float, int]], end: float) -> None:
    steps: list[tuple[float, float, int]] = []
    for point in scored:
        if not steps or point[1] > steps[-1][1]:
            steps.append(point)
    if not steps:
        return
    times, heights = [t for t, _, _ in steps], [f for _, f, _ in steps]
    axes.step([*times, end], [*heights, heights[-1]], where="post", color=BLUE, lw=2.2, label="best so far")
    style = {"textcoords": "offset points", "ha": "right", "color": BLUE, "fontweight": "bold"}
    axes.annotate(f"#{steps[-1][2]}", (times[-1], heights[-1]), (-4, 6), **style)


def _stroke(view: View, experiment: Experiment) -> tuple[Experiment, str, float, Any]:
    """Give how a baseline's line looks: experiment, colour, width and dashes; the seed stands out."""
    is_seed = view.kind(experiment) == "seed"
    return experiment, INK if is_seed else GREY, 1.6 if is_seed else 1.0, (0, (5, 3))


def _smooth(runs: Sequence[Evidence]) -> list[Point]:
    """Give the mean curve of runs, each point averaged over the twentieth of the curve that ends there."""
    curves = [run.curve for run in runs if run.curve]
    length = min((len(curve) for curve in curves), default=0)
    losses = [mean(curve[i][1] for curve in curves) for i in range(length)]
    window = max(1, length // 20)
    return [(curves[0][i][0], mean(losses[max(0, i + 1 - window) : i + 1])) for i in range(length)]


def _draw_axis(axis: Any, set_scale: Any, values: Sequence[float]) -> None:
    """Make an axis logarithmic, with plain numbers, where values span more than a factor of ten."""
    if not values or min(values) <= 0 or max(values) / min(values) <= 10:
        return
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_noise(axes: Any, view: View, across: MetricSpec, up: MetricSpec) -> None:
    seed = view.seed_runs()
    noise = [seed_noise(seed, spec.name) for spec in (across, up)]
    if None in noise:
        return
    at = [mean_metric(seed, spec.name) for spec in (across, up)]
    style = {"color": RED, "lw": 1.8, "capsize": 3, "ls": "", "label": "seed's noise (±1 sd)"}
    axes.errorbar(*at, xerr=noise[0], yerr=noise[1], **style)


def _scatter(axes: Any, points: Sequence[Point], label: str, colour: str, marker: str, size: float) -> None:
    if not points:
        return
    style = {"s": size, "color": colour, "marker": marker, "label": label, "alpha": 0.7}
    width = 1.3 if marker == "x" else 0
    axes.scatter([x for x, _ in points], [y for _, y in points], linewidths=width, **style)


def _draw_legend(axes: Any) -> None:
    """Put the legend below the axes, where it covers no data."""
    if axes.get_legend_handles_labels()[0]:
        style = {"frameon": False, "ncols": 5, "fontsize": 10, "columnspacing": 1.4, "handletextpad": 0.5}
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.12), **style)


def _title(spec: MetricSpec) -> str:
    unit = f" ({spec.unit})" if spec.unit and spec.unit not in spec.title else ""
    return f"{spec.title}{unit}, {'higher' if spec.higher_is_better else 'lower'} is better"


def _label(view: View, experiment: Experiment) -> str:
    if experiment.kind == "candidate":
        return f"#{experiment.id}"
    return experiment.name + (" (seed)" if view.kind(experiment) == "seed" else "")
