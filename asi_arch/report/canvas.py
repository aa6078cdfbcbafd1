"""How figures look: one style, colours that colour-blind readers tell apart, labels that do not overlap."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

BLUE, ORANGE, GREEN, PURPLE, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE)  # Okabe and Ito's, the order with most contrast first
INK, GREY = "#222222", "#6A6A6A"
DOTS_PER_INCH = 130
MOST_DOTS = 30_000  # of a side; readers of PNG files give up near 65,000

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.labelsize": 11,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ECECEC",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "asi-arch",
}


@contextmanager
def canvas(path: Path, width: float, height: float) -> Iterator[Any]:
    """Give an empty figure of a size in inches, and write it to a PNG at the end.

    Drawn without pyplot, so no figure outlives its block, no display is needed and threads may draw.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        dots = min(DOTS_PER_INCH, MOST_DOTS / max(width, height))
        drawn = Figure(figsize=(width, height), dpi=dots, layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn
        drawn.savefig(path, format="png", dpi=dots, metadata={"Software": None})


def spread_out(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Give positions moved as little as needed to stand `gap` apart, in the same order, in low..high.

    Where the room is too small for all, they stay `gap` apart and the last ones pass `high`.
    """
    order = sorted(range(len(positions)), key=lambda i: (positions[i], i))
    blocks: list[tuple[float, int]] = []  # of touching labels: the sum of their wanted starts, and how many
    for rank, index in enumerate(order):
        total, size = positions[index] - rank * gap, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / size:
            before, count = blocks.pop()
            total, size = total + before, size + count
        blocks.append((total, size))
    starts = [total / size for total, size in blocks for _ in range(size)]
    latest = high - (len(order) - 1) * gap
    moved = list(positions)
    for rank, index in enumerate(order):
        moved[index] = max(low, min(latest, starts[rank])) + rank * gap
    return moved


def label_ends(axes: Any, labels: Sequence[tuple[float, float, str, str]], size: float = 10) -> None:
    """Write labels to the right of the axes at given heights, spread so that none overlap.

    labels: (x, y, text, colour) in data coordinates; a thin line leads from the height to its label.
    """
    figure = axes.figure
    figure.canvas.draw()  # constrained layout settles before heights in pixels mean anything
    gap = size * 1.35 * figure.dpi / 72
    to_pixels, to_axes = axes.transData.transform, axes.transAxes.inverted().transform
    wanted = [float(to_pixels((x, y))[1]) for x, y, _, _ in labels]
    placed = spread_out(wanted, gap, axes.bbox.y0, axes.bbox.y1)
    for (_, _, text, colour), here, there in zip(labels, wanted, placed, strict=True):
        ends = [float(to_axes((0, height))[1]) for height in (here, there)]
        style = {"color": colour, "transform": axes.transAxes, "clip_on": False}
        axes.plot([1.0, 1.03], ends, lw=0.7, alpha=0.7, **style)
        axes.text(1.036, ends[1], text, va="center", fontsize=size, **style)


def label_points(axes: Any, labels: Sequence[tuple[float, float, str, str]], size: float = 9.5) -> None:
    """Write a label beside each point, at that of several places that covers least of what is there.

    labels: (x, y, text, colour) in data coordinates, the most important first.
    """
    figure = axes.figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    taken = _obstacles(axes)
    for x, y, text, colour in labels:
        best: tuple[float, Any, Any] | None = None
        for dx, dy in _PLACES:
            words = axes.annotate(
                text,
                xy=(x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="center" if dx else ("bottom" if dy > 0 else "top"),
                fontsize=size,
                color=colour,
            )
            box = words.get_window_extent(renderer)
            covered = sum(_overlap(box, other) for other in taken) + _outside(box, axes.bbox)
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = (covered, words, box)
            else:
                words.remove()
        assert best is not None
        taken.append(best[2])


_PLACES = (
    (8, 0),
    (-8, 0),
    (0, 8),
    (0, -8),
    (8, 9),
    (8, -9),
    (-8, 9),
    (-8, -9),
    (14, 18),
    (14, -18),
    (-14, 18),
)


def _obstacles(axes: Any) -> list[Any]:
    """Give small boxes, in pixels, over all dots and along all lines of the axes."""
    import numpy as np
    from matplotlib.collections import LineCollection
    from matplotlib.transforms import Bbox

    points: list[Any] = []
    paths = [line.get_xydata() for line in axes.lines]
    for drawn in axes.collections:
        if isinstance(drawn, LineCollection):
            paths += drawn.get_segments()
        else:
            points += list(axes.transData.transform(drawn.get_offsets()))
    for path in paths:
        corners = axes.transData.transform(np.asarray(path, dtype=float).reshape(-1, 2))
        for start, end in pairwise(corners):
            steps = int(np.hypot(*(end - start)) // 8) + 2
            points += list(np.linspace(start, end, steps))
    return [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in points]


def _overlap(one: Any, other: Any) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0


def _outside(box: Any, frame: Any) -> float:
    return float(box.width * box.height) - _overlap(box, frame)
