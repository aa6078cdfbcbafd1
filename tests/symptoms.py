"""How much of what an expert wants is recalled: the measures that tests and the benchmark share."""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path

FILE = Path(__file__).parent / "symptoms.toml"
POOL = Path(__file__).parent / "symptom_pool.toml"
READINGS = Path(__file__).parent / "symptom_readings.toml"
FIRST = 5
ANSWERS = 2  # the grade of what speaks of this very symptom

Search = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Symptom:
    """A weakness in words, and the cognitions that answer it.

    wanted: ids written down first. held_out: nothing was tuned on it. grades: by id, 0 to 2, of all that
    was pooled for it.
    """

    query: str
    wanted: frozenset[str]
    held_out: bool
    grades: Mapping[str, int]

    @property
    def answers(self) -> frozenset[str]:
        """Ids that were judged to speak of this very symptom."""
        return frozenset(id for id, grade in self.grades.items() if grade == ANSWERS)


def symptoms() -> list[Symptom]:
    rows = tomllib.loads(FILE.read_text())["symptom"]
    pooled = {
        row["query"]: {id: grade for grade in (0, 1, 2) for id in row.get(f"grade_{grade}", ())}
        for row in tomllib.loads(POOL.read_text())["symptom"]
    }
    return [
        Symptom(r["query"], frozenset(r["wanted"]), r.get("held_out", False), pooled[r["query"]])
        for r in rows
    ]


def readings() -> dict[str, dict[str, list[str]]]:
    """What a language model chose of the pieces found, by ranking ("words" or "both") and query."""
    rows = tomllib.loads(READINGS.read_text())["reading"]
    return {name: {row["query"]: row[name] for row in rows} for name in ("words", "both")}


def mean(numbers: Iterable[float]) -> float:
    found = list(numbers)
    return sum(found) / len(found)


def share_of(wanted: frozenset[str], found: Sequence[str]) -> float:
    return len(wanted & set(found[:FIRST])) / min(FIRST, len(wanted))


def recall_at_5(search: Search, among: Iterable[Symptom]) -> float:
    """The share of wanted ids among the first five found, of at most five, averaged over symptoms."""
    return mean(share_of(s.wanted, search(s.query)) for s in among)


def pooled_recall_at_5(search: Search, among: Iterable[Symptom]) -> float:
    """The same for ids of grade 2 by the pooled judgments."""
    return mean(share_of(s.answers, search(s.query)) for s in among)


def gain_of(grades: Iterable[int]) -> float:
    """Sum 2^grade - 1 over the first five places, each divided by log2(place + 1)."""
    return sum((2**grade - 1) / log2(place + 1) for place, grade in enumerate(list(grades)[:FIRST], 1))


def ndcg_at_5(search: Search, among: Iterable[Symptom]) -> float:
    """The gain of the first five found over that of the best five judged, averaged; not judged counts 0.

    Source: K. Jarvelin, J. Kekalainen, ACM TOIS 2002, with the gain 2^grade - 1 in use since.
    """
    return mean(
        gain_of(s.grades.get(id, 0) for id in search(s.query))
        / gain_of(sorted(s.grades.values(), reverse=True))
        for s in among
    )


def shares_at_5(search: Search, among: Iterable[Symptom]) -> dict[int | None, float]:
    """The share of each grade among all first five found; None is what nobody judged for the symptom."""
    found = [s.grades.get(id) for s in among for id in search(s.query)[:FIRST]]
    return {grade: found.count(grade) / len(found) for grade in (2, 1, 0, None)}


def hit_at_5(search: Search, among: Iterable[Symptom]) -> float:
    """The share of symptoms with a wanted id among the first five found."""
    hits = [bool(s.wanted & set(search(s.query)[:FIRST])) for s in among]
    return sum(hits) / len(hits)
