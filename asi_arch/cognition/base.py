"""All papers of a space, and recall: from a weakness in words to the cognitions that answer it."""

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from asi_arch.cognition.paper import read_paper
from asi_arch.records import Cognition

if TYPE_CHECKING:
    from bm25s import BM25

WEIGHTS = {"trigger": 3, "title": 2, "background": 1, "method": 1, "effect": 1}
"""How often each text counts in the index. A query is a weakness, which is what a trigger describes;
`implementation` is left out, since nearly all of them name the same operators."""

WORD = re.compile(r"[a-z]{2,}|\d{2,}")  # single letters are formulas' symbols
ENDING = re.compile(r"(?:ations?|ing|ed|es|e|(?<!s)s)$")


class CognitionBase:
    """The cognitions of a folder, read and checked at once, indexed at the first recall.

    Safe to share between threads. Files that change later are not seen.

    Args:
        folder: holds one `<arXiv number>.toml` a paper (see `paper.read_paper`); missing or empty, the
            base is empty.

    Raises:
        SetupError: a file breaks the schema; one line with file, key and cure.
    """

    def __init__(self, folder: Path) -> None:
        self._papers = {path.stem: read_paper(path) for path in sorted(folder.glob("*.toml"))}
        self._all = tuple(cognition for paper in self._papers.values() for cognition in paper)
        self._by_id = {cognition.id: cognition for cognition in self._all}
        self._lock = threading.Lock()
        self._index: BM25 | None = None

    def all(self) -> tuple[Cognition, ...]:
        """Give all cognitions, by arXiv number and then in the order of the file."""
        return self._all

    def get(self, id: str) -> Cognition | None:
        """Give the cognition of an id such as "2412.06464/1", or None if this base has none."""
        return self._by_id.get(id)

    def by_paper(self, arxiv: str) -> tuple[Cognition, ...]:
        """Give the cognitions of a paper such as "2412.06464"; () if this base has none."""
        return self._papers.get(arxiv, ())

    def recall(self, query: str, k: int) -> tuple[Cognition, ...]:
        """Give up to k cognitions for a weakness in words, the nearest first.

        The same base and query give the same answer in any thread and process; equal scores come in
        the order of `all`. Words that no cognition has do not count, a repeated word counts again,
        and a cognition that shares no word with the query is never given.
        """
        if k < 1 or not self._all:
            return ()
        index = self._indexed()
        known = [term for term in terms(query) if term in index.vocab_dict]
        if not known:
            return ()
        scores = index.get_scores(known).tolist()
        best = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        return tuple(self._all[i] for i in best[:k] if scores[i] > 0)

    def _indexed(self) -> "BM25":
        with self._lock:
            if self._index is None:
                self._index = word_index([_document(cognition) for cognition in self._all])
            return self._index


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
