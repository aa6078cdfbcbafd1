"""Where designs came from: shares of origins among the leads and the rest, and which cognitions pay."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asi_arch.analyst.provenance import (
    LEAST,
    LEVEL,
    Payoff,
    Share,
    apart,
    attribute,
    known_attribution,
    known_design,
    payoffs,
    shares,
)
from asi_arch.provenance import Attribution, Origin
from asi_arch.records import Experiment
from asi_arch.report.canvas import BLUE, GREEN, GREY, INK, ORANGE, canvas
from asi_arch.report.parts import Part
from asi_arch.report.tables import NONE, Table, words
from asi_arch.report.view import View, by_fitness, fitness_of

PAID = 12  # cognitions in the figure, the most used first
TITLES: dict[Origin, str] = {
    "cognition": "cognition (papers)",
    "analysis": "analysis (own experiments)",
    "original": "original",
}
HUES: dict[Origin, str] = {"cognition": BLUE, "analysis": ORANGE, "original": GREEN}
BASES = {
    "drawn": "noted as the move was drawn",
    "stated": "by rule, from what its author stated",
    "judged": "judged by a language model",
}


def leads_and_rest(view: View) -> tuple[tuple[Experiment, ...], tuple[Experiment, ...]]:
    """Give the candidates above the best baseline, and all others that ended with a design of their own.

    Without a baseline that finished there are no leads.
    """
    rivals = by_fitness(e for e in view.baselines() if e.kind == "baseline")
    ended = [e for e in view.candidates() if known_design(e)]
    leads = tuple(e for e in ended if rivals and e.fitness and fitness_of(e) > fitness_of(rivals[0]))
    ids = {e.id for e in leads}
    return leads, tuple(e for e in ended if e.id not in ids)


def provenance_lines(view: View) -> list[str]:
    """Give the section of the report, with its figure; nothing before the first candidate has ended."""
    leads, rest = leads_and_rest(view)
    ended = [*leads, *rest]
    if not ended:
        return []
    found = payoffs(view.experiments)
    return [
        "## Where designs came from",
        "",
        "![Shares of origins, and mean gains by cognition](provenance.png)",
        "",
        _of_shares(leads, rest),
        "",
        shares_table(leads, rest).to_markdown(),
        "### Which cognitions pay",
        "",
        _of_payoffs(found),
        "",
        payoffs_table(found).to_markdown(),
    ]


def shares_table(leads: Sequence[Experiment], rest: Sequence[Experiment]) -> Table:
    """Give each origin's share with count and interval, in leads, in the rest, and the difference."""
    rows = []
    for one, other in zip(shares(leads), shares(rest), strict=True):
        gap = NONE
        if one.components and other.components:
            difference, low, high = apart(one, other)
            gap = f"{difference:+.1%} ({low:+.1%} to {high:+.1%})"
        rows.append((TITLES[one.origin], _share(one), _share(other), gap))
    columns = (
        "origin",
        _group("leads", shares(leads)[0]),
        _group("rest", shares(rest)[0]),
        "leads less rest",
    )
    return Table(columns=columns, rows=tuple(rows))


def payoffs_table(found: Sequence[Payoff]) -> Table:
    """Give what the experiments gained that rest on each cognition, with their number."""
    rows = []
    for p in found:
        mean = NONE if p.mean is None else f"{p.mean:+.3f}"
        interval = NONE if p.low is None or p.high is None else f"{p.low:+.3f} to {p.high:+.3f}"
        decided = NONE if p.cognition in _NAMES or not p.told else f"{p.decided} of {p.told}"
        rows.append((_name(p), str(len(p.experiments)), str(len(p.unmeasured)), mean, interval, decided))
    columns = ("rests on", "n", "without gain", "mean gain", f"interval {LEVEL:.0%}", "decided")
    return Table(columns=columns, rows=tuple(rows))


def attribution_part(experiment: Experiment) -> list[Part]:
    """Give where each changed component of an experiment came from, and who says so."""
    found: Sequence[Attribution] = experiment.attribution
    if not found and experiment.status in ("finished", "failed"):
        found = attribute(experiment)
    rows = tuple(
        (words(one.component), one.origin, ", ".join(one.cognitions) or NONE, one.reason, BASES[one.basis])
        for one in found
    )
    columns = ("component", "from", "cognitions", "why", "who says so")
    return [Part(title="where it came from", body=Table(columns=columns, rows=rows, text_columns=5))] * bool(
        rows
    )


def draw_provenance(view: View, path: Path) -> None:
    """Draw the shares of origins in leads and rest, and the mean gain by cognition, with intervals.

    Cognitions with fewer than `LEAST` experiments have no interval and are left to the table.
    """
    leads, rest = leads_and_rest(view)
    found = payoffs(view.experiments)
    shown = [
        *(p for p in found[:2] if p.low is not None),
        *[p for p in found[2:] if p.low is not None][:PAID],
    ]
    with canvas(path, 9.5, 2.9 + max(2.6, 0.34 * len(shown) + 1.2)) as figure:
        grid = figure.add_gridspec(2, 1, height_ratios=(2.9, max(2.6, 0.34 * len(shown) + 1.2)))
        _draw_shares(figure.add_subplot(grid[0]), shares(leads), shares(rest))
        _draw_payoffs(figure.add_subplot(grid[1]), shown, len(found) - 2)


