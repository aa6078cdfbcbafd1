"""What papers know: found, shown, listed, added to a study, confirmed, and learned from its results."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asi_arch.errors import ModelError, SetupError
from asi_arch.terminal import STUDY, StudyFolder, examples, print_table, print_text, print_title

if TYPE_CHECKING:
    from asi_arch.cognition.base import CognitionBase
    from asi_arch.papers import Cognition

app = typer.Typer(
    name="cognition",
    help="What papers know: search it, read it, add to it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
SPACE = "linear_attention"  # where neither a study nor a space is named and there is no study

Where = Annotated[
    Path | None, typer.Option("--study", metavar="DIR", help="With what this study knows by itself.")
]
Named = Annotated[str | None, typer.Option("--space", metavar="NAME", help="A space, without a study.")]
Values = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting; may be repeated.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="Such as 2412.06464/1.")]


@app.command(
    epilog=examples(
        'asi-arch cognition search "loses recall at long range"',
        'asi-arch cognition search "state saturates" --count 3 --set embedding=local',
        'asi-arch cognition search "state saturates" --read --study studies/first',
    )
)
def search(
    query: Annotated[str, typer.Argument(metavar="WORDS", help="A weakness or a mechanism in words.")],
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many, at most.")] = 5,
    study: Where = None,
    space: Named = None,
    values: Values = None,
    read: Annotated[
        bool, typer.Option("--read", help="Let the model of the role `reader` choose, as in a run.")
    ] = False,
) -> None:
    """Find what answers a weakness, and tell why it was found."""
    base, told = _opened(study, space, values)
    typer.echo(told, err=True)
    if read:
        from asi_arch.commands.reading import searched_and_read

        found = searched_and_read(base, query, count, _folder(study, space), values or ())
    else:
        found = base.search(query, count)
    if not found:
        raise SetupError(f"nothing is known of {query!r}; use the words of a metric or a mechanism")
    for match in found:
        print_title(f"{match.cognition.id}  {match.cognition.title}")
        print_text(f"{' '.join(match.cognition.trigger.split())}\n{match.why()}")


@app.command(epilog=examples("asi-arch cognition show 2412.06464/1", "asi-arch cognition show 2412.06464"))
def show(id: Id, study: Where = None, space: Named = None) -> None:
    """Print a piece of knowledge whole, or all of a paper."""
    base, _ = _opened(study, space, None)
    one = base.get(id)
    found = (one,) if one else base.by_paper(id)
    if not found:
        raise _unknown(id, base)
    for cognition in found:
        _print(cognition)


@app.command(
    name="list",
    epilog=examples(
        "asi-arch cognition list --theme fast_weights", "asi-arch cognition list --coverage > coverage.md"
    ),
)
def list_(
    theme: Annotated[str | None, typer.Option(metavar="NAME", help="Of this theme.")] = None,
    year: Annotated[int | None, typer.Option(metavar="Y", help="Of papers of this year.")] = None,
    paper: Annotated[str | None, typer.Option(metavar="NUMBER", help="Of this paper.")] = None,
    coverage: Annotated[bool, typer.Option("--coverage", help="All papers by theme, in Markdown.")] = False,
    study: Where = None,
    space: Named = None,
) -> None:
    """List what is known, by paper."""
    from asi_arch.cognition.coverage import coverage_page
    from asi_arch.report.tables import Table

    base, _ = _opened(study, space, None)
    if coverage:
        typer.echo(coverage_page(base), nl=False)
        return
    themes = {c.paper.theme for c in base.all()} - {""}
    if theme is not None and theme not in themes:
        raise SetupError(f"no theme {theme!r}; there are {', '.join(sorted(themes)) or 'none'}")
    if paper is not None and not base.by_paper(paper):
        raise _unknown(paper, base)
    found = [
        c
        for c in base.all()
        if theme in (None, c.paper.theme) and year in (None, c.paper.year) and paper in (None, c.paper.arxiv)
    ]
    if not found:
        raise SetupError(f"nothing is known of {year}; there are {_years(base)}")
    rows = tuple(
        (c.id, str(c.paper.year), c.paper.theme, c.title, "yes" if c.checked else "no") for c in found
    )
    print_table(Table(columns=("id", "year", "theme", "title", "checked"), rows=rows, text_columns=5))


@app.command(
    epilog=examples(
        "asi-arch cognition add paper.pdf --study studies/first",
        "asi-arch cognition add arXiv-2412.06464v3/ --model openai:gpt-5-mini --yes",
        "asi-arch cognition add thesis.pdf --pages 40-75",
    )
)
def add(
    paper: Annotated[
        Path, typer.Argument(metavar="PAPER", help="A PDF, a LaTeX folder, or a .tex, HTML or Markdown file.")
    ],
    study: StudyFolder = STUDY,
    pages: Annotated[str, typer.Option(metavar="RANGE", help="Pages to read, such as 1-12,30.")] = "",
    model: Annotated[str, typer.Option(metavar="PROVIDER:NAME", help="Else the study's.")] = "",
    values: Values = None,
    yes: Annotated[bool, typer.Option("--yes", help="Keep what the model wrote without a look.")] = False,
) -> None:
    """Have a language model read a paper into the study's own knowledge.

    It writes 1 to 3 pieces, each with a few quoted words and their pages as evidence; every quote is looked
    up in the paper. You may edit the file in $EDITOR before it is kept. It takes part at once in
    whatever the study recalls, also in a run that goes on.
    """
    from asi_arch.commands.reading import keep_read

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    chosen = [*(values or ()), *([f"model_extractor={model}"] if model else ())]
    try:
        keep_read(paper, study, pages, chosen, None if yes else editor)
    except ModelError as error:
        raise SetupError(f"{paper}: {error}; nothing was kept") from None


@app.command(epilog=examples("asi-arch cognition confirm 2412.06464/1 --study studies/first"))
def confirm(
    id: Id,
    study: StudyFolder = STUDY,
    source: Annotated[
        str, typer.Option(metavar="TEXT", help="What you read of the paper; else the quotes' pages.")
    ] = "",
) -> None:
    """Say that you have held a model's piece of knowledge against the paper."""
    from asi_arch.commands.reading import confirmed

    typer.echo(f"{confirmed(id, study, source)}: {id} is checked")


