"""The researcher: briefs from the archive, what was learned of moves, and proposals made of them."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from asi_arch.cognition.base import CognitionBase
from asi_arch.papers import Cognition, Paper
from asi_arch.records import (
    Experiment,
    Failure,
    Finding,
    Fitness,
    Proposal,
    Trial,
)
from asi_arch.researcher.brief import make_brief, trials, weakness
from asi_arch.researcher.learning import FAILURE, learn, track_record
from asi_arch.researcher.novelty import source_hash
from asi_arch.researcher.symbolic import Move, SymbolicResearcher
from asi_arch.settings import Settings
from asi_arch.space import load_space, resolve

LETTERS = "abcdefghijkl"


class Words:
    """A grammar of words: a design is a set of letters, and each move adds or takes one."""

    def read(self, source):
        text = source.strip().removeprefix('WORD = "').removesuffix('"')
        known = set(text) <= set(LETTERS)
        return frozenset(text if known else ""), "" if known else "It was read as the empty word."

    def moves(self):
        adding = [
            Move(name=f"add_{c}", motivation=f"{c} may help.", change=adds(c), cites=(c,)) for c in LETTERS
        ]
        take = Move(name="take_letters", motivation="It did well there.", change=takes, takes=True)
        return (*adding, take)

    def title(self, design):
        return "word_" + "".join(sorted(design))

    def render(self, design, name, motivation):
        return f'WORD = "{"".join(sorted(design))}"\n'


def adds(letter):
    return lambda design, _: None if letter in design else design | {letter}


def takes(design, reference):
    return design | reference if reference and reference - design else None


def cognition(arxiv, number=1):
    paper = Paper(arxiv=arxiv, title="A paper", year=2024)
    texts = dict.fromkeys(("trigger", "background", "method", "implementation", "effect"), "x")
    return Cognition(id=f"{arxiv}/{number}", paper=paper, title=f"Title of {arxiv}", **texts)


def proposal(source, **values):
    return Proposal(**{"name": "n", "motivation": "m", "author": "symbolic", "source": source} | values)


def ended(id, source, value=0.5, **values):
    """A finished experiment; `parents` and `moves` go into its proposal."""
    made = {key: values.pop(key) for key in ("parents", "moves", "name") if key in values}
    gains = {"text": value - 0.5, "recall": -0.2}
    given = {
        "kind": "candidate",
        "status": "finished",
        "fitness": Fitness(formula="gain", value=value, terms={"text": 0.6, "recall": 0.4}, gains=gains),
        "finding": Finding(text=f"finding of {id}", query="weak recall"),
    }
    return Experiment(id=id, proposal=proposal(source, **made), **given | values)


def failed(id, phase="causality", **made):
    failure = Failure(phase=phase, kind="leak", message="it sees the future")
    return Experiment(
        id=id, kind="candidate", status="failed", proposal=proposal(f"x = {id}", **made), failure=failure
    )


def brief(experiments, parent=0, references=(), recall=lambda query, k: (), **values):
    given = {"id": 7, "seed": 0, "attempt": 0, "contract": "c", "settings": Settings()} | values
    by_id = {e.id: e for e in experiments}
    chosen = [by_id[id] for id in references]
    return make_brief(
        parent=by_id[parent], references=chosen, experiments=experiments, recall=recall, **given
    )


ROOT = ended(0, 'WORD = ""\n')
WORDS = SymbolicResearcher(Words())


# Novelty


def test_a_hash_knows_no_comments_docstrings_or_layout():
    a = 'def f(x):\n    """Doc."""\n    return x + 1  # one\n'
    b = '"""Module."""\n\n\ndef f( x ):\n    # other\n    return (x +\n        1)\n'
    assert source_hash(a) == source_hash(b)
    assert source_hash(a) != source_hash(a.replace("+ 1", "+ 2"))
    assert source_hash(a) != source_hash(a.replace("x", "y"))
    assert source_hash("a = 'text'") != source_hash("a = 'other text'")


def test_what_does_not_parse_has_a_hash_of_its_text():
    assert source_hash("def (") == source_hash("def (")
    assert source_hash("def (") != source_hash("def ((")


# Briefs


def test_trials_are_gains_over_the_parent_and_failures_have_none():
    experiments = [
        ended(3, "x = 3", 0.75, parents=(1,), moves=("a", "b")),
        ended(1, "x = 1", 0.5),
        failed(4, parents=(1,), moves=("c",)),
        failed(5, phase="novelty", parents=(1,), moves=("c",)),
        ended(6, "x = 6", 0.9, parents=(1,)),
        ended(7, "x = 7", 0.25, parents=(3,), moves=("a",)),
    ]
    assert trials(experiments) == (
        Trial(moves=("a", "b"), gain=0.25),
        Trial(moves=("c",), gain=None, failed="causality"),
        Trial(moves=("a",), gain=-0.5),
    )


def test_a_brief_knows_every_program_and_what_failed_nearby():
    experiments = [
        ROOT,
        failed(1, parents=(0,), moves=("add_a",)),
        failed(2, parents=(1,)),
        ended(3, "x = 3"),
    ]
    made = brief(experiments)
    assert made.known == {source_hash(e.proposal.source) for e in experiments}
    assert made.avoid[0] == "#1 n (add_a) failed in causality: it sees the future"
    assert len(made.avoid) == 2
    assert made.parent is ROOT


def test_findings_are_of_relatives_first_and_shown_newest_first():
    others = [ended(i, f"x = {i}", parents=(9,)) for i in range(2, 9)]
    experiments = [ROOT, ended(1, "x = 1", parents=(0,)), *others]
    made = brief(experiments, references=(2,), settings=Settings(num_findings=4))
    assert made.findings == tuple(f"finding of {i}" for i in (8, 2, 1, 0))
    assert brief(experiments, settings=Settings(num_findings=0)).findings == ()


def test_cognitions_answer_the_parents_weakness_and_vary_with_the_id():
    asked = []

    def recall(query, k):
        asked.append((query, k))
        return tuple(cognition(f"{i:04}") for i in range(k))

    drawn = [brief([ROOT], recall=recall, id=id).cognitions for id in range(8)]
    assert asked[0] == ("weak recall recall text", 12)
    assert all([c.paper.arxiv for c in some[:2]] == ["0000", "0001"] for some in drawn)
    assert all(len(some) == 4 and list(some) == sorted(some, key=lambda c: c.id) for some in drawn)
    assert len(set(drawn)) > 1
    assert brief([ROOT], recall=recall, settings=Settings(num_cognitions=0)).cognitions == ()


def test_a_brief_takes_fewer_cognitions_when_the_base_has_no_more():
    made = brief([ROOT], recall=lambda query, k: (cognition("a"), cognition("b"), cognition("c")))
    assert [c.paper.arxiv for c in made.cognitions] == ["a", "b", "c"]


def test_equal_arguments_make_equal_briefs():
    experiments = [ROOT, failed(1, parents=(0,)), ended(3, "x = 3", parents=(0,), moves=("add_a",))]
    assert brief(experiments) == brief(list(reversed(experiments)))


def test_a_parent_without_fitness_has_its_findings_weakness():
    assert weakness(replace(ROOT, fitness=None)) == "weak recall"
    assert weakness(replace(ROOT, fitness=None, finding=None)) == ""


# Learning


def test_the_posterior_of_one_move_is_the_textbooks():
    """One move tried n times with gain y = scale: mean n y / (n + precision), with the intercept solved."""
    beliefs = learn(["a"], [Trial(moves=("a",), gain=0.2)] * 4)
    assert beliefs.scale == pytest.approx(0.2)
    # X^T X + 4 I = [[8, 4], [4, 8]] and X^T y = [4, 4] in units of the scale
    assert list(beliefs.mean) == pytest.approx([1 / 3, 1 / 3])
    assert beliefs.shape == 2 + 4 / 2
    assert beliefs.rate == pytest.approx(1 + (4 - 8 / 3) / 2)


def test_draws_have_the_posteriors_mean_and_spread():
    beliefs = learn(["a", "b"], [Trial(moves=("a",), gain=0.1)] * 6 + [Trial(moves=("b",), gain=-0.1)] * 6)
    rng = random.Random(0)
    draws = [beliefs.sample(rng) for _ in range(4000)]
    mean = sum(d["a"] for d in draws) / len(draws)
    assert mean == pytest.approx(beliefs.mean[0], abs=0.03)
    spread = sum((d["a"] - mean) ** 2 for d in draws) / len(draws)
    noise = beliefs.rate / (beliefs.shape - 1)  # mean of the inverse gamma
    import numpy as np

    assert spread == pytest.approx(noise * np.linalg.inv(beliefs.precision)[0, 0], rel=0.15)


def test_failed_moves_are_believed_worse_than_moves_that_lost_a_little():
    tried = [Trial(moves=("a",), gain=-0.01), Trial(moves=("b",), gain=None), Trial(moves=("c",), gain=0.1)]
    beliefs = learn(["a", "b", "c", "d"], tried * 5)
    a, b, c, d, _ = beliefs.mean
    assert b < a < c
    assert d == pytest.approx(0)
    assert FAILURE < 0
    assert track_record(tried * 2)["b"] == (2, 2, 0.0)
    assert track_record(tried * 2)["c"] == (2, 0, pytest.approx(0.1))


def test_without_trials_all_moves_are_alike():
    beliefs = learn(["a", "b"], ())
    assert list(beliefs.mean) == [0, 0, 0]
    assert learn(["a"], [Trial(moves=("renamed_since",), gain=0.0)]).scale == 1.0


# Proposals


def test_a_proposal_depends_on_the_brief_alone_and_ids_differ():
    made = [WORDS.propose(brief([ROOT], id=id)) for id in range(10)]
    assert made == [SymbolicResearcher(Words()).propose(brief([ROOT], id=id)) for id in range(10)]
    assert len({p.source for p in made}) > 3
    assert all(p.parents == (0,) and p.author == "symbolic" and p.moves for p in made)
    assert made != [WORDS.propose(brief([ROOT], id=id, seed=1)) for id in range(10)]


def test_the_moves_of_a_proposal_lead_from_the_parent_to_it():
    parent = ended(0, 'WORD = "abc"\n')
    for id in range(20):
        made = WORDS.propose(brief([parent], id=id))
        design = frozenset("abc")
        for name in made.moves:
            design = next(m for m in Words().moves() if m.name == name).change(design, None)
        assert made.source == Words().render(design, "", "")
        assert 1 <= len(made.moves) <= 3


def test_a_known_program_is_not_proposed_and_later_attempts_go_further():
    single = [ended(1 + i, f'WORD = "{c}"\n', parents=(0,)) for i, c in enumerate(LETTERS)]
    for id in range(30):
        made = WORDS.propose(brief([ROOT, *single], id=id))
        assert source_hash(made.source) not in brief([ROOT, *single]).known
        assert len(made.moves) >= 2
    lengths = [
        sum(len(WORDS.propose(brief([ROOT], id=id, attempt=a)).moves) for id in range(20)) for a in (0, 4)
    ]
    assert lengths[1] >= lengths[0] + 20


def test_when_nothing_new_is_in_reach_a_known_program_is_given_back():
    full = ended(0, f'WORD = "{LETTERS}"\n')
    made = WORDS.propose(brief([full]))
    assert source_hash(made.source) == source_hash(full.proposal.source)
    assert made.moves == ()


@pytest.mark.parametrize(("gain", "expected"), [(0.3, "more"), (-0.3, "less"), (None, "less")])
def test_a_move_that_pays_is_made_more_often_and_one_that_does_not_less(gain, expected):
    rng = random.Random(1)
    history = [ROOT]
    for i in range(1, 41):
        moves = tuple(f"add_{c}" for c in rng.sample(LETTERS, 2))
        value = 0.5 + rng.gauss(0, 0.05)
        if "add_e" in moves and gain is None:
            history.append(failed(i, parents=(0,), moves=moves))
            continue
        value += gain if "add_e" in moves and gain else 0
        history.append(ended(i, f"x = {i}", value, parents=(0,), moves=moves))
    counts = []
    for experiments in ([ROOT], history):
        proposals = [WORDS.propose(brief(experiments, id=100 + id)) for id in range(60)]
        counts.append(sum("add_e" in p.moves for p in proposals))
    before, after = counts
    assert 4 <= before <= 20  # 1.7 of 12 letters
    assert after > 2 * before if expected == "more" else after < 0.5 * before


def test_moves_behind_the_briefs_cognitions_are_preferred_and_named():
    backing = tuple(cognition(c) for c in "abc")
    made = [WORDS.propose(brief([ROOT], id=id, recall=lambda query, k: backing)) for id in range(80)]
    counts = Counter(move for p in made for move in p.moves)
    backed = sum(counts[f"add_{c}"] for c in "abc") / 3
    rest = sum(counts[f"add_{c}"] for c in LETTERS[3:]) / 9
    assert backed > 1.3 * rest
    for p in made:
        assert p.cognitions == tuple(f"{c}/1" for c in "abc" if f"add_{c}" in p.moves)
        assert not p.cognitions or p.cognitions[0] in p.motivation


def test_a_part_taken_from_a_reference_names_the_reference():
    donor = ended(3, 'WORD = "kl"\n', name="Donor")
    made = [WORDS.propose(brief([ROOT, donor], references=(3,), id=id)) for id in range(60)]
    taking = [p for p in made if "take_letters" in p.moves]
    assert taking
    for p in made:
        assert p.references == ((3,) if "take_letters" in p.moves else ())
    assert all("take letters #3 Donor" in p.motivation for p in taking)


def test_the_motivation_says_what_was_weak_what_is_changed_and_what_is_known_of_it():
    history = [ROOT, *(ended(i, f"x = {i}", 0.6, parents=(0,), moves=("add_a",)) for i in (1, 2))]
    for id in range(40):
        made = WORDS.propose(brief(history, id=id))
        assert made.motivation.startswith(
            "Parent #0 n has fitness 0.500; its gains over the seed, weakest first: recall"
        )
        if "add_a" in made.moves:
            assert (
                "Change: add a. a may help (arXiv:a). Tried 2 times here, with a mean gain of +0.100"
                in made.motivation
            )
            break
    else:
        raise AssertionError("a move that gained twice was never made in 40 proposals")


def test_a_strange_parent_is_accepted_and_said_to_be():
    made = WORDS.propose(brief([ended(0, "import this")]))
    assert "It was read as the empty word." in made.motivation


def test_a_parent_without_a_proposal_is_refused():
    bare = Experiment(id=0, kind="candidate", status="claimed")
    with pytest.raises(ValueError, match="experiment 0 has no proposal"):
        WORDS.propose(brief([bare]))


def test_every_baseline_of_linear_attention_is_a_parent():
    space = load_space("linear_attention")
    grammar = resolve(space.grammar)()
    researcher = SymbolicResearcher(grammar)
    base = CognitionBase(space.folder / "cognition")
    stems = [stem for stem in space.baselines() if stem not in space.references]
    experiments = [ended(i, space.baseline_source(stem), name=stem) for i, stem in enumerate(stems)]
    experiments.append(ended(50, "class Mixer: pass", name="odd"))
    for parent in (*range(len(stems)), 50):
        made = researcher.propose(
            brief(experiments, parent=parent, references=(0, 1, 2), recall=base.recall, id=60 + parent)
        )
        assert grammar.read(made.source)[1] == ""
        assert made.name == grammar.title(grammar.read(made.source)[0])
        assert "It was read from its source" in made.motivation
        assert made.motivation.split()[0] in made.source
