"""What commands print with, and the options that they share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from asi_arch.report.tables import Table

PLAIN_WIDTH = 180  # columns of tables that go to a file or a pipe
WIDEST = 10_000  # columns of a console that would be wide enough for every table
SHORT = 24  # words of a table up to this length are never broken into lines
STUDY = Path("studies/default")

StudyFolder = Annotated[Path, typer.Option("--study", metavar="DIR", help="Folder of the study.")]
SpaceName = Annotated[
    str, typer.Option("--space", metavar="NAME", help="A built-in space or a dotted module.")
]
Workers = Annotated[
    int, typer.Option("--workers", metavar="N", min=0, help="Jobs at once; 0: one for each processor.")
]
Contained = Annotated[
    bool, typer.Option("--require-isolation", help="Refuse to run where a candidate's code is not contained.")
]


def examples(*lines: str) -> str:
    """Give the end of a help text."""
    keep_lines = "\b\n"  # click's mark for a paragraph that is not to be wrapped
    return keep_lines + "\n".join(["Examples:", *(f"  {line}" for line in lines)])


def console() -> "Console":
    """Give the console of this process; where there is no terminal, one that is wide and plain."""
    from rich.console import Console

    found = Console(highlight=False)
    if found.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return found
    return Console(highlight=False, width=PLAIN_WIDTH)


def print_table(table: "Table") -> None:
    """Print a table of a report; where the console is too narrow for its columns, each row as some lines."""
    from rich import box
    from rich.measure import Measurement
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for i, title in enumerate(table.columns):
        cells = [row[i] for row in table.rows]
        if i < table.text_columns:
            shown.add_column(Text(title), no_wrap=all(len(cell) <= SHORT for cell in cells))
        else:  # a number is never broken, a gain may be before its noise
            longest = max((len(word) for cell in cells for word in cell.split()), default=0)
            shown.add_column(Text(title, justify="right"), justify="right", min_width=longest)
    for i, row in enumerate(table.rows):
        shown.add_row(*map(Text, row), style="bold" if i in table.marked else "")
    screen = console()
    if Measurement.get(screen, screen.options.update(max_width=WIDEST), shown).minimum <= screen.width:
        screen.print(shown)
        return
    for i, row in enumerate(table.rows):
        screen.print(Text(" ".join(row[:2]), style="bold" if i in table.marked else ""))
        facts = [f"{title} {cell}" for title, cell in zip(table.columns[2:], row[2:], strict=True)]
        screen.print(Padding(Text("; ".join(facts)), (0, 0, 0, 2)))


def print_title(title: str) -> None:
    """Print a heading."""
    typer.secho(title, bold=True)


def print_text(text: str, is_diff: bool = False) -> None:
    """Print text, wrapped at words on a terminal; a difference keeps its lines, coloured."""
    from rich.text import Text

    shown = console()
    colours = {"+": "green", "-": "red", "@": "cyan"} if is_diff else {}
    for line in text.splitlines():
        styled = Text(line, style=colours.get(line[:1], ""))
        shown.print(styled, soft_wrap=is_diff or not shown.is_terminal)
    shown.print()
