"""Hostile candidates: each is refused or disarmed, with the rules on sources and without; none does harm."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from arena import WORKER, Arena, Gates, Outcome, Wall, contained, judge
from corpus import Entry, entries

from asi_arch.engineer.pool import LocalPool
from asi_arch.engineer.source import check_source
from asi_arch.records import Job
from asi_arch.researcher.novelty import source_hash
from asi_arch.spaces.linear_attention.recognise import recognise

FOLDER = Path(__file__).parent / "hostile"
CORPUS = entries(FOLDER)
HONEST = (FOLDER / "_honest.py").read_text()
TO_ALL_GATES = (
    "recognise_crowd",
    "recognise_precision",
    "recognise_width",
)  # their graphs must be run at the gates' own sizes
LONG = ("endless_init",)  # takes all the processor time that a pool's wall gives
SLOW = (
    "endless_forward",
    "endless_import",
    "memory_mapped",
    "swallow_the_clock",
)  # as others, and seconds each
MARKED = [pytest.param(e, marks=[pytest.mark.slow] if e.name in SLOW else [], id=e.name) for e in CORPUS]


def by_name(entry: Entry) -> str:
    return entry.name


def test_there_are_enough_and_each_falls_to_two_layers() -> None:
    assert len(CORPUS) >= 45
    assert [e.name for e in CORPUS if len(e.falls_to) < 2] == []
    assert {layer for e in CORPUS for layer in e.falls_to} == {"source", "graph", "containment"}


@pytest.mark.parametrize("entry", CORPUS, ids=by_name)
def test_the_rules_on_sources_refuse_what_they_claim(entry: Entry) -> None:
    verdict = check_source(entry.source)
    assert verdict.passed == ("source" not in entry.falls_to), verdict.message
    assert "\n" not in verdict.message
    assert len(verdict.message) < 600


@pytest.mark.parametrize("entry", CORPUS, ids=by_name)
def test_a_study_can_tell_it_from_others(entry: Entry) -> None:
    assert source_hash(entry.source) == source_hash(entry.source)
    assert recognise(entry.source)


@pytest.mark.parametrize("entry", [e for e in CORPUS if e.name not in LONG], ids=by_name)
def test_a_pool_gives_the_expected_verdict(entry: Entry, pool: LocalPool) -> None:
    evidence = pool.run(Job(space="linear_attention", name=entry.name, source=entry.source))
    if not entry.expect:
        assert evidence.failure is None, evidence.failure
        return
    assert evidence.failure is not None
    assert evidence.failure.phase in entry.expect, evidence.failure.message


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with Arena() as made:
        yield made


@pytest.fixture(scope="module")
def wall(arena: Arena) -> Iterator[Wall]:
    made = contained(arena, WORKER)
    yield made
    made.close()


@pytest.fixture(scope="module")
def honest(wall: Wall) -> Outcome:
    outcome = wall.run(HONEST)
    assert not outcome.ended
    assert not outcome.harm
    return outcome


@pytest.mark.parametrize("entry", MARKED)
def test_without_the_rules_nothing_of_it_crosses_and_the_host_is_unharmed(
    entry: Entry, wall: Wall, honest: Outcome
) -> None:
    outcome = wall.run(entry.source, entry.seconds)
    assert outcome.harm == ()
    assert outcome.ended != "server"
    said = judge(outcome, [honest])
    if said == "differs" and entry.honest != entry.source:
        said = judge(outcome, [honest, wall.run(entry.honest)])
    assert said.startswith(("refused", "disarmed")) or entry.name in TO_ALL_GATES


@pytest.mark.slow
def test_what_recognises_the_gates_falls_to_them_without_the_rules() -> None:
    gates = Gates()
    try:
        assert gates.failure(HONEST) == ""
        passed = [e.name for e in CORPUS if e.name in TO_ALL_GATES and not gates.failure(e.source)]
    finally:
        gates.close()
    assert passed == []
