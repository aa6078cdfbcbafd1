"""Every faulty mixer falls to the check that its file names, and a leak is found wherever it hides."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from corpus import Entry, entries
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from asi_arch import ops
from asi_arch.engineer.bundle import Bundle, Place
from asi_arch.engineer.candidate import Candidate
from asi_arch.engineer.checks.leaks import batch, causality
from asi_arch.engineer.pool import LocalPool
from asi_arch.engineer.recorder import record
from asi_arch.engineer.trace import trace
from asi_arch.records import Evidence, Job, Verdict
from asi_arch.space import load_space

SPACE = load_space("linear_attention")
CORPUS = entries(Path(__file__).parent / "faulty")
FAST = (  # one of each family; the others are slow
    "all_pairs_by_broadcasting batch_flip far_only first_token_of_a_piece gate_of_a_mean "
    "layer_seven_only noise norm_of_nothing norm_over_time one_pair_of_64 p04_dtype_asserts p06_list_write "
    "p08_two_lengths parameter_unused state_in_bfloat16 state_of_all_tokens "
    "straight_through_gradient tiny_1e7"
).split()
TRAINED = "trained_causality"
PARAMETERS = [pytest.param(e, id=e.name, marks=() if e.name in FAST else pytest.mark.slow) for e in CORPUS]


@pytest.fixture(scope="module")
def measured(request: pytest.FixtureRequest, pool: LocalPool) -> Iterator[Callable[[Entry], Evidence]]:
    """Measure all that was asked for, two at a time."""
    wanted = [i.callspec.params["entry"] for i in request.session.items if hasattr(i, "callspec")
              and "entry" in i.callspec.params]  # fmt: skip

    def measure(entry: Entry) -> Evidence:
        stage = SPACE.stages["trial"] if TRAINED in entry.expect else None
        return pool.run(Job(space=SPACE.name, name=entry.name, source=entry.source, stage=stage))

    with ThreadPoolExecutor(2) as threads:
        futures: dict[str, Future[Evidence]] = {e.name: threads.submit(measure, e) for e in wanted}
        yield lambda entry: futures[entry.name].result()


@pytest.mark.parametrize("entry", PARAMETERS)
def test_a_fault_falls_to_its_check(entry: Entry, measured: Callable[[Entry], Evidence]) -> None:
    evidence = measured(entry)
    failed = next((v for v in evidence.checks if not v.passed), None)
    if not entry.expect:
        assert failed is None
        assert evidence.failure is None
        return
    assert evidence.failure is not None
    assert evidence.failure.phase in entry.expect
    assert failed is None or failed.name == evidence.failure.phase
    assert len(evidence.failure.message) > 20
    assert "\n" not in evidence.failure.message


def test_the_corpus_is_large_and_has_a_file_for_each_pitfall() -> None:
    assert len(CORPUS) >= 40
    assert {entry.name[:3] for entry in CORPUS if entry.name[0] == "p"} >= {f"p{i:02}" for i in range(1, 11)}
    assert set(FAST) <= {entry.name for entry in CORPUS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A leak.

    distance: from a token to the output that sees it. start: that output's position; None is each.
    size: of the leak, relative to an input. kind: what is seen. mode: in which it leaks.
    """

    length: int
    distance: int
    start: int | None = None
    size: float = 1e-5
    kind: str = "value"
    mode: str = "both"
    gate: str = "open"


class Leaky(nn.Module):
    """A causal memory, and one leak."""

    def __init__(self, leak: Template) -> None:
        super().__init__()
        self.leak = leak
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.gate = nn.Parameter(torch.full((), STARTS.get(leak.gate, 0.0)))

    def forward(self, x: torch.Tensor, state: Any = None) -> Any:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, -1)).unbind(2)
        o, state = ops.linear_attention(q.relu() + 0.1, k.relu() + 0.1, v)
        y = ops.rms_norm(o).flatten(-2)
        leak = self.leak
        seen = F.pad(x[:, leak.distance :], (0, 0, 0, leak.distance))  # [B, T, D]
        if leak.kind == "forward only":
            seen = seen.detach()
        if leak.kind == "gradient only":
            seen = seen - seen.detach()
        if leak.start is not None:
            seen = seen * (torch.arange(x.shape[1]) == leak.start)[:, None]
        opened = GATES[leak.gate](self.gate)
        here = leak.mode == "both" or (leak.mode == "train") == self.training
        return (y + leak.size * opened * seen if here else y), state


