import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from asi_arch.engineer.evaluate import evaluate
from asi_arch.engineer.train import TaskBatches, TaskShare, make_optimizer, peak_bytes, schedule, train
from asi_arch.errors import CandidateError
from asi_arch.records import Stage
from asi_arch.space import BUILT_IN
from asi_arch.spaces.linear_attention.model import RECIPE, LanguageModel, build

TINY = replace(
    RECIPE,
    d_model=16,
    length=34,
    tasks=(
        TaskShare(task="text", rows=2, evaluation_rows=4),
        TaskShare(task="recall", rows=2, evaluation_rows=4),
    ),
)


class Mean(nn.Module):
    """The simplest causal mixer: a projection of the mean of the tokens so far."""

    def __init__(self, d_model):
        super().__init__()
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x):
        count = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
        return self.out(x.cumsum(1) / count), None


def tiny_model(seed=0, mixer=Mean):
    torch.manual_seed(seed)
    return build([mixer(TINY.d_model) for _ in range(2)], TINY, seed)


def stage(steps, learning_rate=1e-2):
    return Stage(name="tiny", steps=steps, learning_rate=learning_rate)


def ignore(_):
    pass


def trained_in_a_process(seeds):
    code = f"""
import hashlib, sys
sys.path[:0] = {sys.path!r}
from tests_train import *
for seed in {seeds}:
    model = tiny_model(seed)
    trained = train(model, stage(12), TINY, seed, ignore)
    weights = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
    print([loss.hex() for _, loss in trained.curve], hashlib.sha256(weights).hexdigest())
"""
    code = code.replace("tests_train", __name__)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_one_seed_gives_the_same_losses_and_weights_to_the_bit_and_another_does_not():
    zero, one = trained_in_a_process([0, 1])
    assert trained_in_a_process([0]) == [zero]
    assert zero != one


def test_the_loss_falls():
    trained = train(tiny_model(), stage(60), TINY, 0, ignore)
    losses = [loss for _, loss in trained.curve]
    assert 9 < losses[0] < 12.5  # two tasks, ln(256) each
    assert sum(losses[-5:]) / 5 < losses[0] - 2


@pytest.mark.parametrize("steps", [1, 7, 50, 120, 500])
def test_the_curve_has_about_fifty_points_and_ends_at_the_last_step(steps):
    model = nn.Embedding(256, 256)
    recipe = replace(TINY, tasks=(TaskShare(task="recall", rows=1, evaluation_rows=2),))
    curve = train(model, stage(steps), recipe, 0, ignore).curve
    assert curve[-1][0] == steps
    assert min(steps, 45) <= len(curve) <= 60
    assert [step for step, _ in curve] == sorted({step for step, _ in curve})


def test_a_point_of_the_curve_is_the_mean_loss_since_the_point_before():
    model = tiny_model()
    model.requires_grad_(False)
    model.norm.weight.requires_grad_(True)
    curve = train(model, stage(100, learning_rate=0.0), TINY, 0, ignore).curve
    batches, losses = TaskBatches(TINY, 0), []
    with torch.no_grad():
        for _ in range(4):
            logits = [(model.eval()(rows.inputs), rows.targets) for rows in batches.next()]
            losses.append(sum(F.cross_entropy(x.flatten(0, 1), y.flatten()).item() for x, y in logits))
    assert [step for step, _ in curve[:2]] == [2, 4]
    assert [loss for _, loss in curve[:2]] == pytest.approx([sum(losses[:2]) / 2, sum(losses[2:]) / 2])


def test_the_learning_rate_rises_for_a_tenth_and_falls_to_a_fiftieth():
    rates = [schedule(step, 500, RECIPE) for step in range(500)]
    assert rates[0] == pytest.approx(1 / 50)
    assert rates[24] == pytest.approx(0.5)
    assert rates[49] == 1.0
    assert rates[275] == pytest.approx(0.5 + 0.02)
    assert rates[499] == pytest.approx(1 / 450 + 0.02)
    assert rates[:50] == sorted(rates[:50])
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert max(rates) == 1.0


def test_short_runs_have_a_schedule_too():
    assert schedule(0, 1, RECIPE) == 1.0
    assert [schedule(step, 2, RECIPE) for step in range(2)] == pytest.approx([1.0, 0.5 / 0.9 + 0.02])


class Faulty(Mean):
    """Works twice, then gives `value`."""

    def __init__(self, d_model, value=float("nan")):
        super().__init__(d_model)
        self.calls, self.value = 0, value

    def forward(self, x):
        self.calls += 1
        return super().forward(x)[0] * (self.value if self.calls > 2 else 1.0)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_rate_and_cure():
    with pytest.raises(
        CandidateError, match=r"loss is nan at step 3 of 100, learning rate 0.003; bound"
    ) as error:
        train(tiny_model(mixer=Faulty), stage(100), TINY, 0, ignore)
    assert (error.value.phase, error.value.kind) == ("train", "nan")


