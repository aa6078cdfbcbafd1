"""What grows with T: work in every disguise is counted, its slope decides, and honest work is a line."""

import json
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from asi_arch import ops
from asi_arch.engineer.checks.growth import (
    GROWTH_LENGTHS,
    SERIES,
    SLOPE_LIMIT,
    peak_slope,
    share_above_line,
    slope,
)
from asi_arch.engineer.cost import Cost, _counted, measure, operator_work
from asi_arch.engineer.graph import parse_graph
from asi_arch.engineer.pool import LocalPool
from asi_arch.engineer.trace import trace
from asi_arch.ops.operators import INLINE
from asi_arch.records import Job

D = 32
POWERS: dict[str, Callable[[float], float]] = {
    "T^1.5": lambda t: t**1.5,
    "T^2": lambda t: t**2,
    "T log T": lambda t: t * math.log2(t),
}
SENSITIVITY = {"T^1.5": 0.019, "T^2": 0.01, "T log T": 0.075}  # as growth.py and docs/wall.md state


def mixed(shares: dict[str, float], constant: float = 0.0) -> dict[int, float]:
    """Give a cost by T whose value at T = 1,024 has the given shares beside a line."""
    line = 1 - sum(shares.values()) - constant
    return {
        t: constant + line * t / 1024 + sum(s * POWERS[p](t) / POWERS[p](1024) for p, s in shares.items())
        for t in GROWTH_LENGTHS
    }


@pytest.mark.parametrize("power", POWERS)
def test_the_smallest_share_that_is_refused_is_the_one_that_is_stated(power: str) -> None:
    stated = SENSITIVITY[power]
    assert slope(mixed({power: stated})) > SLOPE_LIMIT
    assert slope(mixed({power: 0.9 * stated})) < SLOPE_LIMIT


def test_the_slope_of_a_power_is_its_exponent() -> None:
    for exponent in (1.0, 1.5, 2.0, 3.0):
        assert slope({t: t**exponent for t in GROWTH_LENGTHS}) == pytest.approx(exponent, abs=0.06)
    assert share_above_line({t: 5.0 + 3 * t for t in GROWTH_LENGTHS}) == pytest.approx(0)


@settings(max_examples=400, deadline=None)
@given(
    a=st.floats(1, 1e7),
    b=st.floats(0, 1e6),
    c=st.floats(0, 1e5),
    constant=st.floats(0, 1e9),
)
def test_sums_of_powers_are_decided_by_the_stated_limit(
    a: float, b: float, c: float, constant: float
) -> None:
    """What grows is judged beside what grows at all: a constant part, however large, hides nothing."""
    series = {t: constant + a * t + b * t**1.5 + c * t**2 for t in GROWTH_LENGTHS}
    growing = series[1024] - constant
    middle, square = b * 1024**1.5 / growing, c * 1024**2 / growing
    visible = growing > 1e-2 * series[1024]  # of a smaller part there is no slope to speak of
    strength = middle / SENSITIVITY["T^1.5"] + square / SENSITIVITY["T^2"]
    if strength > 1.1 and visible:
        assert slope(series) > SLOPE_LIMIT
    if strength < 0.85:
        assert slope(series) <= SLOPE_LIMIT


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 6), st.sampled_from([math.floor, math.ceil]), st.floats(0.02, 1.0))
def test_chunks_that_grow_in_steps_are_seen_wherever_the_step_lies(
    offset: int, whole: Callable[[float], int], share: float
) -> None:
    """A chunk of 2^floor((log2 T + offset) / 2) tokens is T^1.5 whose steps fall between measurements."""
    chunk = {t: 2 ** whole((math.log2(t) + offset) / 2) for t in GROWTH_LENGTHS}
    steps = {t: t * chunk[t] / (1024 * chunk[1024]) for t in GROWTH_LENGTHS}
    series = {t: (1 - share) * t / 1024 + share * steps[t] for t in GROWTH_LENGTHS}
    assert slope(series) > SLOPE_LIMIT


