"""The report of a study: one Markdown page with its tables, figures and findings."""

from pathlib import Path

from asi_arch.controls import tell_controls
from asi_arch.records import Experiment
from asi_arch.report.claims import claims_table, fallen_table, rates_table, reasons, verdict
from asi_arch.report.law import LEADS, counted, draw_law, law_table, laws
from asi_arch.report.plots import draw_curves, draw_progress, draw_tasks
from asi_arch.report.provenance import draw_provenance, provenance_lines
from asi_arch.report.tables import Table, duration, leaderboard, noise_table
from asi_arch.report.tree import draw_tree
from asi_arch.report.view import View, by_fitness, cpu_seconds, fitness_of, is_stopped

BEST = 15  # candidates in the leaderboard
LEADS_ARE = " (candidates that passed every baseline in a single run), since not all were replicated"
TOLD = 5  # candidates whose motivation and finding are told


def write_report(view: View, folder: Path) -> Path:
    """Write `report.md` and its PNGs into a folder, which is made if need be; give the page's path.

    What an earlier report left under the same names is replaced; nothing else is touched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"progress": draw_progress, "tree": draw_tree, "curves": draw_curves}
    if len(view.space.metrics) > 1:
        figures["tasks"] = draw_tasks
    origins = provenance_lines(view)
    if origins:
        figures["provenance"] = draw_provenance
    for name, draw in figures.items():
        draw(view, folder / f"{name}.png")
    page = folder / "report.md"
    page.write_text(
        "\n".join(
            [
                *_head(view),
                *_scores(view),
                *_claims(view),
                *_figures(view),
                *_law(view, folder),
                *origins,
                *_best(view),
                *_failures(view),
            ]
        )
    )
    return page


def summary(view: View) -> str:
    """Say in a few sentences what a study has found so far, without claiming more than one run shows."""
    candidates = view.candidates()
    stopped = [e for e in candidates if is_stopped(e)]
    failed = [e for e in candidates if e.status == "failed" and not is_stopped(e)]
    time = duration(sum(cpu_seconds(e) for e in candidates))
    if not candidates:
        return "No candidate has ended yet."
    told = (
        f"{_count(len(candidates), 'candidate')} ended, {len(failed) or 'none'} of them failed, "
        f"{f'{len(stopped)} were stopped early, ' if stopped else ''}in {time} of processor time."
    )
    best, rivals = view.best(1), by_fitness(e for e in view.baselines() if e.kind == "baseline")
    if not best or not rivals:
        return told
    rival = rivals[0]
    ahead = sum(1 for e in candidates if e.fitness and fitness_of(e) > fitness_of(rival))
    return (
        f"{told} The best candidate is #{best[0].id} {best[0].name} with fitness "
        f"{fitness_of(best[0]):.3f}; the best baseline is {rival.name} with {fitness_of(rival):.3f}, and "
        f"{_count(ahead, 'candidate')} passed it. A candidate's figures come from a single run: they are "
        f"leads, not discoveries, until they are replicated."
    )


def _head(view: View) -> list[str]:
    settings = view.settings
    stage = view.space.stages.get(settings.stage)
    steps = settings.steps or (stage.steps if stage else 0)
    return [
        f"# Study in the space {view.space.name}",
        "",
        f"{view.space.title}. Stage {settings.stage} ({steps} steps), seed {settings.seed}, "
        f"fitness formula {settings.fitness}.",
        "",
        *_controls(view),
        summary(view),
        "",
    ]


def _controls(view: View) -> list[str]:
    told = tell_controls(view.settings.without, view.settings.selection)
    return [f"**A control**, {told}.", ""] if told else []


def _scores(view: View) -> list[str]:
    return [
        "## Leaderboard",
        "",
        f"All baselines and the best {BEST} candidates. A gain is against the mean of the seed's runs, "
        "positive is better; beside it stands the standard deviation of one run of the seed.",
        "",
        leaderboard(view, BEST, full=True).to_markdown(),
        "The noise: of one run, from the seed's runs in this study, and of a difference between two runs, as "
        "calibrated once for the space; the second is what fitness divides by and findings call the noise.",
        "",
        noise_table(view).to_markdown(),
    ]


def _figures(view: View) -> list[str]:
    lines = [
        "## Best so far",
        "",
        "![Best fitness so far over processor time](progress.png)",
        "",
        "## Learning curves",
        "",
        "![Training loss of the best candidates and the baselines](curves.png)",
        "",
    ]
    if len(view.space.metrics) > 1:
        lines += ["## Tasks", "", "![The first two metrics against each other](tasks.png)", ""]
    return [*lines, "## Family tree", "", "![Family tree of all experiments](tree.png)", ""]


def _claims(view: View) -> list[str]:
    """Tell of claims, once leads have been run again."""
    known = view.replication
    if known is None:
        return []
    lines = ["## Claims", "", verdict(known), ""]
    if known.claims:
        lines += [
            f"Fitness at stage {known.later.name} on the test split, over the baseline that is hardest to "
            "beat; p adjusted over all claims (docs/claims.md). Costs are the candidate's over that one's.",
            "",
            claims_table(known).to_markdown(),
            *(f"- {line}" for line in reasons(known.claims).splitlines()),
            "",
            "Learning rates, chosen among the same for all, and the fitness of a run at each:",
            "",
            rates_table(known).to_markdown(),
        ]
    if known.fallen:
        lines += ["Leads that fell back when they were run again:", "", fallen_table(known).to_markdown()]
    return lines


def _law(view: View, folder: Path) -> list[str]:
    """Draw the discovery curve, where there is enough to fit."""
    fitted = laws(view)
    if not fitted:
        return []
    what, law = counted(view)[0], fitted[0][1]
    draw_law(view, law, folder / "discovery_curve.png")
    return [
        "## Discovery curve",
        "",
        f"Counted are {what}{LEADS_ARE if what == LEADS else ''}. {law.verdict}",
        "",
        "![Count over candidates, with fitted forms](discovery_curve.png)",
        "",
        law_table(fitted).to_markdown(),
    ]


def _best(view: View) -> list[str]:
    lines = ["## What the best teach", ""]
    for e in view.best(TOLD):
        lines += [f"### #{e.id} {e.name}", "", *_told(e)]
    return lines


def _told(experiment: Experiment) -> list[str]:
    lines = []
    if experiment.proposal and experiment.proposal.motivation:
        lines += [experiment.proposal.motivation, ""]
    if experiment.finding:
        lines += [experiment.finding.text, ""]
    return lines


def _failures(view: View) -> list[str]:
    counts: dict[tuple[str, str], list[Experiment]] = {}
    for e in view.experiments:
        if e.failure is not None:
            counts.setdefault((e.failure.phase, e.failure.kind), []).append(e)
    if not counts:
        return []
    ranked = sorted(counts.items(), key=lambda item: (-len(item[1]), item[0]))
    rows = tuple(
        (phase, kind, ", ".join(f"#{e.id}" for e in group[:10]), str(len(group)))
        for (phase, kind), group in ranked
    )
    table = Table(columns=("phase", "kind", "experiments", "count"), rows=rows, text_columns=3)
    return ["## Failures", "", table.to_markdown()]


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
