"""The command line: parses, calls, prints. Every command imports what it needs when it is called."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from asi_arch.commands import ablation, cognition, comparison, verification
from asi_arch.errors import SetupError
from asi_arch.mcp_server import mcp
from asi_arch.terminal import (
    STUDY,
    Contained,
    SpaceName,
    StudyFolder,
    Workers,
    console,
    examples,
    print_table,
    print_text,
    print_title,
)

if TYPE_CHECKING:
    from asi_arch.report.view import View
    from asi_arch.space import Space
    from asi_arch.study import Study

NAME = "asi-arch"

app = typer.Typer(
    name=NAME,
    help="Architecture research that runs by itself: it proposes, checks, trains, compares and remembers.",
    epilog="Start with `asi-arch doctor`, then `asi-arch run`. Each command explains itself with --help.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command(
    epilog=examples(
        "asi-arch run",
        "asi-arch run --experiments 60 --workers 2 --study studies/long",
        "asi-arch run --space toy --experiments 30 --set cold_start=8",
        "asi-arch run --without cognition --without analyst --study studies/blind",
        "asi-arch run --control best_of_n --study studies/control",
    )
)
def run(
    study: StudyFolder = STUDY,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Space of a new study.")] = None,
    experiments: Annotated[int | None, typer.Option(metavar="N", help="Candidates to reach in all.")] = None,
    hours: Annotated[
        float | None, typer.Option(metavar="H", help="Stop asking for candidates after so long.")
    ] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="At once; 0: one a processor.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Random seed of a new study.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings as a TOML file.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting; may be repeated.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Without cognition, analyst, judge or novelty; may be repeated."),
    ] = None,
    control: Annotated[
        str | None, typer.Option(metavar="NAME", help="random or best_of_n chooses parents: a new study's.")
    ] = None,
    contained: Contained = False,
) -> None:
    """Start a study or go on with one.

    The baselines are measured first, then candidates are proposed, checked, trained and compared until
    there are as many as asked for; a table and a report end it. It may be stopped at any time: Ctrl-C
    once gives up what runs now and ends, and the same command later goes on. A study that exists keeps
    its space, seed and stage; how many experiments, hours and workers may change.
    """
    from asi_arch.controls import control_values, without_of
    from asi_arch.settings import given_values
    from asi_arch.study import Study

    given = given_values(config, values or ())
    given |= {"without": without_of(",".join(without).split(","))} if without else {}
    given |= control_values(control, given) if control else {}
    options = {"space": space, "experiments": experiments, "hours": hours, "workers": workers, "seed": seed}
    given |= {key: value for key, value in options.items() if value is not None}
    _require_isolation(contained)
    with closing(Study.open_or_create(study, given)) as opened:
        _tell_isolation(opened.space, always=True)
        stopped = _watched(opened)
        view = _view(opened)
    _print_standing(view)
    if stopped:
        typer.echo("stopped; the same command goes on from here")
        raise typer.Exit(130)
    _write_report(view, study / "report")


@app.command()
def best(
    study: StudyFolder = STUDY,
    count: Annotated[int, typer.Option(metavar="N", min=0, help="How many candidates.")] = 10,
) -> None:
    """Print the best candidates among all baselines."""
    view = _opened_view(study)
    _print_standing(view, count)


@app.command(
    epilog=examples(
        "asi-arch show 17",
        "asi-arch show 17 --source > my_mixer.py",
    )
)
def show(
    id: Annotated[int, typer.Argument(metavar="ID", help="Number of an experiment.")],
    study: StudyFolder = STUDY,
    source: Annotated[bool, typer.Option("--source", help="Print its source and nothing else.")] = False,
) -> None:
    """Tell the whole story of an experiment.

    What its author was told, motivation, difference to its parent, attempts, checks, scores, details,
    cost, what it taught, and what language models were asked for it.
    """
    from asi_arch.report.story import tell
    from asi_arch.study import Study

    with closing(Study.open(study)) as opened:
        view, calls = _view(opened), opened.archive.calls(id)
    by_id = {e.id: e for e in view.experiments}
    if id not in by_id:
        raise SetupError(f"no experiment {id} in {study}; it has 1 to {max(by_id, default=0)}")
    proposal = by_id[id].proposal
    if source:
        typer.echo(proposal.source if proposal else "", nl=False)
        return
    for part in tell(view, by_id[id], calls):
        print_title(part.title)
        if isinstance(part.body, str):
            print_text(part.body, part.is_diff)
        else:
            print_table(part.body)


@app.command(
    epilog=examples(
        "asi-arch check my_mixer.py",
        "asi-arch check --json *.py | grep '\"passed\": false'",
    )
)
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Sources to check.")],
    space: SpaceName = "linear_attention",
    workers: Workers = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    train: Annotated[bool, typer.Option(help="Train for a moment, for the checks after training.")] = True,
    contained: Contained = False,
) -> None:
    """Run all checks on your own sources.

    Exit code 0: all passed. 1: one failed. 2: a file cannot be read; then nothing is checked. With
    --json each line is {"file", "passed", "failed": [names], "checks": [{"name", "passed", "message"}]},
    in the order of the files.
    """
    from asi_arch.doctor import cores
    from asi_arch.report.story import checks_table
    from asi_arch.space import load_space
    from asi_arch.verdicts import judge, read_sources

    sources, chosen = read_sources(files), load_space(space)
    _require_isolation(contained)
    _tell_isolation(chosen)
    failed = False
    for judgement in judge(chosen, sources, workers or cores(), train):
        failed |= bool(judgement.failed)
        if as_json:
            typer.echo(json.dumps(judgement.as_json()))
        else:
            outcome = f"failed {', '.join(judgement.failed)}" if judgement.failed else "passed"
            print_title(f"{judgement.file}: {outcome}")
            print_table(checks_table(judgement.checks))
    raise typer.Exit(1 if failed else 0)


@app.command(epilog=examples('asi-arch submit my_mixer.py --motivation "two decay rates, for near and far"'))
def submit(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Source of your architecture.")],
    motivation: Annotated[str, typer.Option(metavar="TEXT", help="Why it should be better.")],
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="Its name; else the file's.")] = None,
    cognitions: Annotated[
        list[str] | None,
        typer.Option("--cognition", metavar="ID", help="Of knowledge that it rests on; may be repeated."),
    ] = None,
    study: StudyFolder = STUDY,
) -> None:
    """Enter your own architecture into a study.

    The next run measures it, or one that is running now.
    """
    from asi_arch.study import Study
    from asi_arch.verdicts import read_sources

    [(_, text)] = read_sources([file])
    with closing(Study.open(study)) as opened:
        number = opened.submit(name or Path(file).stem, text, motivation, cognitions or ())
    typer.echo(f"experiment {number}; `asi-arch run` measures it, `asi-arch show {number}` shows it")


app.command(epilog=examples("asi-arch mcp --study studies/agents", "asi-arch mcp --http --experiments 32"))(
    mcp
)


app.command(
    epilog=examples("asi-arch verify --top 5", "asi-arch verify --study studies/long --top 3 --most 5")
)(verification.verify)
app.command(epilog=examples("asi-arch ablate 17", "asi-arch ablate 17 --seeds 5"))(ablation.ablate)
app.command(epilog=examples("asi-arch compare studies/*", "asi-arch compare studies/a studies/b"))(
    comparison.compare
)
app.command(epilog=examples("asi-arch discoveries", "asi-arch discoveries --json"))(verification.discoveries)
app.add_typer(cognition.app)


@app.command()
def report(
    study: StudyFolder = STUDY,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Else a folder in the study's.")] = None,
) -> None:
    """Write the report: tables in Markdown, figures as PNG files."""
    _write_report(_opened_view(study), out or study / "report")


@app.command(epilog=examples("asi-arch baselines --seeds 3 --stage replicate"))
def baselines(
    space: SpaceName = "linear_attention",
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="Runs of each baseline, with seeds from 0 on.")
    ] = 3,
    stage: Annotated[str, typer.Option(metavar="NAME", help="Stage of the space.")] = "explore",
    workers: Workers = 0,
    folder: Annotated[Path, typer.Option("--study", metavar="DIR", help="Where runs are kept.")] = Path(
        "studies/baselines"
    ),
    contained: Contained = False,
) -> None:
    """Measure all baselines over several seeds.

    Prints mean and deviation of every metric, and the noise pooled over the baselines; that of a
    difference of two runs is what a space's scale should be. A measurement that was stopped goes on
    where it was, and more seeds may be added later.
    """
    from asi_arch.calibrate import measure_baselines, noise_of
    from asi_arch.doctor import cores
    from asi_arch.report.tables import noise_of_runs, runs_table
    from asi_arch.space import load_space

    chosen = load_space(space)
    if stage not in chosen.stages:
        raise SetupError(f"space {space!r} has no stage {stage!r}; it has {', '.join(chosen.stages)}")
    _require_isolation(contained)
    _tell_isolation(chosen)
    runs = measure_baselines(
        chosen, chosen.stages[stage], seeds, workers or cores(), folder / space, typer.echo
    )
    print_table(runs_table(runs, chosen.metrics))
    print_table(noise_of_runs(noise_of(chosen, runs), chosen.metrics, stage))


@app.command()
def doctor() -> None:
    """Say what this machine has and lacks, with cures."""
    from asi_arch.doctor import examine_machine
    from asi_arch.report.tables import Table

    rows = tuple((symptom.name, symptom.state, symptom.cure) for symptom in examine_machine())
    print_table(Table(columns=("", "found", "what to do"), rows=rows, text_columns=3))


@app.command()
def settings() -> None:
    """Print all settings, as --config takes them."""
    from asi_arch.settings import Settings, to_toml

    typer.echo(to_toml(Settings()), nl=False)


def main() -> None:
    """Run the command line; a user's fault is one line on stderr and exit code 2."""
    try:
        code = app(prog_name=NAME, standalone_mode=False)  # of a command that raised typer.Exit; else None
        sys.exit(code)
    except TyperException as error:
        typer.echo(_told(error), err=True)
        sys.exit(2)
    except typer.Abort:
        typer.echo("given up", err=True)
        sys.exit(1)
    except SetupError as error:
        typer.echo(f"asi-arch: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        typer.echo(f"asi-arch: cannot use{place}: {error.strerror or error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped at once; what had ended is kept", err=True)
        sys.exit(130)


def _told(error: TyperException) -> str:
    """Tell what is wrong with a command line in one line; one without words gets the help."""
    context, said = getattr(error, "ctx", None), error.format_message().strip()
    if "\n" in said:
        return said
    command = context.command_path if context else NAME
    return f"{command}: {said.rstrip('.')}; `{command} --help` tells what it takes"


def _require_isolation(required: bool) -> None:
    """Refuse, when that is asked for, a machine that cannot contain a candidate's code."""
    if required:
        from asi_arch.engineer.isolation import detect, require_isolation

        require_isolation(detect())


def _tell_isolation(space: "Space", always: bool = False) -> None:
    """Say what contains a candidate's code, if the space runs any: on stderr, when it is weak or `always`."""
    if space.hostile:
        from asi_arch.engineer.isolation import detect

        found = detect()
        if always or found.level == "weak":
            advice = f"; for more: {found.cure}" if found.level == "weak" else ""
            typer.echo(f"isolation {found.state}{advice}", err=True)


def _watched(study: "Study") -> bool:
    """Run a study before a person's eyes; tell whether it was stopped."""
    from threading import Event

    from asi_arch.live import Board, LiveWatch, PlainWatch, stop_on_interrupt

    screen, stop = console(), Event()
    board = Board(_view(study))
    watch = LiveWatch(board, screen) if screen.is_terminal else PlainWatch(board)
    with stop_on_interrupt(stop, watch.message) as told, watch:
        study.run(watch, stop)
        told()
    return stop.is_set()


def _view(study: "Study") -> "View":
    from asi_arch.loop.verify import replication_of
    from asi_arch.report.view import View

    known = replication_of(study.bench)
    experiments = tuple(study.archive.experiments())
    return View(
        space=study.space,
        settings=study.settings,
        experiments=experiments,
        replication=known if known.reruns else None,
    )


def _opened_view(folder: Path) -> "View":
    from asi_arch.study import Study

    with closing(Study.open(folder)) as study:
        return _view(study)


def _print_standing(view: "View", count: int = 5) -> None:
    from asi_arch.report.markdown import summary
    from asi_arch.report.tables import leaderboard

    print_table(leaderboard(view, count, full=False))
    print_text(summary(view))


def _write_report(view: "View", folder: Path) -> None:
    from asi_arch.report.markdown import write_report

    typer.echo(f"report: {write_report(view, folder)}")