class Linear(nn.Module):
    """A mixer's ordinary work, 8 D^2 for each token, and something beside it."""

    def __init__(self, extra: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.extra = extra

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(q.sigmoid() * k.tanh() + v) + self.extra(x), None


def costs_of(extra: Callable[[Tensor], Tensor]) -> dict[int, Cost]:
    module = Linear(extra).eval()
    traced = {t: trace(module, None, t, D, both=False) | {"state": None} for t in GROWTH_LENGTHS}
    return {t: measure(parse_graph(json.loads(json.dumps(graph))), 2) for t, graph in traced.items()}


def slopes(costs: dict[int, Cost]) -> dict[str, float]:
    series = {name: {t: getattr(c, name) for t, c in costs.items()} for name in SERIES.values()}
    return {name: (peak_slope if name == "peak_bytes" else slope)(found) for name, found in series.items()}


def pairs(x: Tensor) -> Tensor:
    return x[:, :, None, 0] - x[:, None, :, 1]  # [B, T, T]


def root(x: Tensor) -> int:
    return math.isqrt(x.shape[1])


def by_root(x: Tensor) -> Tensor:
    """Give [B, N, C, D] with chunks of about sqrt(T) tokens."""
    size = 2 ** round(math.log2(root(x)))
    return x.unflatten(1, (-1, size))


def all_pairs_by_gather(x: Tensor) -> Tensor:
    time = torch.arange(x.shape[1])
    index = (time[:, None] * 0 + time).reshape(-1)
    chosen = x[..., 0].index_select(1, index)
    return chosen.unflatten(1, (x.shape[1], -1)).amax(-1, keepdim=True)


def growing_list(x: Tensor) -> Tensor:
    o = x[:, :16]
    for i in range(16, x.shape[1], 16):
        o = torch.cat([o, x[:, i : i + 16] + o[:, -1:]], 1)
    return o


def doubling_scan(x: Tensor) -> Tensor:
    for i in range(int(math.log2(x.shape[1]))):
        x = 0.5 * (x + F.pad(x, (0, 0, 2**i, 0))[:, : -(2**i)])
    return x


DISGUISES: dict[str, Callable[[Tensor], Tensor]] = {
    "pairs by broadcasting": lambda x: pairs(x).sigmoid().mean(-1, keepdim=True),
    "pairs without a batch": lambda x: (x[0, :, None, 0] * x[0, None, :, 1]).mean(-1)[None, :, None],
    "cumsum over pairs": lambda x: pairs(x).cumsum(-1)[..., -1:],
    "gather of all pairs": all_pairs_by_gather,
    "distances": lambda x: (x[:, :, None, :4] - x[:, None, :, :4]).square().sum(-1).amin(-1, keepdim=True),
    "repeat_interleave": lambda x: x[..., :1].repeat_interleave(x.shape[1], 2).mean(-1, keepdim=True),
    "repeat": lambda x: x[..., :1].repeat(1, 1, x.shape[1]).mean(-1, keepdim=True),
    "an index of T^2 numbers": lambda x: (
        x * torch.arange(x.shape[1] ** 2).view(x.shape[1], -1).sum(-1, keepdim=True)
    ),
    "an expanded view that is summed": lambda x: x[..., :1].expand(-1, -1, x.shape[1]).sum(-1, keepdim=True),
    "a mask of T x T": lambda x: x * torch.ones(x.shape[1], x.shape[1]).tril().mean(-1, keepdim=True),
    "windows of T by pooling": lambda x: F.avg_pool1d(
        F.pad(x[..., :4].mT, (x.shape[1] - 1, 0)), x.shape[1], 1
    ).mT.mean(-1, keepdim=True),
    "windows of T by unfold": lambda x: (
        F.pad(x[..., 0], (x.shape[1] - 1, 0)).unfold(1, x.shape[1], 1).sum(-1, keepdim=True)
    ),
    "a filter of T taps": lambda x: (
        F.conv1d(F.pad(x[..., :1].mT, (x.shape[1] - 1, 0)), torch.ones(1, 1, x.shape[1])).mT
    ),
    "a triangular system": lambda x: torch.linalg.solve_triangular(
        torch.eye(x.shape[1]), x, upper=False, unitriangular=True
    ),
    "a list that is copied as it grows": growing_list,
    "scatter into pairs": lambda x: (
        torch.zeros(x.shape[0], x.shape[1], x.shape[1])
        .scatter(2, torch.zeros(x.shape[0], x.shape[1], 1, dtype=torch.int64), x[..., :1])
        .mean(-1, keepdim=True)
    ),
    "chunks of sqrt(T), products": lambda x: (by_root(x) @ by_root(x).mT @ by_root(x)).flatten(1, 2),
    "chunks of sqrt(T), elementwise": lambda x: (
        (by_root(x)[..., None, :1] + by_root(x)[..., None, :, :1].mT).amax((-1, -2)).flatten(1, 2)[..., None]
    ),
    "windows of sqrt(T)": lambda x: (
        F.pad(x[..., 0], (root(x) - 1, 0)).unfold(1, root(x), 1).sin().sum(-1, keepdim=True)
    ),
    "powers by doubling, T log T": doubling_scan,
    "sorts over T": lambda x: x.sort(1).values.sin().sort(1).values,
}


@pytest.mark.parametrize("name", DISGUISES)
def test_work_that_grows_faster_than_T_is_seen_in(name: str) -> None:
    found = slopes(costs_of(DISGUISES[name]))
    assert max(found.values()) > SLOPE_LIMIT, found


def chunk_loop(x: Tensor) -> Tensor:
    """Linear attention in chunks of 64, as a model would write it."""
    memory, outputs = x.new_zeros(x.shape[0], D, D), []
    for i in range(0, x.shape[1], 64):
        piece = x[:, i : i + 64]
        outputs.append((piece @ piece.mT).tril() @ piece + piece @ memory)
        memory = memory + piece.mT @ piece
    return torch.cat(outputs, 1)


def chunk_loop_in_place(x: Tensor) -> Tensor:
    """The same loop writing into its output, which becomes a slice_scatter of it all in each step."""
    memory, o = x.new_zeros(x.shape[0], D, D), torch.zeros_like(x)
    for i in range(0, x.shape[1], 64):
        piece = x[:, i : i + 64]
        o = torch.slice_scatter(o, (piece @ piece.mT).tril() @ piece + piece @ memory, 1, i, i + 64)
        memory = memory + piece.mT @ piece
    return o


def window(x: Tensor, size: int) -> Tensor:
    head = x[:, :, None]
    return ops.sliding_window_attention(head, head, head, size)[0][:, :, 0]


HONEST: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda x: x,
    "a chunk loop": chunk_loop,
    "a chunk loop that writes in place": chunk_loop_in_place,
    "chunks of 256": lambda x: (
        x.unflatten(1, (-1, min(256, x.shape[1])))
        @ x.unflatten(1, (-1, min(256, x.shape[1]))).mT
        @ x.unflatten(1, (-1, min(256, x.shape[1])))
    ).flatten(1, 2),
    "a window of 64": lambda x: window(x, 64),
    "a window of 16": lambda x: window(x, 16),
    "cumsum": lambda x: x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None],
    "positions": lambda x: ops.rotary(x.unflatten(-1, (2, -1)))[0].flatten(-2),
    "a sort over channels": lambda x: x.sort(-1).values,
    "a large constant part": lambda x: x * torch.ones(512, 512).tril().mean(),
    "a view of T^2 that is not read": lambda x: (
        x[..., :1].expand(-1, -1, x.shape[1])[..., :4].sum(-1, keepdim=True)
    ),
    "the gated delta rule": lambda x: ops.gated_delta_rule(
        *[x.unflatten(-1, (2, -1))] * 3, -x[..., :2].exp(), x[..., :2].sigmoid()
    )[0].flatten(-2),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_work_that_is_a_line_has_slope_one_in(name: str) -> None:
    found = slopes(costs_of(HONEST[name]))
    assert max(found.values()) <= 1 + 1e-9, found


