"""The grammar of linear-attention mixers: reads any mixer as a design, moves it, and writes it out."""

import re
from dataclasses import replace

from asi_arch.researcher.novelty import source_hash
from asi_arch.researcher.symbolic import Move
from asi_arch.spaces.linear_attention.changes import fitted
from asi_arch.spaces.linear_attention.design import Design, Fusion, Keys, Output, Values, from_json, tidy
from asi_arch.spaces.linear_attention.limits import fault
from asi_arch.spaces.linear_attention.moves import MOVES
from asi_arch.spaces.linear_attention.parts import without_each
from asi_arch.spaces.linear_attention.recognise import recognise
from asi_arch.spaces.linear_attention.render import program, render
from asi_arch.spaces.linear_attention.title import title

CARRIED = re.compile(r"^Design: (.*)$", re.MULTILINE)


class LinearAttentionGrammar:
    """Implements `researcher.symbolic.Grammar` for `Design`."""

    def read(self, source: str) -> tuple[Design, str]:
        """Give the design that a source carries, if it is that design's program; else the nearest one."""
        carried = _carried(source)
        if carried is not None:
            return carried, ""
        design, passed_over = recognise(source)
        stale = " (its line 'Design:' is not of this program)" if CARRIED.search(source) else ""
        note = f"It was read from its source as the nearest design of the grammar{stale}."
        if passed_over:
            note += f" Not understood: {passed_over}."
        reason = fault(design)
        if reason:
            note += f" Parts were dropped to fit the grammar's limits: {reason}."
        return _within_limits(design), note

    def moves(self) -> tuple[Move, ...]:
        """Give all moves."""
        return MOVES

    def without_each(self, design: Design, base: Design) -> tuple[tuple[str, Design], ...]:
        """Give the design once for each part that sets it apart from a base, without that part."""
        return without_each(design, base)

    def title(self, design: Design) -> str:
        """Name a design by its recurrence and by what sets it apart from DeltaNet."""
        return title(design)

    def render(self, design: Design, name: str, motivation: str) -> str:
        """Write a valid design as a program."""
        return render(design, name, motivation)


def linear_attention_grammar() -> LinearAttentionGrammar:
    """Give the grammar; it holds no state."""
    return LinearAttentionGrammar()


def _carried(source: str) -> Design | None:
    """Give the design of a source's line `Design: {...}`, unless someone changed the program since."""
    line = CARRIED.search(source)
    if line is None:
        return None
    try:
        design = from_json(line[1])
    except ValueError:
        return None
    if fault(design) or source_hash(program(design)) != source_hash(source):
        return None
    return design


def _within_limits(design: Design) -> Design:
    """Drop parts, the costliest first, until a design is one of the grammar's."""
    simpler = (
        {"memories": design.memories[:1]},
        {"window": 0, "local": 0, "identity": False, "fusion": Fusion()},
        {"values": Values(activation=design.values.activation)},
        {"memories": (replace(design.memories[0], steps=1),)},
        {"output": Output(norm=design.output.norm)},
        {"keys": Keys()},
        {"memories": Design().memories},
    )
    for values in simpler:
        if fault(design) is None:
            break
        design = tidy(fitted(replace(design, **values)))
    return design if fault(design) is None else Design()
