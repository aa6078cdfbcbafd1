"""All moves of the grammar: named changes of a design, each with the papers that it comes from."""

from dataclasses import replace

from asi_arch.researcher.symbolic import Move
from asi_arch.spaces.linear_attention.changes import taking, with_first
from asi_arch.spaces.linear_attention.design import Design
from asi_arch.spaces.linear_attention.moves_inputs import INPUT_MOVES
from asi_arch.spaces.linear_attention.moves_memories import MEMORY_MOVES
from asi_arch.spaces.linear_attention.moves_outputs import OUTPUT_MOVES


def _take_decay(design: Design, other: Design) -> Design:
    return with_first(design, replace(design.memories[0], decay=other.memories[0].decay))


def _take_second(design: Design, other: Design) -> Design:
    return replace(design, memories=(design.memories[0], other.memories[-1]))


def _take_paths(design: Design, other: Design) -> Design:
    return replace(
        design, local=other.local, window=other.window, identity=other.identity, fusion=other.fusion
    )


def _take_convolutions(design: Design, other: Design) -> Design:
    return replace(
        design, convolved=other.convolved, kernel=other.kernel, shifted=other.shifted, canon=other.canon
    )


SEARCH = ("2507.18074",)  # parts of good designs were joined there too

TAKES: tuple[Move, ...] = (
    taking(
        "take_decay_from_reference",
        _take_decay,
        SEARCH,
        "A reference forgets in another way and does well; its decay may serve this memory.",
    ),
    taking(
        "take_memory_from_reference",
        lambda design, other: with_first(design, other.memories[0]),
        SEARCH,
        "A reference's recurrence does well with other inputs and outputs; it may do so with these.",
    ),
    taking(
        "take_second_memory_from_reference",
        _take_second,
        (*SEARCH, "2502.13685"),
        "Two recurrences that do well alone may do better side by side.",
    ),
    taking(
        "take_convolutions_from_reference",
        _take_convolutions,
        SEARCH,
        "A reference looks at neighbouring tokens in another way before it writes.",
    ),
    taking(
        "take_keys_from_reference",
        lambda design, other: replace(design, keys=other.keys),
        SEARCH,
        "A reference makes queries and keys in another way.",
    ),
    taking(
        "take_values_from_reference",
        lambda design, other: replace(design, values=other.values),
        SEARCH,
        "A reference makes values in another way.",
    ),
    taking(
        "take_paths_from_reference",
        _take_paths,
        SEARCH,
        "A reference has other paths beside its memory, and another way to fuse them.",
    ),
    taking(
        "take_output_from_reference",
        lambda design, other: replace(design, output=other.output),
        SEARCH,
        "A reference norms and gates its output in another way.",
    ),
)

MOVES: tuple[Move, ...] = (*MEMORY_MOVES, *INPUT_MOVES, *OUTPUT_MOVES, *TAKES)
"""In a fixed order; names are never changed, since what was learned hangs on them."""
