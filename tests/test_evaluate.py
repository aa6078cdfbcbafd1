import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from asi_arch.engineer.evaluate import _row_scores, evaluate, evaluation_inputs, evaluation_rows
from asi_arch.engineer.task import IGNORED
from asi_arch.engineer.train import TaskShare
from asi_arch.errors import CandidateError
from asi_arch.spaces.linear_attention.model import RECIPE

SMALL = replace(
    RECIPE,
    tasks=(
        TaskShare(task="text", rows=2, evaluation_rows=40),
        TaskShare(task="recall", rows=2, evaluation_rows=35),
    ),
)


class Uniform(nn.Module):
    """Knows nothing."""

    def forward(self, tokens):
        return torch.zeros(*tokens.shape, 256)


class Solver(nn.Module):
    """Looks each token up among the earlier ones and repeats what followed it the first time."""

    def forward(self, tokens):
        logits = torch.zeros(*tokens.shape, 256)
        for row, line in enumerate(tokens.tolist()):
            for place, token in enumerate(line):
                first = line.index(token)
                if first < place:
                    logits[row, place, line[first + 1]] = 30.0
        return logits


class Bigram(nn.Module):
    """A random guess from the last token."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(256, 256)
        nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(0))
        self.requires_grad_(False)

    def forward(self, tokens):
        return self.table(tokens)


def resampled_means(values, generator):
    return values[generator.integers(0, len(values), (4000, len(values)))].mean(1)


def test_a_model_that_knows_nothing_gets_eight_bits_a_byte():
    metrics, details = evaluate(Uniform(), SMALL)
    assert metrics["bits_per_byte"].value == pytest.approx(8)
    assert metrics["recall_nll"].value == pytest.approx(math.log(256))
    assert metrics["recall_nll"].standard_error < 1e-6
    assert details["recall_accuracy"].value == 0


def test_a_model_that_looks_pairs_up_solves_recall():
    metrics, details = evaluate(Solver(), SMALL)
    assert metrics["recall_nll"].value < 1e-6
    assert details["recall_accuracy"].value == details["recall_accuracy_n16"].value == 1


def test_metrics_and_details_have_their_names():
    metrics, details = evaluate(Uniform(), SMALL)
    assert set(metrics) == {"bits_per_byte", "recall_nll"}
    assert set(details) == {"recall_accuracy"} | {
        f"recall_{what}_n{n}" for what in ("accuracy", "nll") for n in (2, 4, 8, 16)
    }


def test_a_score_that_is_not_finite_is_a_failure():
    class Broken(Uniform):
        def forward(self, tokens):
            return super().forward(tokens).masked_fill((tokens == 140)[..., None], float("nan"))

    with pytest.raises(CandidateError, match=r"recall_nll is nan on the validation split") as error:
        evaluate(Broken(), SMALL)
    assert (error.value.phase, error.value.kind) == ("evaluate", "nan")


def test_the_recall_score_is_the_mean_over_numbers_of_pairs():
    metrics, details = evaluate(Bigram(), SMALL)
    each = [details[f"recall_nll_n{n}"].value for n in (2, 4, 8, 16)]
    assert metrics["recall_nll"].value == pytest.approx(sum(each) / 4)
    assert max(each) > min(each)


def test_row_scores_agree_with_a_loop_over_tokens():
    model = Bigram()
    [_, (_, groups)] = evaluation_rows(SMALL, "validation")
    rows = groups["n8"]
    scores = _row_scores(model, rows)
    logits = model(rows.inputs).double().log_softmax(-1)
    for i in (0, 34):
        asked = [t for t in range(64) if rows.targets[i, t] != IGNORED]
        nll = [-float(logits[i, t, rows.targets[i, t]]) for t in asked]
        right = [float(logits[i, t].argmax() == rows.targets[i, t]) for t in asked]
        assert float(scores.nll[i]) == pytest.approx(np.mean(nll))
        assert float(scores.accuracy[i]) == pytest.approx(np.mean(right))


def test_the_standard_error_of_a_model_agrees_with_a_bootstrap_over_rows():
    metrics, _ = evaluate(Bigram(), SMALL)
    [(_, texts), (_, recalls)] = evaluation_rows(SMALL, "validation")
    generator = np.random.default_rng(0)
    bits = _row_scores(Bigram(), texts["text"]).nll.numpy() / math.log(2)
    spread = np.std(resampled_means(bits, generator))
    assert metrics["bits_per_byte"].standard_error == pytest.approx(spread, rel=0.08)
    nlls = [_row_scores(Bigram(), rows).nll.numpy() for rows in recalls.values()]
    spread = np.std(sum(resampled_means(nll, generator) for nll in nlls) / 4)
    assert metrics["recall_nll"].standard_error == pytest.approx(spread, rel=0.08)


def test_the_standard_error_covers_the_score_on_other_rows_of_the_split():
    [(task, _), _] = evaluation_rows(SMALL, "validation")
    model = Bigram()
    scores = []
    for seed in range(60):
        groups = task.evaluation(np.random.default_rng(seed), 64, 64)
        scores.append(task.score({"text": _row_scores(model, groups["text"])}).metrics["bits_per_byte"])
    spread = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.standard_error for score in scores]) == pytest.approx(spread, rel=0.3)


def test_every_model_is_scored_on_the_same_rows_and_each_split_has_its_own():
    def tokens(split):
        return [rows.inputs for _, groups in evaluation_rows(SMALL, split) for rows in groups.values()]

    assert all(map(torch.equal, tokens("validation"), tokens("validation")))
    for split in ("test", "train"):
        assert not any(map(torch.equal, tokens("validation"), tokens(split)))
    assert evaluate(Bigram(), SMALL) == evaluate(Bigram(), SMALL, "validation")
    assert evaluate(Bigram(), SMALL) != evaluate(Bigram(), SMALL, "test")


def test_evaluation_is_in_evaluation_mode_and_keeps_no_gradients():
    class Watched(Uniform):
        def forward(self, tokens):
            self.seen = (self.training, torch.is_grad_enabled())
            return super().forward(tokens)

    model = Watched().train()
    evaluate(model, SMALL)
    assert model.seen == (False, False)


def test_evaluation_inputs_are_rows_of_every_group():
    inputs = evaluation_inputs(SMALL, 10)
    assert inputs.shape == (10, 64)
    assert (inputs.max(1).values < 128).tolist() == [True, False, False, False, False] * 2
    every = [rows.inputs for _, groups in evaluation_rows(SMALL, "validation") for rows in groups.values()]
    assert all((row == torch.cat(every)).all(1).any() for row in inputs)
    assert len(evaluation_inputs(SMALL, 180)) == 180
    with pytest.raises(ValueError, match="181 rows asked for, but the recipe evaluates 180"):
        evaluation_inputs(SMALL, 181)


def test_training_and_evaluation_open_no_file_of_the_test_split():
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
import test_evaluate, test_train
from asi_arch.engineer.tasks import text
model = test_train.tiny_model()
opened = set()
sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
test_train.train(model, test_train.stage(2), test_train.TINY, 0, print)
test_evaluate.evaluate(model, test_train.TINY)
test_evaluate.evaluation_inputs(test_train.TINY, 4)
for split in ("train", "validation", "test"):
    print(split, len(opened & {{str(path) for path in text.files(text.library(), split)}}))
    assert split == "test" or opened >= {{str(path) for path in text.files(text.library(), split)}}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "test 0"
