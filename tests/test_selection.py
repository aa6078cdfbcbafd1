"""Policies of selection: pure, deterministic by id, and blind to what may not be a parent."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from toy import toy_study

from asi_arch.errors import SetupError
from asi_arch.records import Brief, Cost, Evidence, Experiment, Proposal, Trial
from asi_arch.researcher.brief_text import brief_text
from asi_arch.researcher.symbolic import SymbolicResearcher
from asi_arch.search.behaviour import behaviour, family_of, most_used
from asi_arch.search.selection import map_elites, paper, thompson, uct
from asi_arch.search.selection.base import Member, draw_of, parents_of
from asi_arch.search.selection.family import family
from asi_arch.search.selection.policies import POLICIES, policy_of
from asi_arch.search.stagnation import episode_of, is_orthogonal, widened
from asi_arch.settings import Settings, load_settings
from asi_arch.spaces.toy.grammar import grammar
from asi_arch.study import Silent


def member(id: int, fitness: float | None, result: int = 0, kind: str = "candidate") -> Member:
    return Member(
        id=id,
        kind=kind,  # type: ignore[arg-type]
        status="failed" if fitness is None else "finished",
        fitness=fitness,
        result=result,
    )


BASELINES = [
    member(1, 0.5, kind="baseline"),
    member(2, 0.7, kind="baseline"),
    member(3, 0.9, kind="reference"),
]


def test_the_pool_opens_after_the_cold_start_and_moves_in_batches() -> None:
    settings = Settings(cold_start=3, pool_batch=2, pool_size=4)
    results = [member(4, 0.6, 1), member(5, None, 2), member(6, 0.8, 3), member(7, 0.7, 4), member(8, 0.9, 5)]

    def pool(ended: int) -> list[int]:
        return [m.id for m in paper.candidate_pool(BASELINES + results[:ended], settings)]

    assert pool(0) == pool(3) == [2, 1]
    assert pool(4) == [6, 2, 7, 4]
    assert pool(5) == pool(4)
    assert [m.id for m in paper.candidate_pool([*BASELINES, *results, member(9, 0.1, 6)], settings)] == [
        8,
        6,
        2,
        7,
    ]


def test_the_parent_is_the_seed_until_the_pool_opens() -> None:
    settings = Settings(cold_start=1, pool_batch=1, parent_ranks=1, num_references=4)
    assert paper.choose(BASELINES, settings, seed=1, id=4) == (1, (2,))
    assert paper.choose([*BASELINES, member(4, 0.6, 1)], settings, seed=1, id=5)[0] == 2


def test_parents_come_from_the_first_ranks_and_references_from_the_next() -> None:
    settings = Settings(cold_start=0, pool_batch=1, pool_size=20, parent_ranks=5, num_references=4)
    members = BASELINES + [member(10 + i, 0.99 - i / 100, 1 + i) for i in range(30)]
    drawn = [paper.choose(members, settings, seed=1, id=id) for id in range(100, 400)]
    assert {parent for parent, _ in drawn} == set(range(10, 15))
    assert {id for _, references in drawn for id in references} == set(range(15, 30))
    assert all(len(set(references)) == 4 for _, references in drawn)
    counts = [sum(parent == id for parent, _ in drawn) for id in range(10, 15)]
    assert min(counts) > 35
    assert drawn == [paper.choose(members, settings, seed=1, id=id) for id in range(100, 400)]
    other = [paper.choose(members, replace(settings, seed=1), seed=1, id=id) for id in range(100, 400)]
    assert drawn != other


def test_a_small_pool_fills_references_up_with_other_first_ranks() -> None:
    settings = Settings(cold_start=0, pool_batch=1, parent_ranks=10, num_references=3)
    members = BASELINES + [member(10 + i, 0.99 - i / 100, 1 + i) for i in range(3)]
    for id in range(100, 120):
        parent, references = paper.choose(members, settings, seed=1, id=id)
        assert len(references) == 3
        assert parent not in references
        assert 3 not in references


def recorded_members() -> list[Member]:
    """300 results, a tenth failed, parents drawn evenly; then an open one."""
    dice = random.Random(7)
    found = [member(1, 0.5, kind="baseline"), member(2, 0.55, kind="baseline")]
    found.append(member(3, 0.99, kind="reference"))
    for id in range(4, 304):
        failed = dice.random() < 0.1
        fitness = None if failed else round(dice.gauss(0.5, 0.1), 3)
        found.append(replace(member(id, fitness, id - 3), parents=(dice.randrange(1, id),)))
    return [*found, Member(id=304, kind="candidate", status="claimed")]


ASKED = ((3, 4), (150, 151), (240, 241), (290, 300), (304, 304), (304, 305), (304, 306))
LATE = [(148, (99, 232, 63, 199)), (204, (281, 69, 290, 213)), (256, (62, 63, 87, 213))]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            Settings(cold_start=200, pool_batch=50, seed=3),
            [(1, (2,)), (1, (2,)), (1, (2,)), (227, (50, 90, 120, 76)), *LATE],
        ),
        (
            Settings(seed=3),
            [
                (1, (2,)),
                (46, (123, 132, 104, 85)),
                (227, (206, 213, 99, 121)),
                (46, (87, 199, 91, 83)),
                *LATE,
            ],
        ),
    ],
)
def test_the_papers_policy_chooses_as_it_did_before_there_were_others(settings, expected) -> None:
    """The choices were written down with the code of the archive's pool, before it became a policy."""
    members = recorded_members()
    assert [paper.choose(members[:count], settings, 1, id) for count, id in ASKED] == expected


