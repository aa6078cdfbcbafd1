"""Tables of a study as text cells: the leaderboard, and the seed's noise beside every gain."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from asi_arch.analyst.fitness import gain
from asi_arch.analyst.statistics import (
    deviation,
    mean,
    mean_metric,
    metric_value,
    seed_noise,
    standard_error,
)
from asi_arch.records import Evidence, Experiment
from asi_arch.report.view import View, by_fitness, cost_of, mean_detail, standing
from asi_arch.space import MetricSpec

NONE = "-"
ARROW = {True: "↑", False: "↓"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells of a table. text_columns: how many columns from the left are words; the rest are figures.

    marked: indices of rows that a reader's eye should find (the candidates among baselines).
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    marked: frozenset[int] = frozenset()

    def to_markdown(self) -> str:
        """Give the table in Markdown with padded cells, so that it reads well raw."""
        lines = (self.columns, *self.rows)
        widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(self.columns))]
        rules = tuple("-" * w if i < self.text_columns else "-" * (w - 1) + ":" for i, w in enumerate(widths))
        padded = (self._pad(line, widths) for line in (self.columns, rules, *self.rows))
        return "\n".join("| " + " | ".join(line) + " |" for line in padded) + "\n"

    def _pad(self, line: Sequence[str], widths: Sequence[int]) -> list[str]:
        left, right = list(zip(line, widths, strict=True)), self.text_columns
        return [cell.ljust(w) for cell, w in left[:right]] + [cell.rjust(w) for cell, w in left[right:]]


def leaderboard(view: View, best: int, full: bool) -> Table:
    """Give baselines, references and the best candidates, the highest fitness first.

    Values are means over an experiment's runs at the study's stage. A gain is against the seed's
    mean, with the standard deviation of the seed's single runs beside it.

    Args:
        view: the study.
        best: how many candidates.
        full: also FLOPs and state, for paper rather than a terminal.
    """
    chosen = (*view.baselines(), *view.best(best))
    ranked = (*by_fitness(chosen), *(e for e in chosen if e.fitness is None))
    seed = view.seed_runs()
    details = headline_details(run for e in view.baselines() for run in view.runs(e))
    columns = ["id", "name", "kind", "fitness"]
    columns += [heading(spec) for spec in view.space.metrics]
    columns += [words(name) for name in details]
    columns += ["parameters", "tokens/s"] + (["FLOPs/token", "state bytes"] if full else [])
    columns += [f"gain {spec.title}" for spec in view.space.metrics] if seed else []
    rows = tuple(_row(view, e, seed, details, full) for e in ranked)
    marked = frozenset(i for i, e in enumerate(ranked) if e.kind == "candidate")
    return _without_empty(Table(columns=tuple(columns), rows=rows, text_columns=3, marked=marked))


def headline_details(runs: Iterable[Evidence]) -> tuple[str, ...]:
    """Give the details worth a column: accuracies of a whole task, not of one difficulty."""
    names = {name for run in runs for name in run.details}
    return tuple(sorted(name for name in names if name.endswith("accuracy")))


def noise_table(view: View) -> Table:
    """Give each metric's noise: of the seed's runs here, and the fixed scale of the fitness."""
    seed, rows = view.seed_runs(), []
    for spec in view.space.metrics:
        noise = seed_noise(seed, spec.name)
        scale = spec.scale.get(view.settings.stage)
        figures = (mean_metric(seed, spec.name) if seed else None, noise, scale)
        rows.append((spec.title, *(figure(f) for f in figures)))
    columns = ("metric", f"seed's mean of {len(seed)}", "noise of a run", "noise of a difference (fixed)")
    return Table(columns=columns, rows=tuple(rows))


def runs_table(groups: Mapping[str, Sequence[Evidence]], metrics: Sequence[MetricSpec]) -> Table:
    """Give mean and standard deviation of each metric for named groups of runs."""
    details, rows = headline_details(run for runs in groups.values() for run in runs), []
    for name, runs in groups.items():
        cells = [spread([metric_value(run, spec.name) for run in runs]) for spec in metrics]
        cells += [spread([run.details[detail].value for run in runs]) for detail in details]
        cells += [spread([run.cost.tokens_per_second for run in runs if run.cost.tokens_per_second])]
        cells += [spread([run.cpu_seconds for run in runs])]
        rows.append((name, str(len(runs)), *cells))
    columns = ["name", "runs", *(heading(spec) for spec in metrics), *(words(detail) for detail in details)]
    return _without_empty(Table(columns=(*columns, "tokens/s", "CPU s/run"), rows=tuple(rows)))


def noise_of_runs(noise: Mapping[str, float | None], metrics: Sequence[MetricSpec], stage: str) -> Table:
    """Give measured noise by metric, of one run and of a difference of two, beside the space's scale."""
    rows = []
    for spec in metrics:
        one = noise[spec.name]
        two = None if one is None else standard_error(one, 1, 1)
        rows.append((heading(spec), figure(one), figure(two), figure(spec.scale.get(stage))))
    columns = ("metric", "noise of a run", "of a difference of two", "scale of the space")
    return Table(columns=columns, rows=tuple(rows))


