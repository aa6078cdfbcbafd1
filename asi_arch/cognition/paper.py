"""One TOML file is one paper: read, checked key by key, and given as cognitions."""

import re
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from asi_arch.errors import SetupError
from asi_arch.papers import ARXIV, Cognition, Paper, Quote

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")  # of a study's own file
THEMES = "themes.toml"  # beside the papers: the themes of a space, each with its one line
PAPER_KEYS = ("arxiv", "title", "year", "authors", "theme", "cognition")
TEXT_KEYS = ("title", "trigger", "background", "method", "implementation", "effect")
COGNITION_KEYS = (*TEXT_KEYS, "checked", "source", "moves", "quotes")
QUOTE_KEYS = ("page", "text")
LONGEST_QUOTE = 8  # words
YEARS = range(1900, 2101)


def read_themes(folder: Path) -> dict[str, str]:
    """Give the themes of a folder of papers with their one line each; {} where it names none.

    Raises:
        SetupError: one line with the file, the fault and its cure.
    """
    path = folder / THEMES
    if not path.exists():
        return {}
    table = _parse(path)
    for key in table:
        _text(path, key, table, key)
    return {key: str(value).strip() for key, value in table.items()}


def read_paper(
    path: Path, themes: Collection[str] = (), own: bool = False, moves: Collection[str] = ()
) -> tuple[Cognition, ...]:
    """Give the cognitions of a paper, numbered from 1 in the order of the file.

    Args:
        path: `<arXiv number>.toml`, with the keys `PAPER_KEYS`, where `cognition` is an array of tables
            with the keys `TEXT_KEYS`. `year` is the year in the arXiv number. `authors`, `checked` with
            `source`, `moves` and `quotes` may be left out.
        themes: when there are any, `theme` is required and is one of them.
        own: it is a study's own file: it may have any plain name, which then stands in the key `name`
            in the place of `arxiv`, and it needs no theme.
        moves: of the grammar; when there are any, `moves` are among them.

    Raises:
        SetupError: one line with the file, the key, the fault and its cure.
    """
    numbered = bool(ARXIV.fullmatch(path.stem))
    if not numbered and not own:
        raise SetupError(f"{path}: {path.stem!r} is no arXiv number; name the file like 2412.06464.toml")
    if not NAME.fullmatch(path.stem):
        raise SetupError(
            f"{path}: {path.stem!r} is no plain name; use up to 64 small letters, digits, '_', '-' and '.'"
        )
    table = _parse(path)
    keys = PAPER_KEYS if numbered else ("name", *PAPER_KEYS[1:])
    _refuse_unknown(path, "", table, keys)
    paper = _paper(path, table, keys[0])
    _check_theme(path, table, paper.theme, themes, own)
    items = _value(path, "cognition", table, "cognition")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _fault(path, "cognition", f"{items!r} is not a list of tables", "write [[cognition]] tables")
    if not items:
        raise _fault(path, "cognition", "empty", "add a [[cognition]] table or remove the file")
    found = tuple(_cognition(path, number, item, paper) for number, item in enumerate(items, 1))
    for number, cognition in enumerate(found, 1):
        _check_moves(path, f"cognition[{number}].moves", cognition, moves)
    return found


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SetupError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"{path}: not valid TOML: {error}; see docs/cognition.md for an example") from None
    except OSError as error:
        raise SetupError(f"{path}: cannot be read: {error.strerror}; mend or remove it") from None


def _paper(path: Path, table: Mapping[str, Any], key: str) -> Paper:
    id, title = (_text(path, k, table, k) for k in (key, "title"))
    if id != path.stem:
        raise _fault(path, key, f"{id!r} differs from the file's name", f"write {path.stem!r}")
    year = _value(path, "year", table, "year")
    expected = 2000 + int(id[:2]) if key == "arxiv" else None
    if not isinstance(year, int) or isinstance(year, bool):
        raise _fault(path, "year", f"{year!r} is not a whole number", f"write {expected or 'such as 2024'}")
    if expected is None and year not in YEARS:
        raise _fault(path, "year", f"{year} is no year of our time", "write the year of the paper")
    if expected is not None and year != expected:
        raise _fault(path, "year", f"{year}, but the number {id} is of {expected}", f"write {expected}")
    theme = _text(path, "theme", table, "theme") if "theme" in table else ""
    authors = _names(path, "authors", table, "authors")
    return Paper(arxiv=id, title=title, year=year, authors=authors, theme=theme)