@pytest.mark.parametrize("name", POLICIES)
def test_a_choice_depends_on_the_id_the_seed_and_the_members_alone(name: str) -> None:
    settings, members = Settings(pool_batch=1), recorded_members()
    once = [POLICIES[name](members, settings, 1, id) for id in range(305, 325)]
    assert once == [POLICIES[name](list(members), settings, 1, id) for id in range(305, 325)]
    assert len({references for _, references in once}) > (1 if name != "best_of_n" else 0)
    other = replace(settings, seed=1)
    moved = [POLICIES[name](members, other, 1, id) for id in range(305, 325)]
    assert (moved != once) == (name != "best_of_n")


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_starts_from_what_failed_is_open_or_is_a_reference(name: str) -> None:
    members = recorded_members()
    allowed = {m.id for m in members if m.status == "finished" and m.kind != "reference"}
    settings = Settings(pool_batch=1, num_references=6)
    for count in (3, 4, 10, 60, len(members)):
        for id in range(400, 440):
            parent, references = POLICIES[name](members[:count], settings, 1, id)
            assert parent in allowed
            assert set(references) <= allowed - {parent}
            assert len(set(references)) == len(references) <= 6


def test_best_of_n_always_starts_from_the_seed_and_random_from_anything() -> None:
    members, settings = recorded_members(), Settings()
    assert {POLICIES["best_of_n"](members, settings, 2, id)[0] for id in range(400, 500)} == {2}
    drawn = {POLICIES["random"](members, settings, 1, id)[0] for id in range(400, 1400)}
    assert len(drawn) > 200


def test_map_elites_draws_cells_evenly_whatever_their_fitness() -> None:
    members = [replace(member(1, 0.5, kind="baseline"), cell=("kda",))]
    members += [replace(member(id, 0.9, id), parents=(1,), cell=("kda",)) for id in range(2, 60)]
    members += [replace(member(60, 0.1, 60), parents=(1,), cell=("gla",))]
    drawn = Counter(map_elites.choose(members, Settings(), 1, id)[0] for id in range(100, 300))
    assert 70 < drawn[60] < 130
    assert set(drawn) == {60, 2, 3, 4}


