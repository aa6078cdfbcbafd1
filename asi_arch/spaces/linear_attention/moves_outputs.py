"""Moves on what is made of a memory's read: paths beside it, their fusion, output norm and gate."""

from asi_arch.researcher.symbolic import Move
from asi_arch.spaces.linear_attention.changes import Change, mixer, move, part, stepped, when
from asi_arch.spaces.linear_attention.design import Design


def _local(by: int) -> Change:
    return stepped(Design, "local", lambda d: d.local, lambda value: mixer(local=value), by)


def _window(by: int) -> Change:
    return stepped(Design, "window", lambda d: d.window, lambda value: mixer(window=value), by)


PATHS = (
    move(
        "add_local_convolution",
        when(lambda d: not d.local, mixer(local=5)),
        ("2302.10866", "2507.18074"),
        "Fixed local patterns need no memory: a depthwise convolution of the values learns them at once.",
        "better text early in training",
    ),
    move(
        "widen_local_convolution",
        _local(1),
        ("2302.10866", "2507.18074"),
        "A longer filter reaches over words.",
    ),
    move(
        "narrow_local_convolution", _local(-1), ("2302.10866",), "A shorter filter leaves more to the memory."
    ),
    move(
        "drop_local_convolution",
        mixer(local=0),
        ("2406.06484",),
        "Short convolutions of q, k and v already see what the local path sees.",
    ),
    move(
        "add_window",
        when(lambda d: not d.window, mixer(window=16)),
        ("2402.18668", "2406.07522", "2501.00663"),
        "A small window of softmax attention is exact where a memory is not: on the last few tokens.",
        "better text and copying; a cache of a few tokens and a slower step",
    ),
    move(
        "widen_window",
        _window(1),
        ("2004.05150", "2402.19427"),
        "A wider window recalls more pairs exactly.",
    ),
    move(
        "narrow_window",
        _window(-1),
        ("2402.18668",),
        "A tiny window does the local work and leaves recall to the memory.",
    ),
    move(
        "drop_window",
        mixer(window=0),
        ("2510.26692",),
        "The memory must learn what the window now does for it.",
    ),
    move(
        "add_identity_path",
        mixer(identity=True),
        ("1505.00387", "2507.18074"),
        "A path that carries the value unchanged gives each head a way to abstain.",
    ),
    move(
        "drop_identity_path",
        mixer(identity=False),
        ("2406.06484",),
        "The residual stream is an identity already.",
    ),
)


def _paths(least: int, change: Change) -> Change:
    return when(lambda d: d.num_paths() >= least, change)


FUSION = (
    move(
        "fuse_statically",
        _paths(2, part("fusion", kind="static")),
        ("2411.13676",),
        "Learned weights of each head, equal for all tokens, cost nothing and start with every path open.",
    ),
    move(
        "fuse_by_token",
        _paths(2, part("fusion", kind="token")),
        ("2502.13685", "2507.18074"),
        "Which path knows the answer depends on the token, so the token should weigh them.",
    ),
    move(
        "fuse_in_two_stages",
        _paths(3, part("fusion", kind="staged")),
        ("2507.18074",),
        "First memory against local paths, then a choice inside each: two easy decisions, not a hard one.",
    ),
    move(
        "add_floor",
        _paths(2, part("fusion", floor=2)),
        ("2507.18074",),
        "A floor under each path's weight keeps gradient in paths that a gate closed too early.",
    ),
    move(
        "raise_floor",
        _paths(2, part("fusion", floor=5)),
        ("2507.18074",),
        "A higher floor keeps every path in training for longer.",
    ),
    move(
        "remove_floor",
        part("fusion", floor=0),
        ("1505.00387",),
        "A gate that can close fully keeps noise of other paths out of an exact read.",
    ),
)

OUTPUT = (
    move(
        "gate_output_by_silu",
        part("output", gate="silu"),
        ("2307.08621", "2312.06635", "2202.10447"),
        "A gate of the token multiplies what was read, so that a head can be silent where it knows nothing.",
        "better text; a SiLU starts nearly shut, which delays recall",
    ),
    move(
        "gate_output_by_sigmoid",
        part("output", gate="sigmoid"),
        ("2505.06708", "2510.26692"),
        "A sigmoid gate behind the read adds a non-linearity and sparsity, and starts half open.",
    ),
    move(
        "gate_output_from_one",
        part("output", gate="double"),
        ("2505.06708", "1910.09890"),
        "Twice a sigmoid starts at 1: the gate is there, but the first reads pass at full strength.",
        "a gate's better text without its delay of recall",
    ),
    move(
        "drop_output_gate",
        part("output", gate="none"),
        ("2406.06484",),
        "A gate that starts nearly shut holds back the gradient of what it gates, and costs D^2 parameters.",
        "faster learning of recall",
    ),
    move(
        "narrow_output_gate",
        part("output", rank=16),
        ("2510.26692",),
        "A gate through a bottleneck does nearly the same for half the parameters.",
    ),
    move(
        "widen_output_gate",
        part("output", rank=0),
        ("2505.06708",),
        "Each channel's gate sees the whole token.",
    ),
    move(
        "norm_each_head",
        part("output", norm="rms"),
        ("2307.08621", "2210.10340"),
        "Each head by itself is brought to one scale, so that a full memory does not drown the others.",
    ),
    move(
        "norm_all_heads",
        part("output", norm="all"),
        ("2405.21060",),
        "One norm over all heads, after the gate, keeps what heads say about their own weight.",
    ),
    move(
        "drop_output_norm",
        part("output", norm="none"),
        ("2006.16236",),
        "Without a norm the size of a read says how sure the memory is.",
    ),
)

OUTPUT_MOVES: tuple[Move, ...] = (*PATHS, *FUSION, *OUTPUT)