def _check_theme(
    path: Path, table: Mapping[str, Any], theme: str, themes: Collection[str], own: bool
) -> None:
    if not themes or (own and "theme" not in table):
        return
    if not theme:
        raise _fault(path, "theme", "missing", f"write one of {', '.join(themes)}")
    if theme not in themes:
        cure = _meant(theme, themes, f"write one of {', '.join(themes)}")
        raise _fault(path, "theme", f"{theme!r} is none of {THEMES}", cure)


def _check_moves(path: Path, where: str, cognition: Cognition, moves: Collection[str]) -> None:
    for name in cognition.moves if moves else ():
        if name not in moves:
            cure = _meant(name, moves, "leave it out, or name one that does what is said")
            raise _fault(path, where, f"{name!r} is no move of the grammar", cure)


def _cognition(path: Path, number: int, table: Mapping[str, Any], paper: Paper) -> Cognition:
    where = f"cognition[{number}]."
    _refuse_unknown(path, where, table, COGNITION_KEYS)
    texts = {key: _text(path, where + key, table, key) for key in TEXT_KEYS}
    checked, source = table.get("checked", False), table.get("source", "")
    if not isinstance(checked, bool):
        raise _fault(path, where + "checked", f"{checked!r} is not true or false", "write true or false")
    if not isinstance(source, str):
        raise _fault(path, where + "source", f"{source!r} is not a text", "put it in quotes")
    if checked != bool(source.strip()):
        cure = (
            "name the part of the paper that was read" if checked else "leave it out, or write checked = true"
        )
        raise _fault(path, where + "source", f"{source!r} beside checked = {str(checked).lower()}", cure)
    return Cognition(
        id=f"{paper.arxiv}/{number}",
        paper=paper,
        checked=checked,
        source=source.strip(),
        moves=_names(path, where + "moves", table, "moves"),
        quotes=_quotes(path, where + "quotes", table),
        **texts,
    )


def _quotes(path: Path, where: str, table: Mapping[str, Any]) -> tuple[Quote, ...]:
    items = table.get("quotes", [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        cure = 'write a list such as [{ page = 3, text = "a few words" }]'
        raise _fault(path, where, f"{items!r} is not a list of quotes", cure)
    for item in items:
        _refuse_unknown(path, where + ".", item, QUOTE_KEYS)
        page, text = _value(path, where + ".page", item, "page"), _text(path, where + ".text", item, "text")
        if not isinstance(page, int) or isinstance(page, bool) or page < 1:
            raise _fault(path, where + ".page", f"{page!r} is no page", "write a whole number from 1 on")
        if len(text.split()) > LONGEST_QUOTE:
            cure = f"quote at most {LONGEST_QUOTE} words and say the rest in your own"
            raise _fault(path, where + ".text", f"{len(text.split())} words", cure)
    return tuple(Quote(page=item["page"], text=item["text"].strip()) for item in items)


def _names(path: Path, where: str, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = table.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise _fault(path, where, f"{names!r} is not a list of names", 'write a list such as ["One", "Two"]')
    return tuple(names)


def _refuse_unknown(path: Path, where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            cure = _meant(key, known, f"known keys are {', '.join(known)}")
            raise _fault(path, where + key, "unknown", cure)


def _meant(name: str, known: Collection[str], otherwise: str) -> str:
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise


def _value(path: Path, where: str, table: Mapping[str, Any], key: str) -> Any:
    if key not in table:
        raise _fault(path, where, "missing", f"add the key {key!r}")
    return table[key]


def _text(path: Path, where: str, table: Mapping[str, Any], key: str) -> str:
    value = _value(path, where, table, key)
    if not isinstance(value, str):
        raise _fault(path, where, f"{value!r} is not a text", "put it in quotes")
    if not value.strip():
        raise _fault(path, where, "empty", "say it in a sentence or more")
    return value.strip()


def _fault(path: Path, key: str, fault: str, cure: str) -> SetupError:
    return SetupError(f"{path}: {key}: {fault}; {cure}")