def test_uct_goes_on_where_the_children_are_good_and_leads_workers_apart() -> None:
    members = [member(1, 0.5, kind="baseline")]
    members += [replace(member(id, 0.5 if id % 2 else 0.6, id), parents=(1,)) for id in range(2, 8)]
    members += [replace(member(id, 0.9, id), parents=(2,)) for id in range(8, 11)]
    members += [replace(member(id, 0.1, id), parents=(3,)) for id in range(11, 14)]
    drawn = {uct.choose(members, Settings(), 1, id)[0] for id in range(100, 150)}
    assert drawn <= {2, 4, 6, 8, 9, 10}  # never below the worse half
    busy = [Member(id=id, kind="candidate", status="proposed", parents=(2,)) for id in range(14, 60)]
    assert not {uct.choose(members + busy, Settings(), 1, id)[0] for id in range(100, 150)} & {2, 8, 9, 10}


def test_the_family_tells_a_lucky_run_from_a_good_parent() -> None:
    """#2 and #3 had the same result; the children of #2 are good, those of #3 are not."""
    members = [member(1, 0.5, kind="baseline")]
    members += [replace(member(id, 0.5, id), parents=(1,)) for id in range(4, 10)]
    members += [replace(member(id, 0.8, id), parents=(1,)) for id in (2, 3)]
    dice = random.Random(1)
    for id in range(10, 30):
        fitness = (0.75 if id % 2 else 0.45) + dice.gauss(0, 0.03)
        members.append(replace(member(id, fitness, id), parents=(2 if id % 2 else 3,)))
    members.sort(key=lambda m: m.id)
    beliefs = family(members)
    assert beliefs.mean[1] > beliefs.mean[2] + 0.3
    assert beliefs.variance[1] < beliefs.variance[-1]
    chosen = Counter(thompson.choose(members, Settings(), 1, id)[0] for id in range(100, 200))
    from_three = [m.id for m in members if 3 in (m.id, *m.parents)]
    assert sum(chosen[id] for id in from_three) < 10


def test_what_is_remembered_of_one_look_is_remembered_for_equal_settings_only() -> None:
    members = tuple(recorded_members())
    narrow, wide = Settings(pool_size=5, pool_batch=1), Settings(pool_size=50, pool_batch=1)
    pool = paper.candidate_pool(members, narrow)
    assert paper.candidate_pool(members, replace(narrow)) is pool
    assert len(paper.candidate_pool(members, wide)) == 50
    assert paper.candidate_pool(members, narrow) == pool
    assert len(paper.candidate_pool(members[:10], narrow)) <= 5


def plainly_thompson(members: list[Member], settings: Settings, id: int) -> int:
    """The policy told without care for speed: all draws, sorted, and each asked in turn."""
    draw, known = draw_of(settings, id, "thompson"), parents_of(members)
    beliefs = family(known)
    drawn = [
        draw.gauss(mean, thompson.SHARPER * variance**0.5) if sound >= thompson.SOUND else float("-inf")
        for mean, variance, sound in zip(beliefs.mean, beliefs.variance, beliefs.sound, strict=True)
    ]
    order = [known[i].id for i in sorted(range(len(known)), key=lambda i: -drawn[i])]
    for parent in order:
        ended = [m.status for m in members if m.parents[:1] == (parent,)]
        finished, failed = ended.count("finished"), ended.count("failed")
        if draw.random() < draw.betavariate(1 + finished, 0.1 + failed):
            return parent
    return order[0]


def test_thompson_chooses_as_the_plain_telling_of_it_does() -> None:
    members = [m if m.id % 3 else replace(m, fitness=None, status="failed") for m in recorded_members()]
    members[0] = replace(members[0], fitness=0.5, status="finished")
    for count in (2, 40, len(members)):
        for id in range(400, 430):
            expected = plainly_thompson(members[:count], Settings(), id)
            assert thompson.choose(members[:count], Settings(), 1, id)[0] == expected
            assert thompson.choose(tuple(members[:count]), Settings(), 1, id)[0] == expected


