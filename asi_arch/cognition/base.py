"""All papers of a space and of a study, and recall: from a weakness in words to what answers it."""

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asi_arch.cognition.meaning import Embedder, MeaningIndex, cache_folder
from asi_arch.cognition.paper import THEMES, read_paper, read_themes
from asi_arch.cognition.words import WordIndex
from asi_arch.errors import SetupError
from asi_arch.papers import Cognition

FUSION = 60  # reciprocal rank fusion's constant (Cormack, Clarke, Buettcher, SIGIR 2009)
MEANING = 0.5  # weight of the ranks by meaning beside those by words
OWN = "cognition"  # folder of a study's own papers, in the study's
SHOWN = 50  # pieces that who reads what was found is shown: nearly all that is wanted is among them

Choose = Callable[[str, Sequence[Cognition]], Sequence[str]]
"""Reads pieces that were found for a query, and gives the ids of those that answer it, the best first."""
Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A cognition that answers a query, and why.

    read_rank: from 1 among those that who read them chose; 0 for the others, and where nobody read.
    words: of it that the query shares, by field. word_rank, meaning_rank: from 1; 0 where it has none.
    word_score: of BM25. cosine: of the query's vector with its own; 0 without embeddings.
    """

    cognition: Cognition
    read_rank: int = 0
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    word_rank: int = 0
    word_score: float = 0.0
    meaning_rank: int = 0
    cosine: float = 0.0

    def why(self, scores: bool = True) -> str:
        """Say in a line why it was found; without scores, what words say is the same on every machine."""
        parts = [f"a model that read it, {self.read_rank}."] if self.read_rank else []
        if self.word_rank:
            fields = "; ".join(f"{name}: {', '.join(words)}" for name, words in self.words.items())
            score = f" ({self.word_score:.1f})" if scores else ""
            parts.append(f"words {self.word_rank}.{score}, in {fields}")
        if self.meaning_rank:
            parts.append(f"meaning {self.meaning_rank}. (cosine {self.cosine:.2f})" if scores else "meaning")
        return f"Found by {'; by '.join(parts)}"


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a base holds at one time."""

    stamp: Stamp
    papers: Mapping[str, tuple[Cognition, ...]]
    all: tuple[Cognition, ...]
    by_id: Mapping[str, Cognition]
    words: WordIndex | None = None
    meaning: MeaningIndex | None = None