@pytest.mark.parametrize("channels", [1, 4])
def test_a_moderate_share_of_T_to_the_1_5_is_refused(channels: int) -> None:
    """One elementwise operator on a window of sqrt(T) / 2 beside a mixer's own work."""

    def extra(x: Tensor) -> Tensor:
        window = root(x) // 2
        padded = F.pad(x[..., :channels].mT, (window - 1, 0))  # [B, C, T + window - 1]
        return padded.unfold(-1, window, 1).sin().sum((1, -1))[..., None]

    costs = costs_of(extra)
    touched = {t: cost.touched for t, cost in costs.items()}
    assert slope(touched) > SLOPE_LIMIT
    share = share_above_line(touched)
    assert share < 0.1 * channels, "a moderate share"


def test_views_of_one_memory_count_once_and_the_dead_do_not_count() -> None:
    def chain(x: Tensor) -> Tensor:
        for _ in range(10):
            x = x.sin()
        return x

    def kept(x: Tensor) -> Tensor:
        values = [x.sin() + i for i in range(10)]
        return torch.stack(values).sum(0)

    def views(x: Tensor) -> Tensor:
        return x.sin().mT.unflatten(1, (2, -1)).mT.mT.flatten(1, 2).mT

    base, each = costs_of(lambda x: x)[64].peak_bytes, 4 * 2 * 64 * D
    assert costs_of(chain)[64].peak_bytes == base
    assert costs_of(views)[64].peak_bytes == base
    assert costs_of(kept)[64].peak_bytes >= 20 * each