def test_replicates_make_a_result_count_more() -> None:
    once = [member(1, 0.5, kind="baseline")]
    once += [replace(member(id, 0.5 + id / 1000, id), parents=(1,)) for id in range(2, 30)]
    once += [replace(member(30, 0.9, 30), parents=(1,))]
    often = [*once[:-1], replace(once[-1], runs=8)]
    assert family(often).variance[-1] < family(once).variance[-1]


def test_an_unknown_policy_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"'selection' must be 'paper' or 'uct' or .*, not 'greedy'"):
        load_settings(None, ["selection=greedy"])
    with pytest.raises(SetupError, match=r"one of paper, uct, .*, not 'greedy'"):
        policy_of("greedy")
    for name in POLICIES:
        assert load_settings(None, [f"selection={name}"]).selection == name


@pytest.mark.parametrize("name", POLICIES)
def test_a_study_runs_under_every_policy_and_is_the_same_again(name: str, tmp_path: Path) -> None:
    parents = []
    for folder in ("one", "two"):
        study = toy_study(tmp_path / folder, selection=name, experiments=10)
        study.run()
        parents.append([e.proposal and e.proposal.parents for e in study.archive.experiments("candidate")])
        study.close()
    assert parents[0] == parents[1]
    assert None not in parents[0]


def test_behaviour_is_coarse_and_empty_where_nothing_is_known() -> None:
    def experiment(cost: Cost, source: str = "", moves: tuple[str, ...] = ()) -> Experiment:
        proposal = Proposal(name="a", motivation="", source=source, author="symbolic", moves=moves)
        evidence = Evidence(stage="explore", seed=0, source_hash="", cost=cost)
        return Experiment(id=1, kind="candidate", status="proposed", proposal=proposal, evidence=(evidence,))

    seed = Cost(state_bytes=1024, relative_seconds=1.0)
    source = "from asi_arch.ops import RMSNorm, gla, kda, l2norm\n"
    wide = experiment(Cost(state_bytes=2100, relative_seconds=1.9), source)
    assert behaviour(wide, seed) == ("state +1", "cost +1", "gla+kda")
    assert behaviour(experiment(Cost(), "RULE = {}", ("drop_first", "add_waves")), seed) == ("wave",)
    assert behaviour(experiment(Cost(), "def broken("), seed) == ()


def test_families_of_moves_are_what_they_change() -> None:
    assert [family_of(m) for m in ("add_scalar_decay", "widen_window", "shift_keys")] == [
        "decay",
        "window",
        "key",
    ]
    used = [("add_decay", "remove_decay"), ("shift_keys",), ("bound_decay",), ("add_window",)]
    assert most_used(used) == {"decay"}
    assert most_used([]) == frozenset()


def test_an_episode_begins_after_patience_and_ends_with_a_gain() -> None:
    settings = Settings(patience=3)
    members = [member(1, 0.5, kind="baseline"), member(2, 0.6, 1), member(3, 0.4, 2), member(4, None, 3)]
    assert episode_of(members, settings) is None
    stuck = [*members, member(5, 0.6, 4)]
    episode = episode_of(stuck, settings)
    assert episode is not None
    assert (episode.best, episode.since, episode.results) == (2, 1, 3)
    assert episode_of([*stuck, member(6, 0.7, 5)], settings) is None
    assert episode_of(stuck, Settings(patience=0)) is None
    refreshed = [replace(m, fitness=0.5, runs=4) if m.id == 2 else m for m in stuck]
    assert episode_of(refreshed, settings) is None


def test_half_of_the_ids_of_an_episode_leave_the_path_with_wider_references() -> None:
    settings, members = Settings(patience=20, num_references=4), recorded_members()
    members = [replace(m, fitness=0.9) if m.id == 4 else m for m in members]
    episode = episode_of(members, settings)
    drawn = [is_orthogonal(episode, settings, id) for id in range(400, 600)]
    assert 70 < sum(drawn) < 130
    assert not any(is_orthogonal(None, settings, id) for id in range(400, 600))
    parent, references = widened((4, (5, 6)), members, settings, 400)
    assert parent == 4
    assert len(set(references)) == 8
    assert (parent, references) == widened((4, ()), members, settings, 400)


