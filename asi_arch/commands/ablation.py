"""The command that takes a discovery apart: `ablate`."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from asi_arch.errors import SetupError
from asi_arch.terminal import (
    STUDY,
    Contained,
    StudyFolder,
    Workers,
    console,
    print_table,
    print_text,
    print_title,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asi_arch.discoveries import Rerun
    from asi_arch.loop.ablate import Grouping
    from asi_arch.study import Study


def ablate(
    id: Annotated[int, typer.Argument(metavar="ID", help="Number of an experiment.")],
    study: StudyFolder = STUDY,
    seeds: Annotated[int, typer.Option(metavar="N", min=2, max=100, help="Runs of each variant.")] = 3,
    workers: Workers = 0,
    contained: Contained = False,
) -> None:
    """Take an experiment apart: what is each of its changes worth?

    Its changes against the baseline that differs least (parts of its design where the grammar reads it, else
    groups of lines, which a language model names if there is one) are taken back one at a time and
    measured again at the stage of claims, beside the whole and the baseline. It prints a table, and draws a
    figure into the study's report. It may be stopped at any time, and goes on where it was.
    """
    from threading import Event

    from asi_arch.commands.watch import RerunWatch
    from asi_arch.engineer.isolation import detect, require_isolation
    from asi_arch.live import stop_on_interrupt
    from asi_arch.loop.ablate import ablation_runs, anatomy, contributions, stage_of
    from asi_arch.loop.verify import Verifier
    from asi_arch.report.ablation import ablation_table, draw_ablation, told
    from asi_arch.study import Study

    if contained:
        require_isolation(detect())
    stop = Event()
    with closing(Study.open(study, workers=workers)) as opened:
        opened.require_measured()
        experiments = {e.id: e for e in opened.archive.experiments()}
        chosen = experiments.get(id)
        if chosen is None or chosen.kind != "candidate" or chosen.status != "finished":
            raise SetupError(f"experiment {id} is no candidate that was measured; `asi-arch best` lists some")
        verifier = Verifier(opened.bench, opened.workers)
        known = verifier.replication()
        grammar = opened.space.open_grammar()
        found = anatomy(chosen, known.baselines, grammar, _grouping(opened, id))
        runs = ablation_runs(found, stage_of(known, chosen), opened.settings.seed, seeds)

        with RerunWatch(console()) as watch, stop_on_interrupt(stop, watch.message) as tell:
            verifier.do(lambda: _left(opened, runs), watch, stop)
            tell()
        worth = contributions(found, runs, opened.archive.reruns(), known)
        metrics = opened.space.metrics
    print_title(f"#{id} without each of its changes, stage {known.later.name}")
    print_table(ablation_table(found, worth, metrics))
    print_text(told(found, worth))
    if stop.is_set():
        typer.echo("stopped; the same command goes on from here")
        raise typer.Exit(130)
    picture = study / "report" / f"ablation_{id}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_ablation(found, worth, picture)
    typer.echo(f"figure: {picture}")


def _left(opened: "Study", runs: "Sequence[Rerun]") -> "Sequence[Rerun]":
    done = {rerun.key for rerun in opened.archive.reruns()}
    return [run for run in runs if run.key not in done]


def _grouping(opened: "Study", id: int) -> "Grouping | None":
    """Give who groups the lines of a difference: the analyst's model, if there is one."""
    from asi_arch.loop.grouping import group_by_model

    models = opened.cast.models
    if models is None or models.name("analyst") is None:
        return None
    return lambda hunks: group_by_model(models, id, hunks)
