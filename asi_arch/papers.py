"""What papers know, as records: a paper, a piece of its knowledge, and the words that it rests on."""

import re
from dataclasses import dataclass

ARXIV = re.compile(r"\d\d(0[1-9]|1[0-2])\.\d{4,5}")  # YYMM.number, in use since April 2007


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """A paper behind cognitions. authors: as it lists them; () while unknown.

    arxiv: such as "2412.06464"; of what a study knows by itself, the name of its file.
    theme: the kind of idea, by name; "" where none is given.
    """

    arxiv: str
    title: str
    year: int
    authors: tuple[str, ...] = ()
    theme: str = ""

    @property
    def label(self) -> str:
        """Give it as it is cited: "arXiv:2412.06464", or the name in quotes."""
        return f"arXiv:{self.arxiv}" if ARXIV.fullmatch(self.arxiv) else f"'{self.arxiv}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A few words of a paper, as evidence. page: where they stand, or the section of a text without."""

    page: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cognition:
    """One piece of a paper's knowledge, in our own words.

    id: "2412.06464/1". trigger: the weakness in results that it answers. method: the formula.
    implementation: how to write it under the contract. effect: what to expect, and at what cost.
    checked: its facts were held against the paper's own text; source: which part of it, "" where not.
    moves: of the grammar, by name, that do what it says. quotes: what a model found in the paper.
    """

    id: str
    paper: Paper
    title: str
    trigger: str
    background: str
    method: str
    implementation: str
    effect: str
    checked: bool = False
    source: str = ""
    moves: tuple[str, ...] = ()
    quotes: tuple[Quote, ...] = ()
