"""The family tree: every experiment a cell with its id and fitness, children to the right of their parent."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asi_arch.records import Experiment
from asi_arch.report.canvas import GREY, INK, canvas
from asi_arch.report.view import View, fitness_of, standing

BROOD = 10  # childless siblings side by side before a new row starts
CELL = (0.58, 0.44)  # inches from cell to cell
Place = tuple[int, int]


@dataclass(slots=True)
class Layout:
    """Places of a tree as (column, row) by id.

    links: pairs of places, parent and child. broods: the place, the width and the rows of a block of
    childless siblings, and the parent's place.
    """

    cells: dict[int, Place] = field(default_factory=dict)
    links: list[tuple[Place, Place]] = field(default_factory=list)
    broods: list[tuple[Place, int, int, Place | None]] = field(default_factory=list)
    rows: int = 0


def lay_out(experiments: Sequence[Experiment]) -> Layout:
    """Place a parent, then its childless children as a block to its right, then the others below.

    So a study of hundreds, most of whose experiments have no child, stays on one page. Only the first
    parent counts, as the one whose code was changed; an experiment whose parent is not among the given
    ones is a root. The walk keeps its own list, because a long line would overflow recursion.
    """
    children = _children(experiments)
    layout = Layout()
    _place_brood(layout, [n for n in children.get(None, []) if n not in children], 0, None)
    waiting: list[tuple[int, int, Place | None]] = []
    waiting += [(root, 0, None) for root in reversed(children.get(None, [])) if root in children]
    while waiting:
        number, column, above = waiting.pop()
        place = (column, layout.rows)
        layout.cells[number] = place
        if above is not None:
            layout.links.append((above, place))
        parents = [n for n in children[number] if n in children]
        _place_brood(layout, [n for n in children[number] if n not in children], column + 1, place)
        # without a brood the row to the right is free for the first child that has children itself
        waiting += [(n, column + 1, place) for n in reversed(parents)]
    return layout


def draw_tree(view: View, path: Path) -> None:
    """Draw the family tree of all experiments that have ended."""
    shown = [e for e in view.experiments if e.status in ("finished", "failed")]
    layout = lay_out(shown)
    columns = max(16, 1 + max((column for column, _ in layout.cells.values()), default=0))
    note = _note(view, shown, columns)
    rows = layout.rows + 0.4 * len(note) + 0.4
    with canvas(path, columns * CELL[0], rows * CELL[1] + 0.7) as figure:
        axes = figure.add_subplot()
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), title="Family tree")
        axes.axis("off")
        _draw_links(axes, layout)
        best = {e.id for e in view.best(3)}
        for e in shown:
            _draw_cell(axes, e, layout.cells[e.id], e.id in best)
        axes.text(-0.45, layout.rows, "\n".join(note), va="top", fontsize=9, color=INK, linespacing=1.4)


def _children(experiments: Sequence[Experiment]) -> dict[int | None, list[int]]:
    known = {e.id for e in experiments}
    children: dict[int | None, list[int]] = {}
    for e in sorted(experiments, key=lambda e: e.id):
        parents = e.proposal.parents if e.proposal else ()
        parent = parents[0] if parents and parents[0] in known and parents[0] < e.id else None
        children.setdefault(parent, []).append(e.id)
    return children


def _place_brood(layout: Layout, brood: Sequence[int], column: int, above: Place | None) -> None:
    for i, number in enumerate(brood):
        layout.cells[number] = (column + i % BROOD, layout.rows + i // BROOD)
    if brood:
        rows = -(-len(brood) // BROOD)
        layout.broods.append(((column, layout.rows), min(BROOD, len(brood)), rows, above))
        layout.rows += rows


def _draw_links(axes: Any, layout: Layout) -> None:
    from matplotlib.patches import Rectangle

    line = {"color": GREY, "lw": 1.0, "zorder": 1}
    for (column, row), (child_column, child_row) in layout.links:
        axes.plot([column - 0.3, column - 0.3, child_column], [row, child_row, child_row], **line)
    for (column, row), width, rows, above in layout.broods:
        block = Rectangle((column - 0.48, row - 0.46), width - 0.04, rows - 0.08)
        block.set(facecolor="#F1F1F1", edgecolor="#C8C8C8", linewidth=0.7, zorder=0)
        axes.add_patch(block)
        if above is not None:
            axes.plot([above[0], column - 0.48], [above[1], row], **line)


def _draw_cell(axes: Any, experiment: Experiment, place: Place, best: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    fill, ink = _colours(experiment)
    below = f"{fitness_of(experiment):.2f}" if experiment.fitness else standing(experiment)
    shape = FancyBboxPatch(
        (place[0] - 0.41, place[1] - 0.37), 0.82, 0.74, boxstyle="round,pad=0,rounding_size=0.12"
    )
    shape.set(facecolor=fill, edgecolor=GREY, linewidth=0.5, zorder=2)
    if experiment.kind != "candidate":
        shape.set(edgecolor=INK, linewidth=1.0)
    if best:
        shape.set(edgecolor=INK, linewidth=2.6)
    if experiment.failure is not None:
        shape.set(linestyle="--")
    axes.add_patch(shape)
    style = {"ha": "center", "va": "center", "color": ink, "zorder": 3}
    axes.text(place[0], place[1] - 0.16, f"#{experiment.id}", fontsize=8.5, fontweight="bold", **style)
    axes.text(place[0], place[1] + 0.18, below, fontsize=7.5, **style)


def _colours(experiment: Experiment) -> tuple[Any, str]:
    """Give a cell's fill, by fitness from 0.2 (orange) to 0.8 (purple), and an ink that stands out on it."""
    if experiment.fitness is None:
        return "white", GREY
    from matplotlib import colormaps

    shade = min(1.0, max(0.0, (fitness_of(experiment) - 0.2) / 0.6))
    red, green, blue, _ = fill = colormaps["PuOr"](shade)
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return fill, "white" if luminance < 0.25 else INK


def _note(view: View, shown: Sequence[Experiment], columns: int) -> list[str]:
    named = [f"#{e.id} {e.name}{' (seed)' if view.kind(e) == 'seed' else ''}" for e in view.baselines()]
    lines = [
        "Each cell: id and fitness; purple is better than the seed (0.50), orange worse, dashed failed. "
        "A grey block holds childless children of the cell to its left. Bold frame: the best three.",
        "Baselines (black frame): " + ", ".join(named) + ".",
    ]
    return [part for line in lines for part in textwrap.wrap(line, int(columns * CELL[0] * 14))]
