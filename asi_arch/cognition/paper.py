"""One TOML file is one paper: read, checked key by key, and given as cognitions."""

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from asi_arch.errors import SetupError
from asi_arch.records import Cognition, Paper

ARXIV = re.compile(r"\d\d(0[1-9]|1[0-2])\.\d{4,5}")  # YYMM.number, in use since April 2007
PAPER_KEYS = ("arxiv", "title", "year", "authors", "cognition")
TEXT_KEYS = ("title", "trigger", "background", "method", "implementation", "effect")
COGNITION_KEYS = (*TEXT_KEYS, "checked", "source", "moves")


def read_paper(path: Path) -> tuple[Cognition, ...]:
    """Give the cognitions of a paper, numbered from 1 in the order of the file.

    Args:
        path: `<arXiv number>.toml`, with the keys `PAPER_KEYS`, where `cognition` is an array of tables
            with the keys `TEXT_KEYS`. `year` is the year in the arXiv number. `authors`, `checked` with
            `source`, and `moves` may be left out.

    Raises:
        SetupError: one line with the file, the key, the fault and its cure.
    """
    if not ARXIV.fullmatch(path.stem):
        raise SetupError(f"{path}: {path.stem!r} is no arXiv number; name the file like 2412.06464.toml")
    table = _parse(path)
    _refuse_unknown(path, "", table, PAPER_KEYS)
    paper = _paper(path, table)
    items = _value(path, "cognition", table, "cognition")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _fault(path, "cognition", f"{items!r} is not a list of tables", "write [[cognition]] tables")
    if not items:
        raise _fault(path, "cognition", "empty", "add a [[cognition]] table or remove the file")
    return tuple(_cognition(path, number, item, paper) for number, item in enumerate(items, 1))


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SetupError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"{path}: not valid TOML: {error}; see docs/cognition.md for an example") from None
    except OSError as error:
        raise SetupError(f"{path}: cannot be read: {error.strerror}; mend or remove it") from None


def _paper(path: Path, table: Mapping[str, Any]) -> Paper:
    arxiv, title = (_text(path, key, table, key) for key in ("arxiv", "title"))
    if arxiv != path.stem:
        raise _fault(path, "arxiv", f"{arxiv!r} differs from the file's name", f"write {path.stem!r}")
    year, expected = _value(path, "year", table, "year"), 2000 + int(arxiv[:2])
    if not isinstance(year, int) or isinstance(year, bool):
        raise _fault(path, "year", f"{year!r} is not a whole number", f"write {expected}")
    if year != expected:
        raise _fault(path, "year", f"{year}, but the number {arxiv} is of {expected}", f"write {expected}")
    return Paper(arxiv=arxiv, title=title, year=year, authors=_names(path, "authors", table, "authors"))


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
    moves = _names(path, where + "moves", table, "moves")
    return Cognition(
        id=f"{paper.arxiv}/{number}",
        paper=paper,
        checked=checked,
        source=source.strip(),
        moves=moves,
        **texts,
    )


def _names(path: Path, where: str, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = table.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise _fault(path, where, f"{names!r} is not a list of names", 'write a list such as ["One", "Two"]')
    return tuple(names)


def _refuse_unknown(path: Path, where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            cure = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
            raise _fault(path, where + key, "unknown", cure)


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
