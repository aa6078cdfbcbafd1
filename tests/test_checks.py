"""Every gate shuts on the source it is named after, opens for every baseline, and says what it saw."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from asi_arch.engineer.examine import require_metrics
from asi_arch.engineer.pool import LocalPool
from asi_arch.errors import CandidateError
from asi_arch.records import Evidence, Job, Metric
from asi_arch.space import load_space

SPACE = load_space("linear_attention")
CHECKS = (
    "source contract graph finite causality continuation batch determinism gradients cost state budget "
    "trained_causality"
).split()
REJECTS = sorted((SPACE.folder / "rejects").glob("*.py"))


def failed(evidence: Evidence) -> list[str]:
    return [verdict.name for verdict in evidence.checks if not verdict.passed]


def measure(pool: LocalPool, source: str, trial: bool) -> Evidence:
    stage = SPACE.stages["trial"] if trial else None
    return pool.run(Job(space=SPACE.name, name="candidate", source=source, stage=stage))


def test_every_check_has_a_source_that_it_must_reject() -> None:
    assert {path.stem for path in REJECTS} == set(CHECKS)


@pytest.fixture(scope="module")
def rejected(pool: LocalPool) -> dict[str, Evidence]:
    with ThreadPoolExecutor(2) as threads:
        found = threads.map(lambda p: measure(pool, p.read_text(), p.stem == "trained_causality"), REJECTS)
        return dict(zip([p.stem for p in REJECTS], found, strict=True))


@pytest.mark.parametrize("name", CHECKS)
def test_a_reject_falls_to_its_own_check(name: str, rejected: dict[str, Evidence]) -> None:
    evidence = rejected[name]
    assert name in failed(evidence)
    assert set(failed(evidence)) <= {name} | ({"continuation"} if name == "causality" else set())
    assert evidence.failure is not None
    assert evidence.failure.phase == name
    assert len(evidence.failure.message) > 20


def test_a_metric_without_a_value_is_a_failure() -> None:
    value = Metric(value=1.0, standard_error=0.1)
    require_metrics(SPACE, {spec.name: value for spec in SPACE.metrics})
    with pytest.raises(CandidateError, match="no value of recall_nll"):
        require_metrics(SPACE, {"bits_per_byte": value})


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACE.baselines())
def test_a_baseline_passes_every_check(name: str, pool: LocalPool) -> None:
    evidence = measure(pool, SPACE.baseline_source(name), trial=name not in SPACE.references)
    expected = ["cost", "state"] if name == "softmax_attention" else []
    assert failed(evidence) == expected, [v.message for v in evidence.checks if not v.passed]
    ran = CHECKS[:-1] if name in SPACE.references else CHECKS
    assert [verdict.name for verdict in evidence.checks] == ran


LAYERED = '''
import torch
from torch import nn
from asi_arch import ops


class Mixer(nn.Module):
    """Averages the future in, in one layer of eight, and only in sequences longer than 200."""

    def __init__(self, d_model, num_heads, layer_idx=0):
        super().__init__()
        self.leaks = layer_idx == 6
        self.heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x, state=None):
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in self.qkv(x).chunk(3, -1))
        o, state = ops.linear_attention(q.relu() + 0.1, k.relu() + 0.1, v, state)
        y = self.out(ops.rms_norm(o).flatten(-2))
        if self.leaks and x.shape[1] > 200:
            y = y + 1e-6 * x.mean(1, keepdim=True)
        return y, state
'''


def test_a_small_leak_in_one_layer_and_at_some_lengths_is_found(pool: LocalPool) -> None:
    evidence = measure(pool, LAYERED, trial=False)
    assert "causality" in failed(evidence)
    verdict = next(v for v in evidence.checks if v.name == "causality")
    assert "T = 256" in verdict.message
    assert "layer 6" in verdict.message
