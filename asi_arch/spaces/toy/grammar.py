"""The grammar of the toy space: moves on lists of terms, for the symbolic researcher."""

from collections.abc import Callable
from dataclasses import replace

from asi_arch.researcher.symbolic import Move
from asi_arch.spaces.toy.rule import GAIN, KINDS, Term, read_rule

Design = tuple[Term, ...]
Change = Callable[[Design, Design | None], Design | None]
MOST_TERMS = 8
FOURIER = "2006.10739"  # Fourier features let networks learn high frequencies
SPECTRAL = "1806.08734"  # networks of hinges learn low frequencies first
PERIODIC = "2006.08195"  # networks fail to extrapolate periodic functions


class ToyGrammar:
    """Reads and writes rules; its moves change the last term, or add and take terms."""

    def read(self, source: str) -> tuple[Design, str]:
        """Give the terms of a source, and a note when the text is not what `render` writes."""
        design = read_rule(source)
        written = source[source.rfind("\nRULE = ") + 1 :] == _body(design)
        return design, "" if written else "It was read from a text of another layout."

    def moves(self) -> tuple[Move, ...]:
        """Give all moves."""
        return (*_ADDING, *_TURNING, *_OTHER)

    def without_each(self, design: Design, base: Design) -> tuple[tuple[str, Design], ...]:
        """Give the rule without each term that a base lacks, and with each term that only the base has.

        One that is no rule of the space any more is among them: that it does not run is said when it is run.
        """
        found = [(f"the term {_told(term)}", tuple(t for t in design if t != term))
                 for term in design if term not in base]  # fmt: skip
        found += [(f"the lack of {_told(t)}", (*design, t)) for t in base if t not in design]
        return tuple(found)

    def title(self, design: Design) -> str:
        """Name a rule by the kinds of its terms, such as "power_2_wave"."""
        counts = {kind: sum(term.kind == kind for term in design) for kind in KINDS}
        words = [kind if n == 1 else f"{kind}_{n}" for kind, n in counts.items() if n]
        return "_".join(words) or "constant"

    def render(self, design: Design, name: str, motivation: str) -> str:
        """Write a rule as source."""
        text = f"{name}.\n\n{motivation}".replace("\\", "/").replace('"', "'")
        return f'"""{text}\n"""\n\n{_body(design)}'


def _told(term: Term) -> str:
    return " ".join([term.kind, *(f"{value:g}" for value in term.values)])


def grammar() -> ToyGrammar:
    """Give the grammar of the toy space."""
    return ToyGrammar()


def _body(design: Design) -> str:
    lines = ["RULE = {", '    "terms": [']
    for term in design:
        fields = ", ".join(f'"{name}": {_literal(value)}' for name, value in term.fields().items())
        lines.append(f"        {{{fields}}},")
    return "\n".join([*lines, "    ]", "}"]) + "\n"


def _literal(value: str | float) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _adds(first: Term, field: int, step: Callable[[float], float]) -> Change:
    """Give the change that adds `first`, or its next variant along one value that the design lacks."""

    def change(design: Design, _: Design | None) -> Design | None:
        low_high = list(KINDS[first.kind].ranges.values())[field]
        term = first
        while term in design:
            term = _with(term, field, step(term.values[field]))
        return (*design, term) if _inside(term.values[field], low_high) and len(design) < MOST_TERMS else None

    return change


def _turns(kind: str, field: int, step: Callable[[float], float]) -> Change:
    """Give the change that moves one value of the last term of a kind."""

    def change(design: Design, _: Design | None) -> Design | None:
        places = [i for i, term in enumerate(design) if term.kind == kind]
        if not places:
            return None
        last = places[-1]
        value = round(step(design[last].values[field]), 6)
        term = _with(design[last], field, value)
        inside = _inside(value, list(KINDS[kind].ranges.values())[field])
        return (*design[:last], term, *design[last + 1 :]) if inside and term not in design else None

    return change


def _with(term: Term, field: int, value: float) -> Term:
    return replace(term, values=(*term.values[:field], value, *term.values[field + 1 :]))


def _inside(value: float, low_high: tuple[float, float]) -> bool:
    return low_high[0] <= value <= low_high[1]


def _drop_first(design: Design, _: Design | None) -> Design | None:
    return design[1:] if len(design) > 1 else None


def _louder(design: Design, _: Design | None) -> Design | None:
    if not design or design[-1].gain * 4 > GAIN[1]:
        return None
    return (*design[:-1], replace(design[-1], gain=design[-1].gain * 4))


def _take_term(design: Design, other: Design | None) -> Design | None:
    taken = next((term for term in reversed(other or ()) if term not in design), None)
    return (*design, taken) if taken is not None and len(design) < MOST_TERMS else None


_ADDING = (
    Move(
        name="add_power",
        motivation="A further power bends the curve once more.",
        change=_adds(Term("power", (1,)), 0, lambda degree: degree + 1),
    ),
    Move(
        name="add_wave",
        motivation="A wave of its own frequency is learned at once, where hinges would need many.",
        change=_adds(Term("wave", (3.0, 0.0)), 0, lambda frequency: frequency + 1.5),
        cites=(FOURIER,),
    ),
    Move(
        name="add_hinge",
        motivation="A hinge changes the slope at one place and leaves the rest alone.",
        change=_adds(Term("hinge", (-0.5,)), 0, lambda at: at + 0.25),
        cites=(SPECTRAL,),
    ),
    Move(
        name="add_bump",
        motivation="A bump mends one place and nothing else.",
        change=_adds(Term("bump", (-0.75, 0.25)), 0, lambda at: at + 0.25),
    ),
)
_TURNING = (
    Move(
        name="raise_frequency",
        motivation="The last wave may be too slow for what is left of the error.",
        change=_turns("wave", 0, lambda frequency: frequency * 1.2),
        cites=(FOURIER,),
    ),
    Move(
        name="lower_frequency",
        motivation="A slower wave goes on more safely beyond the points.",
        change=_turns("wave", 0, lambda frequency: frequency / 1.3),
        cites=(PERIODIC,),
    ),
    Move(
        name="turn_phase",
        motivation="A wave needs its phase, since its weight only scales it.",
        change=_turns("wave", 1, lambda phase: phase + 0.5),
    ),
    Move(
        name="move_hinge",
        motivation="The kink may lie further right.",
        change=_turns("hinge", 0, lambda at: at + 0.15),
        cites=(SPECTRAL,),
    ),
    Move(
        name="widen_bump",
        motivation="A wider bump is held by more points.",
        change=_turns("bump", 1, lambda width: width * 1.5),
    ),
)
_OTHER = (
    Move(
        name="drop_first",
        motivation="Fewer terms are held better by the same points.",
        change=_drop_first,
    ),
    Move(
        name="louder",
        motivation="A larger gain lets a term learn faster, until it diverges.",
        change=_louder,
    ),
    Move(
        name="take_term",
        motivation="A term that served another rule may serve this one.",
        change=_take_term,
        takes=True,
    ),
)
