"""Claims of a study as tables and sentences: what survived replication, what did not, and at which cost."""

from collections.abc import Mapping, Sequence

from asi_arch.analyst.replication import Replication
from asi_arch.discoveries import Claim, Comparison
from asi_arch.report.tables import NONE, Table
from asi_arch.report.view import fitness_of

COSTS = (
    ("parameters", "parameters"),
    ("flops_per_token", "FLOPs"),
    ("tokens_per_second", "tokens/s"),
    ("state_bytes", "state"),
)
PLURALS = {"discovery": "discoveries"}
ORDER = ("discovery", "open", "unproven", "refuted")


def claims_table(known: Replication) -> Table:
    """Give a row for each claim, discoveries first, with its gain over the hardest baseline."""
    ranked = sorted(known.claims, key=lambda c: (ORDER.index(c.outcome), c.adjusted_p, c.experiment))
    rows = tuple(_row(known, claim) for claim in ranked)
    columns = ("id", "name", "outcome", "hardest baseline", "gain", "interval", "adjusted p", "seeds",
               "gain in equal seconds", *(f"{title} ×" for _, title in COSTS))  # fmt: skip
    marked = frozenset(i for i, claim in enumerate(ranked) if claim.outcome == "discovery")
    return Table(columns=columns, rows=rows, text_columns=4, marked=marked)


def comparisons_table(known: Replication, claim: Claim) -> Table:
    """Give a row for each baseline that a claim is compared with, the hardest first."""
    rows = tuple(
        (c.name, f"{c.gain:+.3f}", _interval(c), f"{c.p:.2g}", f"{c.seeds} / {c.baseline_seeds}", *_costs(c))
        for c in claim.comparisons
    )
    columns = ("baseline", "gain", "interval", "p", "seeds", *(f"{title} ×" for _, title in COSTS))
    return Table(columns=columns, rows=rows)


def rates_table(known: Replication) -> Table:
    """Give the best learning rate of each baseline and promoted lead, its fitness at each, and edges."""
    edges = (known.tried[0], known.tried[-1]) if len(known.tried) > 1 else ()
    rows = []
    for e in (*known.baselines, *known.promoted):
        rate = known.rates.get(e.id)
        note = "at the edge of the rates that were tried" if rate in edges else ""
        at = known.at_rates.get(e.id, {})
        fitness = (_at(at, rate) for rate in known.tried)
        head = (f"#{e.id}", e.name, note or NONE, f"{rate:.3g}" if rate else "failed at all")
        rows.append((*head, *fitness))
    columns = ("id", "name", "note", "best rate", *(f"at {rate:.3g}" for rate in known.tried))
    return Table(columns=columns, rows=tuple(rows), text_columns=3)


def fallen_table(known: Replication) -> Table:
    """Give the leads that fell back when they were run again at the search's stage."""
    bar = known.screen_bar or 0.0
    rows = []
    for e in known.fallen:
        again = known.screened.get(e.id)
        cells = (f"{fitness_of(e):.3f}", "a run failed" if again is None else f"{again:.3f}", f"{bar:.3f}")
        rows.append((f"#{e.id}", e.name, *cells))
    columns = ("id", "name", "fitness in the search", "mean of fresh runs", "best baseline's")
    return Table(columns=columns, rows=tuple(rows), text_columns=2)


def verdict(known: Replication) -> str:
    """Say in a few sentences how far the verification of a study is, and what it found."""
    if not known.leads:
        return "No candidate passed the best baseline in the search, so there is nothing to replicate."
    claims, missing = known.claims, len(known.missing())
    counts = {word: sum(c.outcome == word for c in claims) for word in ORDER}
    told = [_count(len(known.leads), "lead"), f"{len(known.fallen)} fell back at stage {known.stage.name}"]
    text = f"{', '.join(told)}, {len(known.promoted)} promoted to {known.later.name}"
    if claims:
        told = [_count(n, word, several=PLURALS.get(word, word)) for word, n in counts.items() if n]
        text += ": " + ", ".join(told)
    text += "."
    if missing:
        runs = _count(missing, "run")
        text += f" {runs[0].upper()}{runs[1:]} of the next step {'is' if missing == 1 else 'are'} missing; "
        text += "`asi-arch verify` does them."
    elif counts["discovery"] == 0:
        text += " Nothing was shown to beat every baseline: an honest zero."
    return text


def reasons(claims: Sequence[Claim]) -> str:
    """Give each claim's reason, a line each."""
    return "\n".join(f"#{c.experiment} {c.name}: {c.outcome}; {c.reason}" for c in claims)


def _row(known: Replication, claim: Claim) -> tuple[str, ...]:
    head, worst = (f"#{claim.experiment}", claim.name, claim.outcome), claim.hardest
    if worst is None:
        return (*head, *([NONE] * (6 + len(COSTS))))
    equal = known.in_equal_seconds(claim)
    return (
        *head,
        worst.name,
        f"{worst.gain:+.3f}",
        _interval(worst),
        f"{claim.adjusted_p:.2g}",
        f"{len(claim.seeds)} of {claim.planned}",
        f"{equal.gain:+.3f} ({_interval(equal)}) over {equal.name}" if equal else NONE,
        *_costs(worst),
    )


def _at(fitness: Mapping[float, float | None], rate: float) -> str:
    value = fitness.get(rate)
    return f"{value:.3f}" if value is not None else "failed" if rate in fitness else NONE


def _interval(comparison: Comparison) -> str:
    return f"{comparison.low:+.3f} to {comparison.high:+.3f}"


def _costs(comparison: Comparison) -> tuple[str, ...]:
    return tuple(f"{comparison.cost[name]:.2f}" if name in comparison.cost else NONE for name, _ in COSTS)


def _count(number: int, noun: str, several: str = "") -> str:
    return f"{number or 'no'} {noun if number == 1 else several or noun + 's'}"
