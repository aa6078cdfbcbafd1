"""How much of what an expert wants is recalled: the measure that tests and the benchmark share."""

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "symptoms.toml"
FIRST = 5


@dataclass(frozen=True)
class Symptom:
    """A weakness in words, and ids of the cognitions that answer it. held_out: nothing was tuned on it."""

    query: str
    wanted: frozenset[str]
    held_out: bool


def symptoms() -> list[Symptom]:
    rows = tomllib.loads(FILE.read_text())["symptom"]
    return [Symptom(r["query"], frozenset(r["wanted"]), r.get("held_out", False)) for r in rows]


def recall_at_5(search: Callable[[str], Sequence[str]], among: Iterable[Symptom]) -> float:
    """The share of wanted ids among the first five found, of at most five, averaged over symptoms."""
    shares = [len(s.wanted & set(search(s.query)[:FIRST])) / min(FIRST, len(s.wanted)) for s in among]
    return sum(shares) / len(shares)


def hit_at_5(search: Callable[[str], Sequence[str]], among: Iterable[Symptom]) -> float:
    """The share of symptoms with a wanted id among the first five found."""
    hits = [bool(s.wanted & set(search(s.query)[:FIRST])) for s in among]
    return sum(hits) / len(hits)
