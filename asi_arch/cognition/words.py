"""Recall by words: stems of a query against stems of each cognition's texts, weighed by BM25."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asi_arch.papers import Cognition

if TYPE_CHECKING:
    from bm25s import BM25

WEIGHTS = {"trigger": 3, "title": 2, "background": 1, "method": 1, "effect": 1}
"""How often each text counts in the index. A query is a weakness, which is what a trigger describes;
`implementation` is left out, since nearly all of them name the same operators."""

WORD = re.compile(r"[a-z]{2,}|\d{2,}")  # single letters are formulas' symbols
ENDING = re.compile(r"(?:ations?|ing|ed|es|e|(?<!s)s)$")


class WordIndex:
    """The words of some cognitions, by place. Build it once, ask it from any thread."""

    def __init__(self, cognitions: Sequence[Cognition]) -> None:
        self._cognitions = cognitions
        self._index = word_index([_document(cognition) for cognition in cognitions]) if cognitions else None

    def scores(self, query: str) -> list[float]:
        """Give the BM25 score of every cognition, in their order; 0 where it shares no word.

        Words that no cognition has do not count, and a repeated word counts again.
        """
        known = [term for term in terms(query) if self._index and term in self._index.vocab_dict]
        if self._index is None or not known:
            return [0.0] * len(self._cognitions)
        found: list[float] = self._index.get_scores(known).tolist()
        return found

    def matching(self, query: str, place: int) -> dict[str, tuple[str, ...]]:
        """Give the words of a cognition that a query shares, by field, as they stand in the cognition."""
        asked = set(terms(query))
        found = {}
        for field in WEIGHTS:
            words = WORD.findall(getattr(self._cognitions[place], field).lower())
            shared = tuple(dict.fromkeys(word for word in words if asked.intersection(terms(word))))
            if shared:
                found[field] = shared
        return found


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


def word_index(documents: list[list[str]]) -> "BM25":
    """Build the BM25 index of documents, each a list of `terms`.

    The library is imported here, because it costs a quarter of a second.
    """
    import logging

    from bm25s import BM25

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # importing it sets DEBUG, which is chatter
    index = BM25(method="lucene", k1=1.5, b=0.75)
    index.index(documents, show_progress=False)
    return index