@app.command(epilog=examples("asi-arch cognition learn --study studies/first"))
def learn(study: StudyFolder = STUDY) -> None:
    """Turn what the study's repeated runs have shown into knowledge of its own.

    A lesson is an experiment with at least 3 runs at a stage, whose parent has as many, if a metric moved
    beyond the noise. What no longer holds is withdrawn.
    """
    from asi_arch.commands.lessons import learned

    kept, withdrawn = learned(study)
    for path in kept:
        typer.echo(f"learned: {path}")
    for path in withdrawn:
        typer.echo(f"withdrawn, since it no longer holds: {path}")
    if not kept:
        typer.echo("no lesson: no metric of an experiment differs from its parent's beyond the noise")


def _folder(study: Path | None, space: str | None) -> Path | None:
    """Give the study that is meant: the one that is named, else the default one if there is one."""
    from asi_arch.archive.folder import has_study

    return study or (STUDY if space is None and has_study(STUDY) else None)


def _opened(study: Path | None, space: str | None, values: list[str] | None) -> "tuple[CognitionBase, str]":
    """Open the knowledge of a study or a space; give it, and how it is recalled in one line."""
    from asi_arch.archive.folder import open_folder
    from asi_arch.cognition.base import OWN, CognitionBase
    from asi_arch.cognition.meaning import open_embedder, tell_recall
    from asi_arch.settings import Settings, given_values, with_values
    from asi_arch.space import load_space

    if study is not None and space is not None:
        raise SetupError("--study has a space already; leave out --space, or --study")
    settings, own, folder = Settings(space=space or SPACE), None, _folder(study, space)
    if folder is not None:
        settings, archive = open_folder(folder)
        archive.close()
        own = folder / OWN
    settings = with_values(settings, **given_values(None, values or ()))
    embedder = open_embedder(settings, os.environ)
    known = load_space(settings.space)
    base = CognitionBase(known.folder / "cognition", own, embedder, moves=known.moves())
    return base, tell_recall(embedder)


def _print(cognition: "Cognition") -> None:
    from asi_arch.cognition.paper import TEXT_KEYS

    paper = cognition.paper
    print_title(f"{cognition.id}  {cognition.title}")
    authors = f", {', '.join(paper.authors)}" if paper.authors else ""
    theme = f"; theme {paper.theme}" if paper.theme else ""
    checked = f"checked against {cognition.source}" if cognition.checked else "not checked by a person"
    lines = [f"{paper.title} ({paper.label}, {paper.year}{authors}){theme}; {checked}"]
    lines += [f"{name}: {getattr(cognition, name)}" for name in TEXT_KEYS if name != "title"]
    lines += [f"moves that do it: {', '.join(cognition.moves)}"] if cognition.moves else []
    lines += [f'evidence: "{quote.text}" ({quote.page})' for quote in cognition.quotes]
    print_text("\n".join(lines))


def _unknown(id: str, base: "CognitionBase") -> SetupError:
    from difflib import get_close_matches

    known = [c.id for c in base.all()] if "/" in id else list({c.paper.arxiv: 0 for c in base.all()})
    near = get_close_matches(id, known, n=3, cutoff=0.0)
    return SetupError(f"nothing is known as {id!r}; the nearest are {', '.join(near) or 'none: it is empty'}")


def _years(base: "CognitionBase") -> str:
    years = sorted({c.paper.year for c in base.all()})
    return f"papers of {years[0]} to {years[-1]}" if years else "none"
