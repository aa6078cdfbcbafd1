"""Which papers a base covers, by theme and year, as a page of Markdown."""

from collections.abc import Iterable

from asi_arch.cognition.base import CognitionBase
from asi_arch.papers import Cognition


def coverage_page(base: CognitionBase) -> str:
    """Give the page: how many papers each theme has a year, then the papers of each theme."""
    papers: dict[str, list[Cognition]] = {}
    for cognition in base.all():
        papers.setdefault(cognition.paper.arxiv, []).append(cognition)
    themes = dict(base.themes)
    for cognition in base.all():
        themes.setdefault(cognition.paper.theme, "" if cognition.paper.theme else "Without a theme")
    checked = sum(cognition.checked for cognition in base.all())
    head = (
        "# Which papers the cognition base covers\n\n"
        f"{len(papers)} papers with {len(base.all())} cognitions, of which {checked} were checked against "
        "the paper's own text. Made by `asi-arch cognition list --coverage`; a test holds it to the base.\n"
    )
    by_theme = {theme: [own for own in papers.values() if own[0].paper.theme == theme] for theme in themes}
    sections = [_section(theme, line, by_theme[theme]) for theme, line in themes.items() if by_theme[theme]]
    return "\n".join([head, *_by_year(by_theme), *sections])


def _by_year(by_theme: dict[str, list[list[Cognition]]]) -> list[str]:
    years = sorted({own[0].paper.year for papers in by_theme.values() for own in papers})
    spans = [years[i : i + 1] for i in range(len(years))]
    early = [year for year in years if year < 2020]
    if len(early) > 1:
        spans = [early, *([year] for year in years if year >= 2020)]
    names = [str(span[0]) if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans]
    lines = [_row(["theme", *names, "all"]), _row(["---"] * (len(spans) + 2))]
    for theme, papers in by_theme.items():
        counts = [sum(own[0].paper.year in span for own in papers) for span in spans]
        lines.append(_row([theme or "none", *(str(n or "") for n in counts), str(len(papers))]))
    return ["## Papers by theme and year\n", *lines, ""]


def _section(theme: str, line: str, papers: list[list[Cognition]]) -> str:
    rows = [
        _row(
            [
                own[0].paper.arxiv,
                own[0].paper.title.replace("|", "\\|"),
                str(own[0].paper.year),
                str(len(own)),
                f"{sum(c.checked for c in own)} of {len(own)}",
            ]
        )
        for own in papers
    ]
    head = [_row(["paper", "title", "year", "cognitions", "checked"]), _row(["---"] * 5)]
    title = f"## {line} (`{theme}`)" if theme else f"## {line}"
    return "\n".join([title, "", *head, *rows, ""])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
