"""A paper as numbered pages of text: from a PDF, an arXiv source folder, HTML or Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from asi_arch.cognition.tex import tex_sections
from asi_arch.errors import SetupError

MOST_PAGES = 60  # read at once
MOST_CHARACTERS = 240_000  # of all pages together; about 60,000 tokens
LEAST_CHARACTERS = 200  # in which a paper could say something
SECTION = 6_000  # characters after which text without headings is cut
HTML, MARKDOWN = (".html", ".htm"), (".md", ".markdown", ".txt")
SKIPPED = {"script", "style", "head", "nav", "footer", "svg", "annotation", "annotation-xml"}
BLOCKS = {"p", "div", "section", "article", "li", "tr", "br", "table", "ul", "ol", "figure", "blockquote"}
HEADINGS = {"h1", "h2", "h3", "h4"}
RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A paper's text. unit: what a number of `pages` counts, "page" or "section". stem: of its file."""

    stem: str
    unit: str
    pages: dict[int, str]


def read_document(path: Path, pages: str = "") -> Document:
    """Give the text of a paper by page, or by section where it has no pages.

    Args:
        path: a PDF, a folder of LaTeX source, or a .tex, HTML or Markdown file. Nothing is downloaded.
        pages: those to read, such as "1-12,30"; "" for all.

    Raises:
        SetupError: it cannot be read, has no text, or is longer than what is read at once; one line with
            the cure.
    """
    if not path.exists():
        raise SetupError(
            f"no file {path}; PAPER is a PDF, a folder of LaTeX source, or a .tex, HTML or Markdown file "
            "that you have downloaded"
        )
    suffix = path.suffix.lower()
    if suffix == ".pdf":
        return _sized(path, "page", _pdf_pages(path, pages))
    if path.is_dir() or suffix == ".tex":
        texts = tex_sections(path)
    elif suffix in HTML:
        texts = _html_sections(_text_of(path))
    elif suffix in MARKDOWN:
        texts = _markdown_sections(_text_of(path))
    else:
        known = ", ".join((".pdf", ".tex", *HTML, *MARKDOWN))
        raise SetupError(f"{path}: {path.suffix or 'no suffix'!r} is no kind of paper; known are {known}")
    numbered = dict(enumerate(_cut(texts), 1))
    chosen = chosen_pages(pages, len(numbered), "section", path)
    return _sized(path, "section", {number: numbered[number] for number in chosen})


def chosen_pages(pages: str, count: int, unit: str, path: Path) -> list[int]:
    """Give the numbers of the pages to read, in order.

    Raises:
        SetupError: the text names none, or a page that is not there, or there are too many.
    """
    if pages and not RANGES.fullmatch(pages.replace(" ", "")):
        raise SetupError(f"--pages {pages!r} names no pages; write such as 1-12 or 1-12,30")
    wanted = set() if pages else set(range(1, count + 1))
    for part in filter(None, pages.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= count:
            raise SetupError(f"--pages {part}: {path} has {unit}s 1 to {count}")
        wanted.update(range(low, high + 1))
    if len(wanted) > MOST_PAGES:
        raise SetupError(
            f"{path} has {len(wanted)} {unit}s, and {MOST_PAGES} are read at once; name those that matter, "
            f"such as --pages 1-{MOST_PAGES}"
        )
    return sorted(wanted)


def _sized(path: Path, unit: str, pages: dict[int, str]) -> Document:
    size = sum(len("".join(text.split())) for text in pages.values())
    if size < LEAST_CHARACTERS:
        cure = (
            "it may be scanned: run OCR on it (ocrmypdf does), or give its LaTeX source"
            if unit == "page"
            else "give a file with the paper's text"
        )
        raise SetupError(f"{path}: {size} characters of text on {len(pages)} {unit}s; {cure}")
    whole = sum(map(len, pages.values()))
    if whole > MOST_CHARACTERS:
        raise SetupError(
            f"{path}: {whole} characters of text, and {MOST_CHARACTERS} are read at once; name the {unit}s "
            f"that matter with --pages (it has {min(pages)} to {max(pages)})"
        )
    return Document(
        stem=path.resolve().stem if path.is_file() else path.resolve().name, unit=unit, pages=pages
    )


def _pdf_pages(path: Path, pages: str) -> dict[int, str]:
    import logging

    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns of each oddity of a file
    broken = (PyPdfError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise SetupError(f"{path}: it is locked with a password; save a copy without one")
        chosen = chosen_pages(pages, len(reader.pages), "page", path)
        return {number: reader.pages[number - 1].extract_text() for number in chosen}
    except broken as error:
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise SetupError(
            f"{path}: not a PDF that can be read: {why}; download it again, or give its LaTeX source"
        ) from None


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SetupError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None


def _markdown_sections(text: str) -> list[str]:
    return re.split(r"^(?=#{1,4} )", text, flags=re.MULTILINE)


def _html_sections(text: str) -> list[str]:
    reader = _Html()
    reader.feed(text)
    reader.close()
    return "".join(reader.parts).split("\f")


class _Html(HTMLParser):
    """Collects text; a heading begins with a form feed, a block with a line break."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._skipped: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag in SKIPPED:
            self._skipped.append(tag)
        if tag == "math":  # its text is spelled symbol by symbol; the author's own is in alttext
            self.handle_data(f" {dict(attrs).get('alttext') or ''} ")
            self._skipped.append(tag)
        if tag in HEADINGS:
            self.parts.append("\f")
        elif tag in BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._skipped:
            while self._skipped.pop() != tag:
                pass
        if tag in HEADINGS | BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.parts.append(data)


def _cut(texts: Sequence[str]) -> list[str]:
    """Give texts that say something, the long ones cut at paragraphs, or anywhere where there are none."""
    found = []
    for text in texts:
        rest = text.strip()
        while len(rest) > SECTION:
            at = rest.rfind("\n\n", SECTION // 2, SECTION)
            at = at if at > 0 else SECTION
            found.append(rest[:at].strip())
            rest = rest[at:].strip()
        if rest:
            found.append(rest)
    return found