_NAMES = {"all": "all candidates", "": "no cognition"}


def _name(payoff: Payoff) -> str:
    return _NAMES.get(payoff.cognition, payoff.cognition)


def _group(name: str, share: Share) -> str:
    return f"{name}: {share.components} components of {share.designs} designs"


def _share(share: Share) -> str:
    if not share.components:
        return NONE
    return f"{share.count}: {share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def _of_shares(leads: Sequence[Experiment], rest: Sequence[Experiment]) -> str:
    """Say what the table of shares counts, on whose word, and what it leaves out."""
    ended = [*leads, *rest]
    found = [one.basis for e in ended for one in known_attribution(e)]
    words_of = [f"{found.count(basis)} {text}" for basis, text in BASES.items() if basis in found]
    untold = sum(not known_attribution(e) for e in ended)
    told = [
        "Every changed component has one origin: papers, the study's own experiments, or neither.",
        f"Leads are the {len(leads)} candidates above the best baseline; the rest, {len(rest)}, are all",
        "others that ended with a design of their own, failed ones too.",
        f"Of {len(found)} components, {', '.join(words_of)}." if found else "",
        f"{untold} designs are left out, of which nobody noted where they came from." if untold else "",
        f"Intervals are of {LEVEL:.0%}; the number of designs, not of components, sets their width.",
    ]
    return " ".join(line for line in told if line)


def _of_payoffs(found: Sequence[Payoff]) -> str:
    """Say what the table of gains counts, and how far chance alone goes."""
    held = sum(p.low is not None for p in found if p.cognition not in _NAMES)
    told = [
        "Gain is in fitness over the parent, of the experiments whose proposal rests on a cognition; n is",
        "their number. A parent was chosen for its run, which may have been lucky, so gains lean low:",
        f"compare a row with the first two. An interval of {LEVEL:.0%}, by the noise of all gains and",
        f"of the row's own, needs {LEAST} experiments.",
        f"Of {held} cognitions that have one, about {held * (1 - LEVEL):.1f} miss the truth by chance, and"
        if held
        else "No cognition has so many, and",
        "no row is corrected for what chance does among several. Decided: in how many, those without gain",
        "among them, the cognition is the reason for a component; in the others it only spoke for one.",
    ]
    return " ".join(told)


def _draw_shares(axes: Any, leads: Sequence[Share], rest: Sequence[Share]) -> None:
    """Draw a bar an origin and group, with its interval and its count."""
    axes.set(title="Where changed components came from", xlabel="share of components", xlim=(0, 1.0))
    ticks, labels = [], []
    for row, (one, other) in enumerate(zip(leads, rest, strict=True)):
        for share, name, lift, alpha in ((one, "leads", 0.2, 1.0), (other, "rest", -0.2, 0.45)):
            height = -row + lift
            ticks.append(height)
            labels.append(f"{one.origin}, {name}")
            if not share.components:
                axes.text(0.01, height, "none", va="center", fontsize=10, color=GREY)
                continue
            axes.barh(height, share.value, height=0.36, color=HUES[share.origin], alpha=alpha, lw=0)
            axes.plot([share.low, share.high], [height] * 2, color=INK, lw=1.2)
            place = min(max(share.high, share.value) + 0.012, 0.9)
            axes.text(place, height, f"{share.count} of {share.components}", va="center", fontsize=10)
    axes.set_yticks(ticks, labels)
    axes.grid(axis="y", visible=False)


def _draw_payoffs(axes: Any, shown: Sequence[Payoff], known: int) -> None:
    """Draw a mean with its interval a row, the comparison rows on top."""
    held = sum(p.cognition not in _NAMES for p in shown)
    others = "" if held == known else f" ({held} of the {known} that were used; the table has all)"
    title = f"Which cognitions pay{others}"
    axes.set(title=title, xlabel=f"mean gain in fitness over the parent, with {LEVEL:.0%} interval")
    axes.grid(axis="y", visible=False)
    if not shown:
        axes.set(xticks=[], yticks=[])
        axes.text(
            0.5, 0.5, f"none has {LEAST} experiments", transform=axes.transAxes, ha="center", color=GREY
        )
        return
    axes.axvline(0, color=GREY, lw=1.0)
    for row, p in enumerate(shown):
        assert p.mean is not None
        colour = INK if p.cognition in _NAMES else BLUE
        axes.plot([p.low, p.high], [-row] * 2, color=colour, lw=1.8, solid_capstyle="butt")
        axes.plot([p.mean], [-row], color=colour, marker="o", ms=6)
    names = [f"{_name(p)} (n = {len(p.experiments)})" for p in shown]
    axes.set_yticks([-row for row in range(len(shown))], names)
    axes.set_ylim(-len(shown) + 0.4, 0.6)
