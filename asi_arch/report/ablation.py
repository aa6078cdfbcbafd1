"""What each change of a discovery is worth: a table, and bars with intervals."""

from collections.abc import Sequence
from pathlib import Path

from asi_arch.loop.ablate import NEAREST, Anatomy, Contribution
from asi_arch.report.canvas import BLUE, GREY, INK, RED, canvas
from asi_arch.report.tables import NONE, Table, figure, heading
from asi_arch.space import MetricSpec


def ablation_table(
    found: Anatomy, contributions: Sequence[Contribution], metrics: Sequence[MetricSpec]
) -> Table:
    """Give a row for each part: the fitness that is lost without it, its interval, and the metrics then."""
    rows = []
    for c in contributions:
        name = f"all of them: {found.baseline.name}" if c.part == NEAREST else c.part
        scores = [figure(c.metrics.get(spec.name)) for spec in metrics]
        rows.append((name, _worth(c), _interval(c), _seeds(c), *scores))
    columns = ("taken away", "fitness lost", "95 % interval", "seeds", *(heading(spec) for spec in metrics))
    return Table(columns=columns, rows=tuple(rows), marked=frozenset({0}))


def told(found: Anatomy, contributions: Sequence[Contribution]) -> str:
    """Say in a few sentences what an ablation showed."""
    lines = [
        f"#{found.experiment.id} {found.experiment.name} against #{found.baseline.id} "
        f"{found.baseline.name}, the baseline that differs least: {len(found.parts)} changes, "
        f"told apart as {found.how}."
    ]
    lines += [
        f"Without {c.part!r} it does not run: {c.failure.phase}: {c.failure.message}"
        for c in contributions
        if c.failure is not None
    ]
    parts = [c.comparison for c in contributions[1:] if c.comparison]
    whole = contributions[0].comparison if contributions else None
    if whole and len(parts) == len(found.parts):
        total = sum(c.gain for c in parts)
        lines.append(
            f"All together are worth {whole.gain:+.3f} of fitness, the parts one by one {total:+.3f}: "
            "where the two differ, parts need each other or stand in for each other."
        )
    return "\n".join(lines)


def draw_ablation(found: Anatomy, contributions: Sequence[Contribution], path: Path) -> None:
    """Draw the fitness that is lost without each part, with its interval, as horizontal bars."""
    shown = [c for c in contributions if c.comparison is not None]
    with canvas(path, 9.5, 1.9 + 0.48 * max(1, len(shown))) as drawn:
        axes = drawn.add_subplot()
        for row, c in enumerate(shown):
            assert c.comparison is not None
            low, high, gain = c.comparison.low, c.comparison.high, c.comparison.gain
            colour = INK if c.part == NEAREST else BLUE if low > 0 else RED if high < 0 else GREY
            axes.barh(row, gain, height=0.62, color=colour, alpha=0.35 if c.part == NEAREST else 0.55)
            axes.plot([low, high], [row, row], color=colour, lw=2.2, solid_capstyle="butt")
        labels = [f"all: {found.baseline.name}" if c.part == NEAREST else c.part for c in shown]
        axes.set_yticks(range(len(shown)), labels)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.axvline(0, color=INK, lw=1)
        axes.grid(False, axis="y")
        axes.set_xlabel("fitness lost when it is taken away, with 95 % interval")
        axes.set_title(f"What each change of #{found.experiment.id} is worth")


def _worth(c: Contribution) -> str:
    return f"{c.comparison.gain:+.3f}" if c.comparison else "failed" if c.failure else NONE


def _interval(c: Contribution) -> str:
    return f"{c.comparison.low:+.3f} to {c.comparison.high:+.3f}" if c.comparison else NONE


def _seeds(c: Contribution) -> str:
    return f"{c.comparison.seeds} / {c.comparison.baseline_seeds}" if c.comparison else NONE
