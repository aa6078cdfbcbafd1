"""Moves on the memory: how it is updated, what it forgets, how strongly it writes, and a second one."""

from dataclasses import replace

from asi_arch.researcher.symbolic import Move
from asi_arch.spaces.linear_attention.changes import (
    Change,
    add_decay,
    decay,
    gated_decay,
    kind_of,
    memory,
    move,
    stepped,
    when,
)
from asi_arch.spaces.linear_attention.design import Decay, Design, Memory


def _second(memory: Memory) -> Change:
    """Add a second memory where there is one."""
    return when(lambda d: len(d.memories) == 1, lambda d: replace(d, memories=(*d.memories, memory)))


def _steps(by: int) -> Change:
    def change(design: Design) -> Design | None:
        first = design.memories[0]
        return memory(steps=first.steps + by)(design) if 1 <= first.steps + by <= 3 else None

    return when(lambda d: d.memories[0].update == "delta", change)


def _rank(by: int) -> Change:
    def rank(design: Design) -> int | None:
        first = design.memories[0].decay
        return first.rank if first and first.kind == "channel" else None

    return stepped(Decay, "rank", rank, lambda value: decay(rank=value), by)


UPDATES = (
    move(
        "use_delta_update",
        memory(update="delta"),
        ("2102.11174", "2406.06484"),
        "An additive memory piles values of one key up; the delta rule replaces what the key holds.",
        "better recall once many pairs share few channels, at about twice the recurrence's time",
    ),
    move(
        "use_additive_update",
        memory(update="additive"),
        ("2006.16236", "2405.21060"),
        "To read before each write costs time and may hinder early training; a sum is the simplest memory.",
        "faster steps and smoother text, weaker recall of rebound keys",
    ),
    move(
        "add_delta_step",
        _steps(1),
        ("2502.10297",),
        "One rank-one edit for each token cannot permute bindings; a product of several can, in one state.",
        "better state tracking; recurrence time and key and value projections grow with the steps",
    ),
    move(
        "remove_delta_step",
        _steps(-1),
        ("2502.10297", "2406.06484"),
        "A delta step that does not pay costs projections and time that the rest of the model could use.",
        "faster, and a wider SwiGLU in exchange",
    ),
    move(
        "normalise_by_sum",
        when(lambda d: d.memories[0].update == "additive", memory(normalised=True)),
        ("2006.16236", "2402.04347"),
        "Divided by the sum of its weights, an additive read averages values, as softmax attention does.",
        "a read whose size does not depend on how much was written",
    ),
    move(
        "drop_sum",
        memory(normalised=False),
        ("2210.10340", "2307.08621"),
        "The denominator of linear attention has unbounded gradients; a norm of the output does its work.",
        "steadier training",
    ),
)