def orthogonal_brief(orthogonal: bool) -> Brief:
    source = 'RULE = {"terms": [{"kind": "wave", "frequency": 3.0, "phase": 0.0}]}\n'
    proposal = Proposal(name="wave", motivation="", source=source, author="baseline")
    parent = Experiment(id=1, kind="baseline", status="finished", proposal=proposal)
    used = ("add_wave", "turn_phase", "raise_frequency", "lower_frequency")
    trials = tuple(Trial(moves=(move,), gain=0.5) for move in used for _ in range(8))
    trials += tuple(Trial(moves=(move,), gain=-0.5) for move in ("add_power", "add_hinge", "add_bump"))
    return Brief(id=9, seed=0, parent=parent, contract="", trials=trials, orthogonal=orthogonal)


def test_an_orthogonal_brief_is_felt_by_the_symbolic_researcher() -> None:
    researcher = SymbolicResearcher(grammar())

    def families(orthogonal: bool) -> set[str]:
        briefs = [replace(orthogonal_brief(orthogonal), id=id) for id in range(30)]
        return {family_of(move) for brief in briefs for move in researcher.propose(brief).moves}

    trodden = most_used(trial.moves for trial in orthogonal_brief(True).trials)
    assert trodden == {"frequency", "phase"}
    assert families(False) & trodden
    assert not families(True) & trodden


def test_an_orthogonal_brief_says_so_in_words() -> None:
    text = brief_text(orthogonal_brief(True), ())
    assert "without a gain" in text
    assert "frequency, phase" in text
    assert "without a gain" not in brief_text(orthogonal_brief(False), ())


def test_a_study_tells_of_stagnation_once_an_episode_and_its_briefs_feel_it(tmp_path: Path) -> None:
    class Listener(Silent):
        def __init__(self) -> None:
            self.said: list[str] = []

        def message(self, text: str) -> None:
            self.said.append(text)

    listener = Listener()
    study = toy_study(tmp_path, experiments=60, patience=5)
    study.run(listener)
    told = [text for text in listener.said if text.startswith("no gain in")]
    best, episodes = 0.0, 0
    since = told_since = 0
    rows = {row.result: row for row in study.archive.rows() if row.kind == "candidate"}
    best = max(row.fitness or 0.0 for row in study.archive.rows() if row.kind == "baseline")
    for result in sorted(rows):
        if (rows[result].fitness or 0.0) > best:
            best, since = rows[result].fitness or 0.0, result
        if result - since >= 5 and told_since != (since, True):
            told_since, episodes = (since, True), episodes + 1  # type: ignore[assignment]
    assert len(told) == episodes >= 1
    episode = episode_of(study.members(), study.settings)
    briefs = [study.brief(id, *study.choice(id)) for id in range(100, 140)]
    marked = [brief.orthogonal for brief in briefs]
    assert any(marked) == (episode is not None)
    assert all(len(brief.references) == (8 if brief.orthogonal else 4) for brief in briefs)
    study.close()


def test_members_are_what_the_archive_knows(tmp_path: Path) -> None:
    study = toy_study(tmp_path, experiments=6)
    study.run()
    rows, known = study.archive.rows(), study.members()
    assert [(m.id, m.kind, m.status, m.fitness, m.parents, m.result) for m in known] == [
        (r.id, r.kind, r.status, r.fitness, r.parents, r.result) for r in rows
    ]
    seed = next(m for m in known if m.id == study.bench.seed_id)
    assert seed.runs == study.settings.seed_runs
    assert any(m.cell for m in known if m.kind == "candidate")
    study.close()