class CognitionBase:
    """The cognitions of a space's folder, and of a study's own, indexed at the first recall.

    Safe to share between threads. Files of the space that change later are not seen. The study's own are
    looked at again at every question, so what is added takes part at once; a file that no longer can
    be read leaves what was read before as it was, until it is mended.

    Args:
        folder: holds one `<arXiv number>.toml` a paper (see `paper.read_paper`); missing or empty, it adds
            nothing.
        own: the same of a study, where files may have plain names too; None for no study.
        embedder: finds by meaning too; None for words alone.
        cache: where vectors are kept; None for the user's cache.
        moves: of the space's grammar, by name; links of cognitions are held against them, if any are given.

    Raises:
        SetupError: a file breaks the schema; one line with file, key and cure.
    """

    def __init__(
        self,
        folder: Path,
        own: Path | None = None,
        embedder: Embedder | None = None,
        cache: Path | None = None,
        moves: Collection[str] = (),
    ) -> None:
        self.themes, self.moves = read_themes(folder), moves
        self._space = {
            path.stem: read_paper(path, self.themes, moves=moves)
            for path in sorted(folder.glob("*.toml"))
            if path.name != THEMES
        }
        self._own, self._embedder = own, embedder
        self._cache = cache or cache_folder(os.environ)
        self._lock = threading.Lock()
        self._contents = self._read(self._stamp())

    @classmethod
    def of(
        cls, cognitions: Sequence[Cognition], embedder: Embedder | None = None, cache: Path | None = None
    ) -> "CognitionBase":
        """Give a base of these cognitions, without a folder."""
        base = cls(Path(os.devnull), None, embedder, cache)
        by_id = {cognition.id: cognition for cognition in cognitions}
        papers: dict[str, tuple[Cognition, ...]] = {}
        for cognition in cognitions:
            papers[cognition.paper.arxiv] = (*papers.get(cognition.paper.arxiv, ()), cognition)
        base._contents = _Contents((), papers, tuple(cognitions), by_id)
        return base

    def all(self) -> tuple[Cognition, ...]:
        """Give all cognitions: those of the space by arXiv number, then the study's own; in files' order."""
        return self._current().all

    def get(self, id: str) -> Cognition | None:
        """Give the cognition of an id such as "2412.06464/1", or None if this base has none."""
        return self._current().by_id.get(id)

    def by_paper(self, arxiv: str) -> tuple[Cognition, ...]:
        """Give the cognitions of a paper such as "2412.06464"; () if this base has none."""
        return self._current().papers.get(arxiv, ())

    def recall(self, query: str, k: int) -> tuple[Cognition, ...]:
        """Give up to k cognitions for a weakness in words, the nearest first; see `search`."""
        return tuple(match.cognition for match in self.search(query, k))

    def search(self, query: str, k: int, choose: Choose | None = None) -> tuple[Match, ...]:
        """Give up to k cognitions for a weakness in words, the nearest first, and why each is among them.

        By words alone, they come by their BM25 score, and one that shares no word is never given. With an
        embedder, the ranks by words and by cosine are fused (`fused`). Equal scores come in the order of
        `all`, so the same base and query give the same answer in any thread and process. Where somebody
        reads what was found, the ones that they choose come first.

        Raises:
            SetupError: a provider gave no vectors.
            Whatever `choose` raises.
        """
        contents = self._indexed() if k >= 1 else None
        if contents is None or contents.words is None:
            return ()
        scores = contents.words.scores(query)
        word_ranks = ranks(scores)
        cosines, meaning_ranks = [0.0] * len(scores), dict[int, int]()
        if contents.meaning is not None and query.strip():
            cosines = contents.meaning.cosines(query)
            meaning_ranks = ranks(cosines)
        order = fused([(word_ranks, 1.0), (meaning_ranks, MEANING)])
        read = _read_ranks(query, order[:SHOWN], contents.all, choose) if choose and order else {}
        order = [*read, *(place for place in order if place not in read)]
        found = [
            Match(
                cognition=contents.all[place],
                read_rank=read.get(place, 0),
                words=contents.words.matching(query, place),
                word_rank=word_ranks.get(place, 0),
                word_score=scores[place],
                meaning_rank=meaning_ranks.get(place, 0),
                cosine=cosines[place],
            )
            for place in order[:k]
        ]
        return tuple(found)

    def prepare(self) -> None:
        """Make the indices now, and see that vectors can be had. Raises SetupError: as `search`."""
        contents = self._indexed()
        if contents.meaning is not None:
            contents.meaning.cosines("recall")

    def _current(self) -> _Contents:
        if self._own is None:
            return self._contents
        stamp = self._stamp()
        with self._lock:
            if stamp != self._contents.stamp:
                try:
                    self._contents = self._read(stamp)
                except SetupError:
                    return self._contents  # tried again at the next question
            return self._contents

    def _indexed(self) -> _Contents:
        contents = self._current()
        with self._lock:
            if contents.words is None and contents.all:
                meaning = MeaningIndex(contents.all, self._embedder, self._cache) if self._embedder else None
                contents = _Contents(
                    contents.stamp,
                    contents.papers,
                    contents.all,
                    contents.by_id,
                    WordIndex(contents.all),
                    meaning,
                )
                if contents.stamp == self._contents.stamp:
                    self._contents = contents
        return contents

    def _stamp(self) -> Stamp:
        """Give what tells whether the study's own files have changed."""
        if self._own is None or not self._own.is_dir():
            return ()
        found = []
        for entry in os.scandir(self._own):
            if entry.name.endswith(".toml") and not entry.name.startswith("."):
                stat = entry.stat()
                found.append((entry.name, stat.st_mtime_ns, stat.st_size))
        return tuple(sorted(found))

    def _read(self, stamp: Stamp) -> _Contents:
        papers = dict(self._space)
        for name, _, _ in stamp:
            assert self._own is not None
            path = self._own / name
            if path.stem in papers:
                raise SetupError(
                    f"{path}: the space knows {path.stem} already; rename the file, and its arxiv to a name"
                )
            papers[path.stem] = read_paper(path, self.themes, own=True, moves=self.moves)
        everything = tuple(cognition for paper in papers.values() for cognition in paper)
        return _Contents(stamp, papers, everything, {cognition.id: cognition for cognition in everything})


def _read_ranks(
    query: str, places: Sequence[int], cognitions: Sequence[Cognition], choose: Choose
) -> dict[int, int]:
    """Give the ranks, from 1, of the places that somebody chooses among some."""
    place_of = {cognitions[place].id: place for place in places}
    chosen = choose(query, [cognitions[place] for place in places])
    return {place_of[id]: rank for rank, id in enumerate(chosen, 1)}


def ranks(scores: list[float]) -> dict[int, int]:
    """Give the rank of each place that has a positive score, from 1; equal scores in the order of places."""
    best = sorted((i for i, score in enumerate(scores) if score > 0), key=lambda i: (-scores[i], i))
    return {place: rank for rank, place in enumerate(best, 1)}


def fused(rankings: Sequence[tuple[Mapping[int, int], float]]) -> list[int]:
    """Give places by the sum over rankings of weight / (60 + rank), the highest first.

    Source: Cormack, Clarke, Buettcher, SIGIR 2009, "Reciprocal rank fusion", with their constant; the
    weights are ours.
    """
    totals: dict[int, float] = {}
    for ranking, weight in rankings:
        for place, rank in ranking.items():
            totals[place] = totals.get(place, 0.0) + weight / (FUSION + rank)
    return sorted(totals, key=lambda place: (-totals[place], place))