DECAYS = (
    move(
        "add_fixed_decay",
        add_decay(kind="fixed"),
        ("2307.08621",),
        "A memory without decay fills up; one constant rate for each head clears it at no cost.",
        "better text, recall limited by the slowest head",
    ),
    move(
        "add_learned_decay",
        add_decay(kind="learned"),
        ("2303.06349", "2206.11893"),
        "A constant rate need not be guessed: learned in the logarithm it finds each head's time scale.",
        "as a fixed decay, with rates fitted to the data",
    ),
    move(
        "add_scalar_decay",
        add_decay(kind="scalar"),
        ("2405.21060", "2412.06464"),
        "When the topic changes the whole memory is stale; a rate from the token lets a head clear itself.",
        "better text; recall may be learned later, since forgetting is the easier habit",
    ),
    move(
        "add_channel_decay",
        add_decay(kind="channel"),
        ("2312.06635", "2510.26692"),
        "With a rate of its own for each key channel one head can hold slow and fast facts side by side.",
        "better text than one rate for each head, at a slower recurrence",
    ),
    move(
        "remove_decay",
        memory(decay=None),
        ("2406.06484", "2410.11135"),
        "A decay that starts fast hides early pairs from the gradient; the delta rule forgets by itself.",
        "faster learning of recall, weaker text",
    ),
    move(
        "use_softplus_decay",
        gated_decay("softplus"),
        ("2405.21060",),
        "The step-size form -exp(a) softplus(z) can reach both no forgetting and full clearing.",
    ),
    move(
        "use_logsigmoid_decay",
        gated_decay("logsigmoid"),
        ("2312.06635",),
        "A sixteenth of the log-sigmoid keeps rates near 0, so that forgetting must be learned.",
        "longer memory at the start, faster learning of recall",
    ),
    move(
        "bound_decay",
        gated_decay("bounded"),
        ("2510.26692",),
        "Bounded to -5 for each step, a decay stays in the range where chunked kernels are exact.",
    ),
    move(
        "use_mild_decay",
        gated_decay("mild"),
        ("2503.14456",),
        "If no step can forget more than about half, single tokens cannot wipe the memory by mistake.",
        "steadier recall, slower reaction to a change of topic",
    ),
    move(
        "use_recurrent_gate_decay",
        gated_decay("recurrent"),
        ("2402.19427", "2303.06349"),
        "A learned rate of each head or channel, slowed by a gate of the token, is stable at long scales.",
    ),
    move(
        "start_short",
        decay(scale="short"),
        ("1804.11188",),
        "The start of the forget gate sets which delays are learned first; words need few tokens.",
        "faster learning of local text, slower of recall",
    ),
    move(
        "start_medium",
        decay(scale="medium"),
        ("1804.11188", "2206.11893"),
        "Time scales at the start should match the delays of the data, here tens of tokens.",
    ),
    move(
        "start_long",
        decay(scale="long"),
        ("2412.06464", "2410.11135"),
        "Pairs that are forgotten before they are asked for give no gradient; slow heads keep them.",
        "faster learning of recall",
    ),
    move(
        "spread_time_scales",
        decay(scale="wide"),
        ("2307.08621", "2206.11893", "2506.04761"),
        "Heads, or channels, from two tokens to a thousand give local and distant context from the start.",
    ),
    move(
        "widen_decay_gate",
        _rank(1),
        ("2404.05892", "2312.06635"),
        "A decay of each channel through too narrow a bottleneck can only be one clock with offsets.",
    ),
    move(
        "narrow_decay_gate",
        _rank(-1),
        ("2312.06635",),
        "A low rank keeps the decays of a head's channels in step, and gives parameters back.",
    ),
)

WRITES = (
    move(
        "gate_write",
        memory(write="sigmoid"),
        ("2102.11174", "2406.06484"),
        "Not every token is worth remembering; a write strength of the token leaves room for those that are.",
    ),
    move(
        "allow_negative_eigenvalues",
        memory(write="double"),
        ("2411.12537",),
        "With a write strength up to 2 the update can flip the sign of what a key holds, and track states.",
        "better state tracking at no cost",
    ),
    move(
        "erase_and_write_apart",
        memory(write="apart"),
        ("2605.22791", "2506.02475"),
        "One gate for both cannot erase without writing; a second one decides what is written on its own.",
    ),
    move(
        "tie_write_to_forgetting",
        when(lambda d: kind_of(d) == "channel", memory(write="tied", update="additive")),
        ("2404.07904",),
        "If a channel writes as much as it forgets, its content keeps its size and needs no other gate.",
        "fewer parameters, a steady scale of the memory",
    ),
    move(
        "write_by_step",
        when(lambda d: kind_of(d) == "scalar", memory(write="step", update="additive")),
        ("2405.21060", "2312.00752"),
        "One step size for forgetting and writing, as in a discretised state space: a long step does both.",
    ),
    move(
        "write_fully",
        memory(write="full"),
        ("2006.16236", "2307.08621"),
        "A write gate that starts half open halves every early lesson; without it each token is written.",
    ),
)

SECOND = (
    move(
        "add_slow_memory",
        _second(Memory(update="additive", write="sigmoid", decay=Decay(kind="learned", scale="long"))),
        ("2506.04761", "2502.13685"),
        "One state serves both the last words and the whole text; a second, slow one frees the first.",
        "better long context; twice the state",
    ),
    move(
        "add_fast_memory",
        _second(Memory(update="additive", write="full", decay=Decay(kind="scalar", scale="short"))),
        ("2506.04761", "2502.13685"),
        "A second memory that forgets within a few tokens takes local statistics off the first.",
        "better text; twice the state",
    ),
    move(
        "add_delta_memory",
        _second(Memory(update="delta", write="double")),
        ("2502.13685", "2406.06484"),
        "A second memory under the delta rule, without decay, keeps bindings that the first forgets.",
        "better recall; twice the state and a slower step",
    ),
    move(
        "drop_second_memory",
        lambda d: replace(d, memories=d.memories[:1]),
        ("2406.06484",),
        "A second memory that does not pay costs state and time.",
    ),
)

MEMORY_MOVES: tuple[Move, ...] = (*UPDATES, *DECAYS, *WRITES, *SECOND)
