"""The discovery curve of a study: what passed every baseline, over compute, and which law fits."""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from asi_arch.analyst.curve_fit import FORMS, expected
from asi_arch.analyst.discovery_curve import FEWEST, Fitted, Law, curve_of, find_law
from asi_arch.records import Experiment
from asi_arch.report.canvas import COLOURS, INK, canvas
from asi_arch.report.tables import Table, figure
from asi_arch.report.view import View, by_fitness, fitness_of

AXES = (
    ("experiments", "candidates"),
    ("hours", "processor hours"),
    ("flops", "training FLOPs for each token of a step"),
)
PROVEN, LEADS = "discoveries", "leads"
POINTS = 60  # of a drawn form


def counted(view: View) -> tuple[str, tuple[Experiment, ...]]:
    """Give what the curve counts, in words, and those: discoveries where every lead was replicated.

    Else leads: of a few that were chosen because they were best, when they came tells of the choice.
    """
    rivals = by_fitness(e for e in view.baselines() if e.kind == "baseline")
    bar = fitness_of(rivals[0]) if rivals else 1.0
    ahead = tuple(e for e in view.candidates() if e.fitness and fitness_of(e) > bar)
    known = view.replication
    proven = {c.experiment for c in known.claims if c.outcome == "discovery"} if known else set()
    if known and len(proven) >= FEWEST and {e.id for e in ahead} <= {e.id for e in known.leads}:
        return PROVEN, tuple(e for e in ahead if e.id in proven)
    return LEADS, ahead


def laws(view: View) -> list[tuple[str, Law]]:
    """Give the law over each axis of compute that was spent; none while there are too few to fit."""
    what, found = counted(view)
    if len(found) < FEWEST:
        return []
    ended, ids = view.candidates(), [e.id for e in found]
    told = []
    for axis, words in AXES:
        if axis != "flops" or any(run.cost.flops_per_token for e in ended for run in e.evidence if run.curve):
            told.append((words, find_law(curve_of(ended, ids, axis), what=what)))
    return told


def law_table(fitted: Sequence[tuple[str, Law]]) -> Table:
    """Give a row for each axis and form: parameters with intervals, AICc, weight, and whether it fits."""
    rows = tuple(
        (words, f.form, f.formula, _parameters(f), f"{f.aicc:.1f}", f"{f.weight:.2f}", f"{f.p:.2g}")
        for words, law in fitted
        for f in law.forms
    )
    columns = ("over", "form", "formula", "parameters, 95 %", "AICc", "weight", "p of fit")
    return Table(columns=columns, rows=rows, text_columns=4)


def draw_law(view: View, law: Law, path: Path) -> None:
    """Draw the count over candidates, and the fitted forms up to where the data end."""
    what, found = counted(view)
    ids = {e.id for e in found}
    counts = list(accumulate(int(e.id in ids) for e in view.candidates()))
    total = law.curve.edges[-1]
    with canvas(path, 9.5, 5.6) as drawn:
        axes = drawn.add_subplot()
        axes.set(title="Discovery curve", xlabel="candidates", ylabel=what)
        axes.step(
            [0, *range(1, len(counts) + 1)], [0, *counts], where="post", color=INK, lw=2, label="counted"
        )
        edges = [i / POINTS for i in range(POINTS + 1)]
        for f, colour in zip(law.forms, COLOURS, strict=False):
            heights = [0.0, *accumulate(_means(f, total, edges))]
            label = f"{f.form} {f.formula}, weight {f.weight:.2f}"
            axes.plot([total * e for e in edges], heights, color=colour, lw=1.6, ls="--", label=label)
        axes.legend(frameon=False, loc="upper left")
        axes.set(xlim=(0, total), ylim=(0, None))


def _means(f: Fitted, total: float, edges: Sequence[float]) -> list[float]:
    """Give a form's mean count in each piece of the compute."""
    form = FORMS[f.form]
    if f.form == "linear":
        return expected(form, f.parameters["a"] * total, 0.0, edges)
    if f.form == "power":
        return expected(form, f.parameters["a"] * total ** f.parameters["b"], f.parameters["b"], edges)
    theta = f.parameters["c"] / total
    return expected(form, f.parameters["a"] * -math.expm1(-1 / theta), theta, edges)


def _parameters(f: Fitted) -> str:
    told = []
    for letter, value in f.parameters.items():
        low, high = f.intervals[letter]
        told.append(f"{letter} {figure(value)} ({figure(low)} to {figure(high)})")
    return ", ".join(told)
