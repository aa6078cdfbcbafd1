"""The command that puts studies side by side: `compare`."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from asi_arch.errors import SetupError
from asi_arch.terminal import print_table


def compare(
    studies: Annotated[list[Path], typer.Argument(metavar="STUDY...", help="Folders of studies.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the figure goes.")] = Path(
        "studies/compare.png"
    ),
) -> None:
    """Put studies side by side.

    Studies of equal settings are repeats of each other, whatever their seed; what sets groups apart names
    them. It prints a table at the same number of candidates for all, and draws the best so far over
    candidates and over processor time, with the range of repeats.
    """
    from asi_arch.report.compare import compare_table, draw_compare, group_studies
    from asi_arch.report.view import View
    from asi_arch.study import Study

    named = []
    places = [folder.resolve() for folder in studies]
    for folder, place in zip(studies, places, strict=True):
        if places.count(place) > 1:
            raise SetupError(f"{folder} is named twice, and would count as two repeats; name it once")
    for folder in studies:
        with closing(Study.open(folder)) as opened:
            experiments = tuple(opened.archive.experiments())
            named.append(
                (
                    folder.name,
                    View(space=opened.space, settings=opened.settings, experiments=experiments),
                )
            )
    groups = group_studies(named)
    print_table(compare_table(groups))
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_compare(groups, out)
    typer.echo(f"figure: {out}")