WIDTH = 8
STARTS = {"sigmoid": -12.0}
GATES: dict[str, Callable[[torch.Tensor], Any]] = {
    "open": lambda _: 1.0,
    "zero": lambda p: p,
    "threshold": lambda p: (p.abs() - 3).relu(),
    "sigmoid": lambda p: p.sigmoid(),
}


def candidate_of(leak: Template, layer: int = 0) -> Candidate:
    """Give a candidate with the graphs of one layer at one length, made in this process."""
    module, init = record(lambda: Leaky(leak), 1)
    place = Place(d_model=WIDTH, num_heads=2, layer=layer)
    graphs, traces = [], {}
    for mode in ("eval", "train"):
        module.train(mode == "train")
        traces[f"{place}/{mode}/{leak.length}"] = len(graphs)
        graphs.append(trace(module, None, leak.length, WIDTH) | {"state": "t"})
    data = {"version": 1, "inits": [init], "layers": {str(place): 0}, "graphs": graphs, "traces": traces}
    return Candidate(Bundle(json.dumps(data)), (), (place,), (leak.length,))


def found(leak: Template) -> Verdict:
    return causality(candidate_of(leak))


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data(), size=st.sampled_from([1e-5, 1e-7]), length=st.integers(2, 127))
def test_a_leak_from_one_token_to_one_output_is_found_at_any_distance(
    data: st.DataObject, size: float, length: int
) -> None:
    distance = data.draw(st.integers(1, length - 1))
    start = data.draw(st.integers(0, length - 1 - distance))
    kind = data.draw(st.sampled_from(["value", "forward only"]))
    mode = data.draw(st.sampled_from(["both", "train", "eval"]))
    leak = Template(length=length, distance=distance, start=start, size=size, kind=kind, mode=mode)
    assert not found(leak).passed, leak


@pytest.mark.parametrize("length", [256, 1024])
@pytest.mark.parametrize("distance", [1, 100, 254])
def test_a_leak_at_one_distance_is_found_in_long_sequences(length: int, distance: int) -> None:
    assert not found(Template(length=length, distance=distance, size=1e-7)).passed


@pytest.mark.parametrize("length", [257, 512, 1024])
def test_the_last_token_that_reaches_the_first_output_alone_is_found(length: int) -> None:
    assert not found(Template(length=length, distance=length - 1, start=0, size=1e-7)).passed


@pytest.mark.parametrize("gate", ["zero", "threshold", "sigmoid"])
@pytest.mark.parametrize("length", [2, 33, 64, 512])
def test_a_leak_behind_a_gate_is_found(gate: str, length: int) -> None:
    assert not found(Template(length=length, distance=1, gate=gate)).passed


@pytest.mark.parametrize("length", [2, 33, 64, 512])
def test_a_gradient_without_a_value_is_found(length: int) -> None:
    verdict = found(Template(length=length, distance=1, kind="gradient only"))
    assert not verdict.passed
    assert "gradient" in verdict.message


@pytest.mark.parametrize("length", [2, 33, 64, 512])
def test_a_mixer_without_its_leak_passes_and_says_what_was_probed(length: int) -> None:
    candidate = candidate_of(Template(length=length, distance=1, size=0.0))
    for check in (causality, batch):
        verdict = check(candidate)
        assert verdict.passed, verdict.message
        assert "limit 1e-09" in verdict.message
        assert "probes" in verdict.message
