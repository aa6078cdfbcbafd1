"""Commands that turn leads into claims: `verify` runs them again, `discoveries` says what survived."""

import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from asi_arch.errors import SetupError
from asi_arch.terminal import STUDY, Contained, StudyFolder, Workers, console, print_table, print_text

if TYPE_CHECKING:
    from pathlib import Path

    from asi_arch.analyst.replication import Replication

Top = Annotated[
    int | None, typer.Option("--top", metavar="K", min=1, help="How many of the best candidates.")
]
Most = Annotated[
    int | None,
    typer.Option("--most", metavar="N", min=3, max=100, help="Most seeds of either side of a claim."),
]


def verify(
    study: StudyFolder = STUDY,
    top: Top = None,
    most: Most = None,
    workers: Workers = 0,
    contained: Contained = False,
) -> None:
    """Replicate the best candidates against every baseline.

    They run again at the stage of the search with fresh seeds. What stays above every baseline is promoted to
    the next longer stage: there it and all baselines get the best of the same learning rates, and then as
    many fresh seeds as a power calculation asks for, scored on data that nothing was chosen by. It may be
    stopped at any time, and goes on where it was; how many leads and seeds is kept in the study's settings.
    `asi-arch discoveries` prints the same tables later.
    """
    from threading import Event

    from asi_arch.archive.folder import change_settings
    from asi_arch.commands.watch import RerunWatch
    from asi_arch.engineer.isolation import detect, require_isolation
    from asi_arch.live import stop_on_interrupt
    from asi_arch.loop.verify import Verifier
    from asi_arch.study import Study

    if contained:
        require_isolation(detect())
    stop = Event()
    if most is not None:
        _require_unbegun(study, most)
    given = {"leads": top, "claim_seeds": most}
    change_settings(study, {key: value for key, value in given.items() if value is not None})
    with closing(Study.open(study, workers=workers)) as opened:
        opened.require_measured()
        verifier = Verifier(opened.bench, opened.workers)
        with RerunWatch(console()) as watch, stop_on_interrupt(stop, watch.message) as told:
            known = verifier.verify(watch, stop)
            told()
    print_claims(known)
    if stop.is_set():
        typer.echo("stopped; the same command goes on from here")
        raise typer.Exit(130)


def discoveries(
    study: StudyFolder = STUDY,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a claim.")] = False,
) -> None:
    """List what survived replication, and what did not.

    Each claim with its gain in fitness over the baseline that is hardest to beat, interval, seeds, p value
    after correction for all claims, and its costs over that baseline's; as JSON with all baselines, its
    learning rate, and what it gains in the seconds of the best baseline. Nothing is run.
    """
    known = opened_replication(study)
    if as_json:
        from asi_arch.records import to_json

        for claim in known.claims:
            equal = known.in_equal_seconds(claim)
            more = {
                "learning_rate": known.rates.get(claim.experiment),
                "in_equal_seconds": json.loads(to_json(equal)) if equal else None,
            }
            typer.echo(json.dumps(json.loads(to_json(claim)) | more))
        return
    print_claims(known)


def _require_unbegun(study: "Path", most: int) -> None:
    """Raise SetupError when a claim has a run and its bound of seeds would become another."""
    from asi_arch.archive.folder import open_folder

    settings, archive = open_folder(study)
    with closing(archive):
        begun = any(rerun.purpose == "claim" for rerun in archive.reruns())
    if begun and most != settings.claim_seeds:
        raise SetupError(
            f"claims were begun with --most {settings.claim_seeds}, and their seeds are not to be chosen by "
            "what they show; leave out --most"
        )


def opened_replication(study: "Path") -> "Replication":
    """Give what a study's archive knows of its leads."""
    from asi_arch.loop.verify import replication_of
    from asi_arch.study import Study

    with closing(Study.open(study)) as opened:
        opened.require_measured()
        return replication_of(opened.bench)


def print_claims(known: "Replication") -> None:
    """Print claims with their tables, and what is still missing."""
    from asi_arch.report.claims import (
        claims_table,
        comparisons_table,
        fallen_table,
        rates_table,
        reasons,
        verdict,
    )
    from asi_arch.terminal import print_title

    if known.claims:
        print_title(f"Claims at stage {known.later.name}, fitness over the hardest baseline")
        print_table(claims_table(known))
        print_text(reasons(known.claims))
        for claim in known.claims:
            if claim.outcome == "discovery":
                print_title(f"#{claim.experiment} {claim.name} against every baseline")
                print_table(comparisons_table(known, claim))
    if known.rates:
        print_title("Learning rates, and the fitness of a run at each")
        print_table(rates_table(known))
    if known.fallen:
        print_title("Leads that fell back")
        print_table(fallen_table(known))
    print_text(verdict(known))
