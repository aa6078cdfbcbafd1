"""A researcher without a language model: moves of a grammar, and what the archive says of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

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

    def title(self, design: Design) -> str:
        """Give a name for a design, made of words that say what it is: letters, digits, "_"."""
        ...

    def render(self, design: Design, name: str, motivation: str) -> str:
        """Give the design as readable source that obeys the contract and carries its design.

        Equal arguments give equal text; designs that differ give programs that differ; name and
        motivation appear in docstrings only.
        """
        ...
