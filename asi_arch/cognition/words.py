"""Recall by words: stems of a query against stems of each cognition's texts, weighed by BM25."""

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from asi_arch.papers import Cognition

if TYPE_CHECKING:
    from typing import Any

    from bm25s import BM25
    from numpy import ndarray

    Scores = ndarray[Any, Any]

WEIGHTS = {"trigger": 3, "title": 2, "background": 1, "method": 1, "effect": 1}
"""How often each text counts in the index. A query is a weakness, which is what a trigger describes;
`implementation` is left out, since nearly all of them name the same operators."""

WORD = re.compile(r"[a-z]{2,}|\d{2,}")  # single letters are formulas' symbols
ENDING = re.compile(r"(?:ations?|ing|ed|es|e|(?<!s)s)$")
THESAURUS = Path(__file__).parent / "thesaurus.toml"
ASIDE = 0.3  # weight of a word that stands for much the same as one of the query
DUPLICATE = 0.5  # nearness from which two cognitions are called much the same
K1, B = 3.0, 0.5  # of BM25: how slowly a repeated word saturates, how much a text's length counts


class WordIndex:
    """The words of some cognitions, by place. Build it once, ask it from any thread."""

    def __init__(self, cognitions: Sequence[Cognition]) -> None:
        self._cognitions = cognitions
        documents = [_document(cognition) for cognition in cognitions]
        self._index = word_index(documents, K1, B) if documents else None

    def scores(self, query: str) -> list[float]:
        """Give the score of every cognition, in their order; 0 where it shares no word.

        The sum over the query's words of the word's BM25 score, or of `ASIDE` times that of a word that
        stands for much the same, whichever is largest. Words that no cognition has do not count, and a
        repeated word counts again.
        """
        import numpy as np

        total = np.zeros(len(self._cognitions), dtype=np.float32)
        for term in terms(query):
            exact = self._of(term)
            total += np.maximum.reduce([exact, *(ASIDE * self._of(other) for other in akin().get(term, ()))])
        found: list[float] = total.tolist()
        return found

    def matching(self, query: str, place: int) -> dict[str, tuple[str, ...]]:
        """Give the words by which a cognition answers a query, by field, as they stand in the cognition."""
        asked = {other for term in terms(query) for other in (term, *akin().get(term, ()))}
        found = {}
        for field in WEIGHTS:
            words = WORD.findall(getattr(self._cognitions[place], field).lower())
            shared = tuple(dict.fromkeys(word for word in words if asked.intersection(terms(word))))
            if shared:
                found[field] = shared
        return found

    def _of(self, term: str) -> "Scores":
        """Give the BM25 score of one word, [N]."""
        import numpy as np

        if self._index is None or term not in self._index.vocab_dict:
            return np.zeros(len(self._cognitions), dtype=np.float32)
        found: Scores = self._index.get_scores([term])
        return found


def near_duplicates(
    cognition: Cognition, known: Sequence[Cognition], most: int = 3
) -> list[tuple[Cognition, float]]:
    """Give what says much the same as a cognition, the nearest first, with its nearness.

    That is the score that the cognition's title and trigger find it by, as a share of the one that they
    find the cognition itself by. `DUPLICATE` is passed by 8 of the 287 of linear attention.
    """
    index = WordIndex([*known, cognition])
    *scores, own = index.scores(f"{cognition.title} {cognition.trigger}")
    shares = [score / own if own else 0.0 for score in scores]
    best = sorted(range(len(known)), key=lambda place: (-shares[place], place))[:most]
    return [(known[place], shares[place]) for place in best if shares[place] >= DUPLICATE]


@cache
def akin() -> dict[str, tuple[str, ...]]:
    """Give the terms that stand for much the same as each term of the thesaurus."""
    found: dict[str, dict[str, None]] = {}
    for line in tomllib.loads(THESAURUS.read_text())["groups"]:
        group = [_stem(word) for word in line.split()]
        for term in group:
            found.setdefault(term, {}).update(dict.fromkeys(other for other in group if other != term))
    return {term: tuple(others) for term, others in found.items()}


def terms(text: str) -> list[str]:
    """Give the words that recall compares: lower case, without stop words, cut to their stems.

    "gates", "gated" and "gating" are one term, and so are "normalise" and "normalization".
    """
    from bm25s.stopwords import STOPWORDS_EN

    return [_stem(word) for word in WORD.findall(text.lower()) if word not in STOPWORDS_EN]


def _stem(word: str) -> str:
    stem = ENDING.sub("", word.replace("iz", "is"))
    if len(stem) < 3:
        return word
    doubled = stem[-1] == stem[-2] and stem[-1] in "bdgmnprt"  # forgetting, dropped
    return stem[:-1] if doubled else stem


def _document(cognition: Cognition) -> list[str]:
    return [term for field, weight in WEIGHTS.items() for term in terms(getattr(cognition, field)) * weight]


def word_index(documents: list[list[str]], k1: float = 1.5, b: float = 0.75) -> "BM25":
    """Build the BM25 index of documents, each a list of `terms`.

    The library is imported here, because it costs a quarter of a second.
    """
    import logging

    from bm25s import BM25

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # importing it sets DEBUG, which is chatter
    index = BM25(method="lucene", k1=k1, b=b)
    index.index(documents, show_progress=False)
    return index
