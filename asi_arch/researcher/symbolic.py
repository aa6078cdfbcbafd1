"""A researcher without a language model: moves of a grammar, and what the archive says of them.

A proposal is the parent's design after one to three moves, written out by the grammar. Which moves
is decided by `learning.Beliefs`; the brief's cognitions and chance have a say, and `causes` notes whose
word decided.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from asi_arch.papers import Cognition
from asi_arch.records import Brief, Experiment, Proposal
from asi_arch.researcher.causes import attributions
from asi_arch.researcher.learning import learn, track_record
from asi_arch.researcher.novelty import source_hash
from asi_arch.search.behaviour import RECENT, family_of, most_used

AUTHOR = "symbolic"
MAX_NAME = 60  # characters
TRIES = 60  # chains of moves before a known program is given back
LENGTHS = (1, 1, 1, 2, 2, 3)  # of a chain of moves, drawn evenly
BACKED = 0.25  # added to the drawn effect of a move that a cognition of the brief backs, in scales

Design = Any
"""A grammar's own frozen, hashable record; the researcher never looks inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One named change of a design.

    name: stable words joined by "_", such as "add_scalar_decay"; what was learned hangs on it.
    motivation: a sentence: why the change may pay. cites: arXiv ids of the papers that it is from.
    expect: what to expect of it, and at what cost, or "".
    change: gives the changed design, or None where the move does not apply: nothing to change, or
        the result would not be valid. Its second argument is a reference's design, when the move
        takes a part from one, else None.
    takes: the move takes a part from a reference.
    """

    name: str
    motivation: str
    change: Callable[[Design, Design | None], Design | None]
    cites: tuple[str, ...] = ()
    expect: str = ""
    takes: bool = False


class Grammar(Protocol):
    """What a space gives the researcher: a reader, moves, and a writer. Found by `Space.grammar`.

    All methods are pure, and fast but for `render`.
    """

    def read(self, source: str) -> tuple[Design, str]:
        """Give the design of any source, and a note.

        The note is "" when the source is exactly what `render` wrote for that design; else it says
        in words how the design was read and what was not understood, for the motivation.
        """
        ...

    def moves(self) -> tuple[Move, ...]:
        """Give all moves, always in the same order."""
        ...

    def without_each(self, design: Design, base: Design) -> tuple[tuple[str, Design], ...]:
        """Give the name of each part that sets a design apart from a base, and the design without it.

        Each is a valid design that differs from the one given and from the others.
        """
        ...

    def title(self, design: Design) -> str:
        """Give a name for a design, made of words that say what it is: letters, digits, "_"."""
        ...

    def render(self, design: Design, name: str, motivation: str) -> str:
        """Give the design as readable source that obeys the contract and carries its design.

        Equal arguments give equal text; designs that differ give programs that differ; name and
        motivation appear in docstrings only.
        """
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """A move that was made, and the reference that it took a part from, if it did."""

    move: Move
    design: Design
    reference: Experiment | None = None


class SymbolicResearcher:
    """Proposes by moves of a grammar. Holds no state: a proposal depends on the brief alone.

    Args:
        grammar: of the space.
        recounts: motivations say what the brief's trials say of a move, or that there were none; False in
            a study without analyst, whose briefs hold no trials although there were some.
    """

    def __init__(self, grammar: Grammar, recounts: bool = True) -> None:
        self.grammar, self._recounts = grammar, recounts

    def propose(self, brief: Brief) -> Proposal:
        """Give a proposal whose program is not among the known ones of the brief.

        Every draw comes from the brief's seed, id and attempt, so equal briefs give equal proposals.
        A later attempt makes longer chains of moves. An orthogonal brief's proposal makes no moves of the
        families that were used most of late. When no new program is found in 60 chains, a
        known one is given, which the study counts as a repeat. What decided each move is noted with it.

        Raises:
            ValueError: the parent has no proposal, so there is nothing to start from.
        """
        if brief.parent.proposal is None:
            raise ValueError(f"experiment {brief.parent.id} has no proposal, so it is no parent")
        rng = random.Random(f"{brief.seed}/{brief.id}/{brief.attempt}")
        parent, note = self.grammar.read(brief.parent.proposal.source)
        references = [(e, self.grammar.read(e.proposal.source)[0]) for e in brief.references if e.proposal]
        moves = _open_moves(brief, self.grammar.moves())
        names = [move.name for move in moves]
        beliefs = learn(names, brief.trials)
        bonus = {move.name: BACKED if _backing(brief, move) else 0.0 for move in moves}
        for attempt in range(TRIES):
            dice = beliefs.throw(rng)
            effects = beliefs.effects(dice)
            length = rng.choice(LENGTHS) + brief.attempt + attempt // 10
            state = rng.getstate()
            steps = _chain(parent, _ordered(moves, effects, bonus), references, length, rng)
            proposal = self._written(brief, parent, note, steps)
            if steps and source_hash(proposal.source) not in brief.known:
                break

        def again(learned: bool, backed: bool) -> frozenset[str]:
            same = random.Random()
            same.setstate(state)
            scores = effects if learned else learn(names, ()).effects(dice)
            order = _ordered(moves, scores, bonus if backed else {})
            return frozenset(s.move.name for s in _chain(parent, order, references, length, same))

        made = [(s.move.name, s.reference, tuple(c.id for c in _backing(brief, s.move))) for s in steps]
        return replace(proposal, origins=attributions(brief, made, again))

    def _written(self, brief: Brief, parent: Design, note: str, steps: Sequence[Step]) -> Proposal:
        design = steps[-1].design if steps else parent
        name = self.grammar.title(design)[:MAX_NAME].rstrip("_")
        motivation = _motivation(brief, note, steps, self._recounts)
        used = dict.fromkeys(s.reference.id for s in steps if s.reference)
        return Proposal(
            name=name,
            motivation=motivation,
            source=self.grammar.render(design, name, motivation),
            author=AUTHOR,
            parents=(brief.parent.id,),
            references=tuple(used),
            cognitions=tuple(c.id for c in _resting_on(brief, steps)),
            moves=tuple(s.move.name for s in steps),
        )


def _open_moves(brief: Brief, moves: Sequence[Move]) -> tuple[Move, ...]:
    """Give the moves that a brief leaves open: all, or for an orthogonal one those of rarer families."""
    trodden = most_used(t.moves for t in brief.trials[-RECENT:]) if brief.orthogonal else frozenset()
    return tuple(move for move in moves if family_of(move.name) not in trodden) or tuple(moves)


def _chain(
    parent: Design,
    order: Sequence[Move],
    references: Sequence[tuple[Experiment, Design]],
    length: int,
    rng: random.Random,
) -> tuple[Step, ...]:
    """Make up to `length` moves, each the first of the order that applies and adds to those before.

    A move does not add when it leads back to an earlier design or to a reference's, or when it would
    have led to the same design without the move before it.
    """
    steps: list[Step] = []
    seen = [parent]
    for move in order:
        if len(steps) == length:
            break
        if move.takes and not references:
            continue
        reference, taken = rng.choice(references) if move.takes else (None, None)
        design = move.change(seen[-1], taken)
        if design is None or design in seen or any(design == other for _, other in references):
            continue
        if len(seen) > 1 and move.change(seen[-2], taken) == design:
            continue
        steps.append(Step(move, design, reference))
        seen.append(design)
    return tuple(steps)


def _ordered(moves: Sequence[Move], effects: Mapping[str, float], bonus: Mapping[str, float]) -> list[Move]:
    """Give moves by their drawn effect and what a cognition adds to it, the highest first."""
    scores = {m.name: effects[m.name] + bonus.get(m.name, 0.0) for m in moves}
    return sorted(moves, key=lambda m: -scores[m.name])  # stable, so ties keep the grammar's order


def _backing(brief: Brief, move: Move) -> tuple[Cognition, ...]:
    """Give the brief's cognitions that back a move.

    These are the ones that name it; where none does, those of a paper that it cites which name no move.
    """
    naming = tuple(c for c in brief.cognitions if move.name in c.moves)
    return naming or tuple(c for c in brief.cognitions if not c.moves and c.paper.arxiv in move.cites)


def _resting_on(brief: Brief, steps: Sequence[Step]) -> list[Cognition]:
    backing = {c.id for step in steps for c in _backing(brief, step.move)}
    return [c for c in brief.cognitions if c.id in backing]


def _motivation(brief: Brief, note: str, steps: Sequence[Step], recounts: bool) -> str:
    """Say in paragraphs what was weak, what is changed and why, and what to expect."""
    record = track_record(brief.trials) if recounts else None
    paragraphs = [f"{_standing(brief.parent)} {note}".strip()]
    if brief.orthogonal:
        paragraphs.append("The study gains nothing any more, so this leaves what was changed most of late.")
    paragraphs += [_change(step, record) for step in steps]
    expected = [f"of {_words(s.move.name)}, {s.move.expect}" for s in steps if s.move.expect]
    if expected:
        paragraphs.append(f"To expect: {'; '.join(expected)}.")
    rests = [f"{c.id} ({c.title})" for c in _resting_on(brief, steps)]
    if rests:
        paragraphs.append(f"It rests on {', '.join(rests)}.")
    return "\n".join(paragraphs)


def _standing(parent: Experiment) -> str:
    """Say how the parent did against the seed, weakest metric first."""
    name = parent.name or "unnamed"
    opening = f"Parent #{parent.id} {name}"
    fitness = parent.fitness
    if fitness is None:
        return f"{opening} has no fitness yet."
    opening = f"{opening} has fitness {fitness.value:.3f}"
    if not fitness.gains:
        return f"{opening}."
    order = sorted(fitness.gains, key=lambda n: (fitness.terms.get(n, fitness.gains[n]), n))
    gains = ", ".join(f"{_words(n)} {round(fitness.gains[n], 6) + 0.0:+.3g}" for n in order)
    weakest = f", so {_words(order[0])} is the place to gain" if len(order) > 1 else ""
    return f"{opening}; its gains over the seed, weakest first: {gains}{weakest}."


def _change(step: Step, record: Mapping[str, tuple[int, int, float]] | None) -> str:
    move = step.move
    source = f" #{step.reference.id} {step.reference.name}" if step.reference else ""
    cites = f" ({', '.join(f'arXiv:{a}' for a in move.cites)})" if move.cites else ""
    text = f"Change: {_words(move.name)}{source}. {move.motivation.rstrip('.')}{cites}."
    if record is None:
        return text
    if move.name not in record:
        return f"{text} It was not tried in this study."
    trials, failed, gain = record[move.name]
    if failed == trials:
        return f"{text} Tried {_times(trials)} here, it failed each time."
    failures = f", {failed} of them failed" if failed else ""
    return f"{text} Tried {_times(trials)} here{failures}, with a mean gain of {gain:+.3f} over the parent."


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _words(name: str) -> str:
    return name.replace("_", " ")
