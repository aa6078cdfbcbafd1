"""LaTeX source as sections of text: the main file is found, what it includes is put in its place."""

import re
from pathlib import Path

from asi_arch.errors import SetupError

COMMENT = re.compile(r"(?<!\\)%.*")
INCLUDE = re.compile(r"\\(?:input|include|subfile)\s*\{([^}]+)\}|\\input\s+([^\s{}\\]+)")
SECTION = re.compile(r"(?=\\(?:sub)?section\*?\s*[\[{])")
BODY = re.compile(r"\\begin\{document\}(.*?)(?:\\end\{document\}|\Z)", re.DOTALL)
TITLE = re.compile(r"\\title\s*(?:\[[^]]*\])?\s*\{")
DEEPEST = 20  # files within files


def tex_sections(path: Path) -> list[str]:
    """Give the text of LaTeX source by section, formulas as they are written, without comments.

    Args:
        path: a .tex file, or a folder, of which the file that begins a document is taken; of several, the
            one that comes to the longest text.

    Raises:
        SetupError: there is no such file, or one cannot be read.
    """
    main = path if path.is_file() else _main_file(path)
    whole = _resolved(main, main.parent, ())
    body = BODY.search(whole)
    title = _braced(whole, TITLE)
    sections = SECTION.split(body[1] if body else whole)
    return [f"Title: {title}\n\n{sections[0]}" if title else sections[0], *sections[1:]]


def _main_file(folder: Path) -> Path:
    found = sorted(folder.rglob("*.tex"))
    mains = [path for path in found if r"\documentclass" in COMMENT.sub("", _read(path))]
    if not mains:
        what = f"{len(found)} .tex files and none begins a document" if found else "no .tex file"
        raise SetupError(f"{folder}: {what}; name the main file itself, or give the PDF")
    return max(mains, key=lambda path: (len(_resolved(path, path.parent, ())), path.name == "main.tex"))


def _resolved(path: Path, root: Path, within: tuple[Path, ...]) -> str:
    """Give a file's text with what it includes in place; what is not there or outside stays named."""

    def put_in(found: re.Match[str]) -> str:
        name = (found[1] or found[2]).strip()
        for candidate in (root / name, root / f"{name}.tex"):
            inside = candidate.resolve().is_relative_to(root.resolve())
            if inside and candidate.is_file() and candidate not in within and len(within) < DEEPEST:
                return _resolved(candidate, root, (*within, candidate))
        return found[0]

    return INCLUDE.sub(put_in, COMMENT.sub("", _read(path)))


def _read(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # the other encoding of LaTeX sources; every byte has a meaning in it


def _braced(text: str, opening: re.Pattern[str]) -> str:
    """Give what stands between the brace that a pattern ends with and its partner; "" for none."""
    found = opening.search(text)
    if found is None:
        return ""
    depth = 1
    for place in range(found.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return " ".join(text[found.end() : place].split())
    return ""