def spread(values: Sequence[float]) -> str:
    """Give "mean ±sd" of values; no ± for a single one."""
    if not values:
        return NONE
    noise = deviation(values)
    return figure(mean(values)) if noise is None else f"{figure(mean(values))} ±{figure(noise)}"


def gain_cell(spec: MetricSpec, runs: Sequence[Evidence], seed: Sequence[Evidence]) -> str:
    """Give the mean gain of runs over the seed's, with the noise of one run of the seed beside it."""
    if not runs:
        return NONE
    value, noise = mean(gain(spec, run, seed) for run in runs), seed_noise(seed, spec.name)
    beside = "" if noise is None else f" ±{noise:.2g}"
    return f"{value:+.3f}{beside}"


def heading(spec: MetricSpec) -> str:
    """Give a metric's column heading: title, unit and which way is better."""
    unit = f" {spec.unit}" if spec.unit and spec.unit not in spec.title else ""
    return f"{spec.title}{unit} {ARROW[spec.higher_is_better]}"


def figure(value: float | None) -> str:
    """Give a number to three or four digits, thousands as k, M or G; "-" for None."""
    if value is None:
        return NONE
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if unit != 'k' else 1e3):.4g}{unit}"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Give a time as "45 s", "12 min" or "3 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def words(name: str) -> str:
    """Give a name with spaces for its underscores."""
    return name.replace("_", " ")


def _without_empty(table: Table) -> Table:
    """Leave out columns without any figure, such as a cost that the space does not have."""
    full = [i for i in range(len(table.columns)) if any(row[i] != NONE for row in table.rows)]
    if not table.rows:
        return table
    rows = tuple(tuple(row[i] for i in full) for row in table.rows)
    return replace(table, columns=tuple(table.columns[i] for i in full), rows=rows)


def _row(
    view: View, experiment: Experiment, seed: Sequence[Evidence], details: Sequence[str], full: bool
) -> tuple[str, ...]:
    runs, cost, metrics = view.runs(experiment), cost_of(experiment), view.space.metrics
    cells = [f"#{experiment.id}", experiment.name, view.kind(experiment)]
    cells.append(f"{experiment.fitness.value:.3f}" if experiment.fitness else standing(experiment))
    cells += [figure(mean_metric(runs, spec.name)) if runs else NONE for spec in metrics]
    cells += [figure(mean_detail(runs, name)) for name in details]
    cells += [figure(cost.parameters or None), figure(cost.tokens_per_second or None)]
    if full:
        cells += [figure(cost.flops_per_token or None), figure(cost.state_bytes or None)]
    if seed:
        cells += [gain_cell(spec, runs, seed) for spec in metrics]
    return tuple(cells)
