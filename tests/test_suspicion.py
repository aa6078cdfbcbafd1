"""A score that is too good is cleared or refused at a tighter tolerance than every other score."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy import HerePool, toy_study

from asi_arch.analyst.statistics import mean_metric, runs_at
from asi_arch.engineer.checks.suspicion import FRESH_SEED, Scored, suspects, too_good
from asi_arch.engineer.checks.trained import trained_causality
from asi_arch.engineer.evaluate import evaluate, evaluation_rows
from asi_arch.engineer.pool import LocalPool
from asi_arch.records import Evidence, Job, Metric
from asi_arch.space import MetricSpec, advantage, load_space
from asi_arch.spaces.linear_attention.model import RECIPE

SPACE = load_space("linear_attention")
POOR = {"bits_per_byte": 100.0, "recall_nll": 100.0}  # a seed that anything is too good beside


class Honest(nn.Module):
    """A causal model: the running mean of what was seen, and a table. Drawn, not trained."""

    leak, gate = "", 0.0

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Parameter(0.3 * torch.randn(256, 32, generator=generator))
        self.out = nn.Parameter(0.3 * torch.randn(32, 256, generator=generator))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding[tokens]  # [R, T, D]
        y = x + x.cumsum(1) / torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
        if self.leak == "next token":
            y = y + self.gate * x.roll(-1, 1)
        if self.leak == "one far token":
            y = y + self.gate * x[:, 50:51] * (torch.arange(x.shape[1]) == 3)[:, None]
        if self.leak == "next token in float32":
            y = y + self.gate * x.roll(-1, 1) * (x.dtype == torch.float32)
        if self.leak == "other rows":
            y = y + self.gate * x.mean((0, 1))
        return torch.tanh(y) @ self.out


def leaking(leak: str, gate: float) -> Honest:
    model = Honest()
    model.leak, model.gate = leak, gate
    return model


def scored(model: nn.Module, **changes: object) -> Scored:
    metrics, _ = evaluate(model.float(), RECIPE)
    found = Scored(model=model, recipe=RECIPE, metrics=metrics, same_graph=True, graph_hash="0123")
    return replace(found, **changes)  # type: ignore[arg-type]


def test_an_honest_model_is_cleared_and_the_line_says_what_was_done() -> None:
    verdict = too_good(scored(Honest()), SPACE.metrics, POOR)
    assert verdict is not None
    assert verdict.passed, verdict.message
    words = (
        "bits_per_byte",
        "better than the seed's 100",
        "63 cuts",
        "128 fresh rows",
        "limit 1e-12",
        "0123",
    )
    assert all(word in verdict.message for word in words), verdict.message


@pytest.mark.parametrize("leak", ["next token", "one far token", "other rows"])
def test_a_leak_that_passes_every_other_gate_is_refused(leak: str) -> None:
    model = leaking(leak, 2e-11)
    assert trained_causality(model, RECIPE).passed
    verdict = too_good(scored(model), SPACE.metrics, POOR)
    assert verdict is not None
    assert not verdict.passed
    assert ("other rows move" if leak == "other rows" else "move logits before them") in verdict.message


def test_a_leak_that_only_float32_has_is_refused() -> None:
    model = leaking("next token in float32", 1.2e-5)
    assert trained_causality(model, RECIPE).passed
    verdict = too_good(scored(model), SPACE.metrics, POOR)
    assert verdict is not None
    assert not verdict.passed
    assert "in fp32 logits move" in verdict.message


def test_a_score_within_the_window_raises_no_suspicion() -> None:
    found = scored(leaking("next token", 0.1))
    values = {name: metric.value for name, metric in found.metrics.items()}
    assert too_good(found, SPACE.metrics, {}) is None
    assert too_good(found, SPACE.metrics, values) is None
    assert too_good(found, SPACE.metrics, {name: 1.09 * value for name, value in values.items()}) is None


def test_a_model_that_knows_the_evaluation_rows_is_refused() -> None:
    class Knowing(Honest):
        """Recognises the rows of the evaluation by their first eight tokens, and knows what follows."""

        def __init__(self) -> None:
            super().__init__()
            groups = [g for _, named in evaluation_rows(RECIPE, "validation") for g in named.values()]
            self.known = {tuple(r[:8].tolist()): r for g in groups for r in g.inputs}

        def forward(self, tokens: Tensor) -> Tensor:
            logits = super().forward(tokens)
            for i, row in enumerate(tokens):
                answer = self.known.get(tuple(row[:8].tolist()))
                if answer is not None:
                    logits[i, torch.arange(8, 63), answer[9:]] += 30.0
            return logits

    verdict = too_good(scored(Knowing()), SPACE.metrics, POOR)
    assert verdict is not None
    assert not verdict.passed
    assert "on other rows (worse by" in verdict.message


def test_a_graph_that_is_not_the_checked_one_is_refused() -> None:
    verdict = too_good(scored(Honest(), same_graph=False), SPACE.metrics, POOR)
    assert verdict is not None
    assert not verdict.passed
    assert "not the graph that was checked" in verdict.message


def test_fresh_rows_share_none_with_the_evaluation() -> None:
    for (_, first), (_, second) in zip(
        evaluation_rows(RECIPE, "validation"), evaluation_rows(RECIPE, "validation", FRESH_SEED), strict=True
    ):
        for name, rows in first.items():
            known = {tuple(row.tolist()) for row in rows.inputs}
            assert not known & {tuple(row.tolist()) for row in second[name].inputs}


@pytest.mark.parametrize(
    ("higher", "value", "reference", "expected"),
    [
        (False, 0.89, 1.0, 0.11),
        (False, 1.2, 1.0, -0.2),
        (True, 0.6, 0.5, 0.2),
        (False, -1.2, -1.0, 0.2),
        (True, 0.1, 0.0, float("inf")),
        (False, 0.0, 0.0, 0.0),
    ],
)
def test_the_advantage_knows_which_way_is_better(
    higher: bool, value: float, reference: float, expected: float
) -> None:
    spec = MetricSpec(name="m", title="m", unit="", higher_is_better=higher, scale={})
    assert advantage(spec, value, reference) == pytest.approx(expected)
    found = suspects({"m": Metric(value=value, standard_error=0.0)}, [spec], {"m": reference})
    assert bool(found) == (expected > 0.1)


def test_the_seeds_means_reach_the_jobs_of_candidates_and_no_other(tmp_path: Path) -> None:
    pool = HerePool()
    study = toy_study(tmp_path / "s", pool, experiments=4)
    study.run()
    seed = study.archive.get(study.bench.seed_id)
    runs = runs_at(seed, study.bench.stage.name)
    means = {spec.name: mean_metric(runs, spec.name) for spec in study.space.metrics}
    baselines = set(study.space.baselines())
    trained = [job for job in pool.jobs if job.stage is not None]
    assert {job.name in baselines for job in trained} == {True, False}
    for job in pool.jobs:
        assert job.reference == (means if job.name not in baselines and job.stage else {})
    study.close()


def train(pool: LocalPool, source: str, reference: dict[str, float], steps: int = 10) -> Evidence:
    stage = replace(SPACE.stages["trial"], steps=steps)
    return pool.run(Job(space=SPACE.name, name="candidate", source=source, stage=stage, reference=reference))


@pytest.mark.slow
def test_the_engine_clears_a_suspicious_baseline_and_keeps_its_score(pool: LocalPool) -> None:
    evidence = train(pool, SPACE.baseline_source("delta_net"), POOR)
    assert evidence.failure is None
    assert evidence.metrics
    assert evidence.checks[-1].name == "too_good"
    assert evidence.checks[-1].passed
    assert evidence.graph_hash in evidence.checks[-1].message


@pytest.mark.slow
def test_the_engine_gives_no_score_to_a_tiny_leak_that_training_opened(pool: LocalPool) -> None:
    """The gate of the reject, which opens to 1e-11 instead of 1e-2: no gate before sees it."""
    source = (SPACE.folder / "rejects" / "trained_causality.py").read_text()
    tiny = source.replace("WIDEST = 0.1, 0.01", "WIDEST = 0.1, 1e-11")
    assert tiny != source
    evidence = train(pool, tiny, POOR, steps=SPACE.stages["trial"].steps)
    assert evidence.failure is not None
    assert evidence.failure.phase == "too_good", evidence.failure
    assert not evidence.metrics
    assert [v.name for v in evidence.checks if not v.passed] == ["too_good"]