class Cusp(Mean):
    """Finite output, infinite slope."""

    def forward(self, x):
        return super().forward(x)[0] + (self.out.weight[0, 0] * 0).sqrt()


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_reaches_the_weights():
    model = tiny_model(mixer=Cusp)
    with pytest.raises(CandidateError, match=r"gradient's norm is nan at step 1 of 9"):
        train(model, stage(9), TINY, 0, ignore)
    assert all(p.isfinite().all() for p in model.parameters())


def test_matrices_decay_and_embeddings_vectors_and_shared_parameters_are_treated_once():
    mixer = Mean(16)
    mixer.gain = nn.Parameter(torch.ones(16))
    model = LanguageModel([mixer, mixer], 16, 256, 16, seed=0)
    decayed, others = (group["params"] for group in make_optimizer(model, TINY).param_groups)
    assert {id(p) for p in others} >= {id(model.embedding.weight), id(mixer.gain), id(model.norm.weight)}
    assert {id(p) for p in decayed} >= {id(mixer.out.weight), id(model.blocks[0].mlp.up)}
    assert len(decayed) == 1 + 2 * 2
    assert sorted(map(id, decayed + others)) == sorted({id(p) for p in model.parameters()})


def test_weight_decay_moves_matrices_only():
    model = tiny_model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, TINY)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.1
    optimizer.step()
    for name, p in model.named_parameters():
        shrunk = name.endswith(("up", "down", "out.weight"))
        torch.testing.assert_close(p.detach(), before[name] * (1 - 0.1 * 0.05 if shrunk else 1))


def test_the_order_of_data_is_decided_by_the_seed_and_by_no_other_task():
    alone = TaskBatches(replace(TINY, tasks=TINY.tasks[1:]), 5)
    a, b, other = TaskBatches(TINY, 5), TaskBatches(TINY, 5), TaskBatches(TINY, 6)
    for _ in range(3):
        (text_a, recall_a), (text_b, recall_b) = a.next(), b.next()
        assert torch.equal(text_a.inputs, text_b.inputs)
        assert torch.equal(recall_a.inputs, recall_b.inputs)
        assert torch.equal(recall_a.inputs, alone.next()[0].inputs)
        assert not torch.equal(text_a.inputs, other.next()[0].inputs)


def test_progress_comes_at_most_four_times_a_second_and_at_the_end():
    seen = []
    start = time.monotonic()
    train(tiny_model(), stage(40), TINY, 0, seen.append)
    seconds = time.monotonic() - start
    assert [seen[0].phase, seen[0].total] == ["train", 40]
    assert seen[-1].done == 40
    assert len(seen) <= 2 + 4 * seconds


class Watched(Mean):
    """Remembers in which mode it was called."""

    def forward(self, x):
        self.seen = (self.training, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
        return super().forward(x)


def test_training_runs_in_its_own_mode_and_leaves_the_process_as_it_was():
    model = tiny_model(mixer=Watched).eval()
    torch.manual_seed(8)
    wanted = torch.rand(3)
    torch.manual_seed(8)
    train(model, stage(2), TINY, 0, ignore)
    assert model.blocks[1].mixer.seen == (True, 1, True)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(3), wanted)


def test_the_run_is_measured():
    trained = train(tiny_model(), stage(20), TINY, 0, ignore)
    assert 0 < trained.seconds < 60
    assert trained.cpu_seconds > 0
    assert trained.tokens_per_second == pytest.approx(20 * 4 * 34 / trained.seconds)
    assert 2**26 < trained.peak_bytes <= peak_bytes() < 2**37


@pytest.mark.slow
def test_the_seed_learns_text_and_recall_in_the_explore_stage():
    path = BUILT_IN / "linear_attention" / "baselines" / "delta_net.py"
    source = {}
    exec(compile(path.read_text(), path, "exec"), source)
    torch.manual_seed(0)
    mixers = [source["Mixer"](RECIPE.d_model, RECIPE.num_heads, layer) for layer in range(RECIPE.num_layers)]
    model = build(mixers, RECIPE, seed=0)
    train(model, Stage(name="explore", steps=500, learning_rate=1.2e-2), RECIPE, 0, ignore)
    metrics, details = evaluate(model, RECIPE)
    assert metrics["bits_per_byte"].value < 3.1
    assert metrics["recall_nll"].value < 0.5
    assert details["recall_accuracy"].value > 0.9
