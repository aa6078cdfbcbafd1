"""Sources that cannot be trusted as graphs are refused, with the line that caused it."""

import textwrap

import pytest

from asi_arch.engineer.pool import LocalPool
from asi_arch.records import Evidence, Job

MIXER = """
import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from asi_arch import ops


class Mixer(nn.Module):
    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.register_buffer("count", torch.zeros(()))
        {init}

    def forward(self, x, state=None):
        {before}
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in self.qkv(x).chunk(3, -1))
        o, state = ops.linear_attention(F.elu(q) + 1, F.elu(k) + 1, v, state)
        o = ops.rms_norm(o)
        {after}
        return self.out(o.flatten(-2)), state
"""


def source(init: str = "pass", before: str = "pass", after: str = "pass", head: str = "") -> str:
    def fill(text: str) -> str:
        return textwrap.indent(textwrap.dedent(text), " " * 8).strip()

    return head + MIXER.format(init=fill(init), before=fill(before), after=fill(after))


def check(pool: LocalPool, text: str) -> Evidence:
    return pool.run(Job(space="linear_attention", name="candidate", source=text))


REFUSED = {
    "an import": ({"head": "import os\n"}, "source", "import of os"),
    "a door of torch": ({"before": "torch.load('x')"}, "source", "torch.load"),
    "a dunder walk": ({"before": "x.__class__.__bases__"}, "source", "__bases__"),
    "a syntax error": ({"before": "x = = 1"}, "source", "not Python"),
    "a name error on import": ({"head": "undefined_name\n"}, "source", "line 1"),
    "a step counter": ({"before": "x = x * self.count.item()"}, "graph", "(line 19: x = x * self."),
    "flow on data": ({"before": "if x.sum() > 0: x = x + 1"}, "graph", "line 19"),
    "a write to an attribute": ({"before": "self.count += 1"}, "source", "forward writes self.count"),
    "a write to a buffer": ({"before": "self.count.add_(1)"}, "graph", "in-place"),
    "a write to the input": ({"before": "x.mul_(2)"}, "graph", "in-place"),
    "no_grad": ({"before": "with torch.no_grad(): x = x * 2\n"}, "graph", "detach"),
    "autocast": ({"before": "with torch.autocast('cpu'): x = x * 2\n"}, "graph", "autocast"),
    "a hook": ({"before": "self.qkv.weight.register_hook(print)"}, "source", "hook"),
    "noise": ({"before": "x = x + torch.rand_like(x)"}, "determinism", "line 19"),
    "memory between calls": ({"init": "self.seen = []",
                              "before": "self.seen.append(1); x = x * len(self.seen)"},
                             "determinism", "pure"),
    "numpy": ({"before": "x = x * float(x.detach().numpy().mean())"}, "source", "numpy"),
    "a number for a tensor": ({"before": "x = x * float(x.detach().mean())"}, "graph", "number"),
    "the batch size": ({"before": "x = x / x.shape[0]"}, "batch", "a row moves"),
    "a test of the batch": ({"before": "x = x if x.shape[0] == 5 else x * 2"}, "source", "batch"),
    "a branch on the batch": ({"before": "b, t, d = x.shape; x = x if b == 5 else x * 2"}, "graph", "batch"),
    "a large constant": ({"init": "self.table = torch.ones(100, 100)", "after": "o = o + self.table.sum()"},
                         "graph", "register_buffer"),
    "an operator of no list": ({"before": "x = torch.fft.fft(x, dim=-1).real"}, "graph", "not allowed"),
    "a number for a state": ({"after": "state = (state, x.shape[1])"}, "contract", "state holds a int"),
    "one output": ({"after": "return self.out(o.flatten(-2))"}, "contract", "(y, state)"),
    "a wrong width": ({"after": "return o.flatten(-2)[..., :3], state"}, "contract", "y is [5, 1, 3]"),
    "a constructor that fails": ({"init": "nn.Linear(d_model / 2, 1)"}, "contract", "Mixer(d_model=64"),
    "an unwritten parameter": ({"init": "self.w = nn.Parameter(torch.empty(3))"}, "graph", "never written"),
    "numbers from outside": ({"init": "at = int(repr(object())[-9:-1], 16)\n"
                                      "self.w = nn.Parameter(torch.full((3,), float(at)))"},
                             "determinism", "outside torch"),
    "a generator": ({"init": "torch.randn(3, generator=torch.Generator())"}, "graph", "generator"),
    "a loop over time": ({"before": "x = torch.stack([x[:, t] * 2 for t in range(x.shape[1])], 1)",
                         "after": "for t in range(3 * x.shape[1]): o = o + 1\n"}, "graph", "loop over T"),
}  # fmt: skip


LONG = ("a loop over time",)  # thousands of operators, traced and refused
NAMES = [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in REFUSED]


@pytest.mark.parametrize("name", NAMES)
def test_a_source_with(name: str, pool: LocalPool) -> None:
    parts, phase, words = REFUSED[name]
    evidence = check(pool, source(**parts))
    assert evidence.failure is not None
    assert evidence.failure.phase == phase, evidence.failure.message
    assert words in evidence.failure.message


def test_a_source_that_is_sound_passes_every_check(pool: LocalPool) -> None:
    parts = {"before": "x = x.clone(); x[..., 0] = 0", "after": "o = F.dropout(o, 0.1, self.training)"}
    evidence = check(pool, source(**parts, init="del self.count"))
    assert evidence.failure is None, evidence.failure
    names = (
        "source contract graph finite causality continuation batch determinism gradients cost state budget"
    )
    assert [v.name for v in evidence.checks] == names.split()


def test_an_endless_constructor_is_stopped(pool: LocalPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_seconds", (6.0, 0.0))
    evidence = check(pool, source(init="for i in range(10**12): pass\n"))
    assert evidence.failure is not None
    assert evidence.failure.kind == "timeout"
