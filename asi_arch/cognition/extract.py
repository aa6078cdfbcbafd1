"""From a paper's text to pieces of knowledge: a language model writes them, and every quote is looked up."""

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from asi_arch.cognition.document import Document
from asi_arch.cognition.paper import LONGEST_QUOTE, YEARS
from asi_arch.errors import SetupError
from asi_arch.llm.answers import told
from asi_arch.llm.models import Models, Question
from asi_arch.papers import ARXIV, Cognition, Paper, Quote
from asi_arch.space import Space

ROLE = "extractor"
PROMPT = Path(__file__).parent / "prompts" / "extractor.md"
MOST = 3  # pieces of knowledge of a paper
LEAST = {
    "title": 15,
    "trigger": 60,
    "background": 60,
    "method": 10,
    "implementation": 60,
    "effect": 40,
}  # characters
COPIED = 12  # words in a row as in the paper are a copy
QUOTED = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A few words of the paper."""

    page: int = told("number of the page or section where it stands")
    text: str = told("at most 8 words, to the letter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One piece of knowledge."""

    title: str
    trigger: str
    background: str
    method: str
    implementation: str
    effect: str
    quotes: tuple[Passage, ...] = told("1 to 4 passages as evidence")
    moves: tuple[str, ...] = told("of the grammar, by name, that do what it says", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Extract:
    """A paper and what it knows."""

    title: str
    year: int
    cognitions: tuple[Piece, ...] = told("1 to 3 pieces of knowledge, the most useful first")
    authors: tuple[str, ...] = told("as the paper lists them; of more than six, the first five", ())
    arxiv: str = told("such as 2412.06464, where the text shows it", "")
    theme: str = told("one of the themes", "")


def extract(
    models: Models | None,
    document: Document,
    space: Space,
    themes: Mapping[str, str],
    example: Cognition | None,
) -> Extract:
    """Have the model of the role `extractor` write down what a paper knows.

    Args:
        models: of the study; None for none.
        document: the paper's text.
        space: whose words are used.
        themes: of the space; {} for none.
        example: a piece of knowledge as it should look; None for none.

    Raises:
        SetupError: there is no model, or as `Models.ask`.
        ModelError: it gave no answer that passes the review, however often it was told what is wrong.
    """
    if models is None or models.name(ROLE) is None:
        raise SetupError(
            "a paper is read by a language model, and there is none: --model PROVIDER:NAME with its key "
            "exported (docs/models.md), or write the file by hand (docs/cognition.md)"
        )
    question = Question(
        role=ROLE, system=PROMPT.read_text(), prompt=_prompt(document, space, themes, example)
    )
    return models.ask(Extract, question, reviewer(document, themes, space.moves()))


def reviewer(
    document: Document, themes: Mapping[str, str], moves: Collection[str] = ()
) -> Callable[[Extract], str | None]:
    """Give the function that says what is wrong with an extract, for the model; None where nothing is."""
    pages = {number: squeezed(text) for number, text in document.pages.items()}
    runs = {run for text in document.pages.values() for run in _runs(text)}

    def review(found: Extract) -> str | None:
        if not 1 <= len(found.cognitions) <= MOST:
            return f"cognitions: give 1 to {MOST}, not {len(found.cognitions)}"
        if not found.title.strip() or found.year not in YEARS:
            return "title, year: give the paper's own"
        if found.arxiv and not ARXIV.fullmatch(found.arxiv):
            return f"arxiv: {found.arxiv!r} is no number such as 2412.06464; leave it empty if none is shown"
        if found.theme and found.theme not in themes:
            return f"theme: {found.theme!r} is none of {', '.join(themes) or 'the themes: there are none'}"
        for number, piece in enumerate(found.cognitions, 1):
            fault = _text_fault(piece, runs) or _quote_fault(piece, pages, document.unit)
            fault = fault or _move_fault(piece, moves)
            if fault:
                return f"cognitions {number}: {fault}"
        return None

    return review


def _text_fault(piece: Piece, runs: set[tuple[str, ...]]) -> str | None:
    for name, least in LEAST.items():
        text = getattr(piece, name)
        if len(text.strip()) < least:
            return f"{name}: {len(text.strip())} characters say too little; {least} at least"
        copied = [] if name in ("method", "title") else [run for run in _runs(text) if run in runs]
        if copied:
            return f"{name}: '{' '.join(copied[0])}' stands so in the paper; say it in your own words"
    return None


def _quote_fault(piece: Piece, pages: Mapping[int, str], unit: str) -> str | None:
    if not piece.quotes:
        return "quotes: give at least one passage as evidence"
    for quote in piece.quotes:
        if len(quote.text.split()) > LONGEST_QUOTE:
            return f"quotes: {quote.text!r} has {len(quote.text.split())} words; at most {LONGEST_QUOTE}"
        wanted = squeezed(quote.text)
        if not wanted:
            return f"quotes: {quote.text!r} holds no word"
        if wanted in pages.get(quote.page, ""):
            continue
        elsewhere = [number for number, text in pages.items() if wanted in text]
        where = f"it stands on {unit} {elsewhere[0]}" if elsewhere else f"it stands on no {unit}"
        return f"quotes: {quote.text!r} is not on {unit} {quote.page}; {where}. Copy it to the letter"
    return None


def _move_fault(piece: Piece, moves: Collection[str]) -> str | None:
    unknown = [name for name in piece.moves if name not in moves]
    if not unknown:
        return None
    near = get_close_matches(unknown[0], moves, n=3)
    cure = f"nearest are {', '.join(near)}" if near else "leave it out"
    return f"moves: {unknown[0]!r} is no move of the grammar; {cure}"


def squeezed(text: str) -> str:
    """Give the letters and digits of a text alone: ligatures, hyphens, line breaks and spaces do not count.

    So a word that a line's end broke is found, and one whose letters a PDF sets apart too.
    """
    return "".join(QUOTED.findall(unicodedata.normalize("NFKC", text).casefold()))


def _runs(text: str) -> list[tuple[str, ...]]:
    words = QUOTED.findall(unicodedata.normalize("NFKC", text).casefold())
    return [tuple(words[i : i + COPIED]) for i in range(len(words) - COPIED + 1)]


def _prompt(document: Document, space: Space, themes: Mapping[str, str], example: Cognition | None) -> str:
    metrics = ", ".join(f"{spec.title} ({spec.unit})" for spec in space.metrics)
    parts = [f"# The space\n{space.title}. Measured are: {metrics}.\n\n{space.contract.strip()}"]
    if themes:
        parts.append("# Themes\n" + "\n".join(f"- {name}: {line}" for name, line in themes.items()))
    if moves := space.moves():
        listed = "\n".join(f"- {name}: {why}" for name, why in moves.items())
        parts.append(f"# Moves of the grammar\n{listed}")
    if example is not None:
        texts = "\n".join(f"{name}: {getattr(example, name)}" for name in LEAST)
        parts.append(f"# An example, from another paper\n{texts}")
    unit = document.unit.capitalize()
    text = "\n\n".join(f"## {unit} {number}\n{text.strip()}" for number, text in document.pages.items())
    return "\n\n".join([*parts, f"# The paper\n{text}"])


def cognitions_of(found: Extract, name: str) -> tuple[Cognition, ...]:
    """Give an extract as cognitions of a file's name, not checked by anyone."""
    paper = Paper(
        arxiv=name,
        title=" ".join(found.title.split()),
        year=2000 + int(name[:2]) if ARXIV.fullmatch(name) else found.year,
        authors=tuple(author.strip() for author in found.authors if author.strip()),
        theme=found.theme,
    )
    return tuple(
        _cognition(piece, f"{name}/{number}", paper) for number, piece in enumerate(found.cognitions, 1)
    )


def _cognition(piece: Piece, id: str, paper: Paper) -> Cognition:
    texts = {name: getattr(piece, name).strip() for name in LEAST}
    quotes = tuple(Quote(page=quote.page, text=" ".join(quote.text.split())) for quote in piece.quotes)
    moves = tuple(dict.fromkeys(piece.moves))
    return Cognition(id=id, paper=paper, quotes=quotes, moves=moves, **texts)


def name_for(found: Extract, document: Document, taken: Sequence[str]) -> str:
    """Give a name for a paper's file: its number, else one made of the document's name, that is not taken."""
    if found.arxiv and found.arxiv not in taken:
        return found.arxiv
    plain = re.sub(r"[^a-z0-9_.-]+", "-", (found.arxiv or document.stem).lower()).strip("-._")[:50] or "paper"
    if ARXIV.fullmatch(plain) or plain in taken:
        plain = f"own-{plain}"
    numbered = (plain if n == 1 else f"{plain}-{n}" for n in range(1, len(taken) + 3))
    return next(name for name in numbered if name not in taken)