# Products of the chunkwise form by hand, for a token of a chunk of C: scores C K, their use C V, query on
# state and write K V each; the delta rule has overlaps C K, 3 + 3 doublings of C^2, the inverse on V + K.
C, H, K, V = 16, 2, 16, 32
ADDITIVE = C * K + C * V + 2 * K * V
DELTA = 2 * C * K + C * V + 3 * K * V + 2 * 3 * C * C + C * (V + K)
BY_HAND = {
    "linear_attention": ADDITIVE,
    "retention": ADDITIVE,
    "simple_gla": ADDITIVE,
    "gla": ADDITIVE,
    "delta_rule": DELTA,
    "gated_delta_rule": DELTA,
    "kda": DELTA,
}
DECAYS = {"retention": (H,), "simple_gla": (H,), "gla": (H, K), "gated_delta_rule": (H,), "kda": (H, K)}


def spec_of(name: str, length: int, batch: int = 2) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    shapes: list[tuple[int, ...]] = [(batch, length, H, K), (batch, length, H, K), (batch, length, H, V)]
    if name in DECAYS:
        shapes.append(DECAYS[name] if name == "retention" else (batch, length, *DECAYS[name]))
    if BY_HAND[name] == DELTA:
        shapes.append((batch, length, H))
    return tuple((shape, torch.float32) for shape in [*shapes, (batch, H, K, V)])


@pytest.mark.parametrize("name", BY_HAND)
def test_the_work_of_our_operators_is_that_of_their_chunks(name: str) -> None:
    operator = f"asi_arch.{name}.default"
    for length in (5, 16, 48, 256):
        assert operator_work(operator, spec_of(name, length)) == _counted(operator, spec_of(name, length))
    rate = operator_work(operator, spec_of(name, 1024)).flops / (2 * 1024 * H)
    products = 2 * BY_HAND[name]
    assert products < rate < 1.35 * products, "products by hand, and elementwise work beside them"


def test_a_short_convolution_costs_two_for_each_tap() -> None:
    spec = (((2, 100, 8), torch.float32), ((8, 4), torch.float32), None, None)
    work = operator_work("asi_arch.short_conv.default", spec)
    assert work == _counted("asi_arch.short_conv.default", spec)
    assert 4 * 2 * 100 * 8 <= work.flops <= 2 * 4 * 2 * 100 * 8
    assert set(INLINE) == {f"asi_arch.{name}.default" for name in [*BY_HAND, "short_conv"]}


CHANGING = """
import torch
from torch import nn


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x, state=None):
        {body}
        return self.out(x), state
"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("state = x[:, : 1 + (x.shape[1] == 31)]", "64 elements at T = 1, 128 at T = 31"),
        ("state = x[:, :1] if state is None else (x[:, :1], x)[:2]", "at T = 1, 1664 at T = 7 + 25"),
        ("state = x[:, 0] if x.shape[1] < 200 else x[:, 0][:, None]", "changes shape"),
        ("state = x.new_zeros(x.shape[0], 7000)", "7000 elements (limit 6144)"),
    ],
)  # fmt: skip
def test_a_state_that_is_not_one_shape_is_refused_with_its_size(
    body: str, words: str, pool: LocalPool
) -> None:
    source = CHANGING.format(body=body)
    evidence = pool.run(Job(space="linear_attention", name="candidate", source=source))
    verdict = next((v for v in evidence.checks if v.name == "state"), None)
    assert verdict is not None, evidence.failure
    assert not verdict.passed
    assert words in verdict.message
