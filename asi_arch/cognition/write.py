"""Cognitions as a TOML file that `paper.read_paper` reads, and a study's folder of them."""

import json
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from asi_arch.cognition.paper import TEXT_KEYS
from asi_arch.errors import SetupError
from asi_arch.papers import ARXIV, Cognition

WIDTH = 110


def to_toml(cognitions: Sequence[Cognition]) -> str:
    """Give the cognitions of one paper as a file."""
    paper = cognitions[0].paper
    lines = [
        f"{'arxiv' if ARXIV.fullmatch(paper.arxiv) else 'name'} = {_line(paper.arxiv)}",
        f"title = {_line(paper.title)}",
        f"year = {paper.year}",
    ]
    lines += [f"authors = {_list(paper.authors)}"] if paper.authors else []
    lines += [f"theme = {_line(paper.theme)}"] if paper.theme else []
    return "\n".join([*lines, *(line for cognition in cognitions for line in _table(cognition))]) + "\n"


def _table(cognition: Cognition) -> list[str]:
    lines = ["", "[[cognition]]", f"title = {_line(cognition.title)}"]
    lines += [f"{key} = {_block(getattr(cognition, key))}" for key in TEXT_KEYS if key != "title"]
    lines += [f"checked = true\nsource = {_line(cognition.source)}"] if cognition.checked else []
    lines += [f"moves = {_list(cognition.moves)}"] if cognition.moves else []
    quotes = [f"  {{ page = {quote.page}, text = {_line(quote.text)} }}," for quote in cognition.quotes]
    return [*lines, "quotes = [", *quotes, "]"] if quotes else lines


def _line(text: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in text)
    return json.dumps(plain, ensure_ascii=False)


def _list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(map(_line, texts)) + "]"


def _block(text: str) -> str:
    """Give a text in three quotes, its long lines wrapped."""
    rows = [row for line in text.strip().splitlines() for row in (textwrap.wrap(line, WIDTH) or [""])]
    plain = ["".join(c if c.isprintable() else " " for c in row) for row in rows]
    return '"""\n' + "\n".join(row.replace("\\", "\\\\").replace('"', '\\"') for row in plain) + '\n"""'


def keep(folder: Path, name: str, text: str) -> Path:
    """Write a study's own file whole, in the place of one that is there; make the folder if need be.

    Raises:
        SetupError: it cannot be written.
    """
    path = folder / f"{name}.toml"
    draft = folder / f".{name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror}; make the folder writable") from None
    return path
