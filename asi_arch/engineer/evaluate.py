"""Score a trained model on rows that are the same for every model, with targets that it never sees."""

import math
import zlib
from collections.abc import Mapping
from typing import get_args

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from asi_arch.engineer.task import IGNORED, Rows, RowScores, Task, load_task
from asi_arch.engineer.train import Recipe, deterministic
from asi_arch.errors import CandidateError
from asi_arch.records import Metric, Split

EVALUATION_SEED = 12345
CHUNK = 32  # rows at a time: larger is no faster on a CPU and needs more memory


def evaluate(
    model: nn.Module, recipe: Recipe, split: Split = "validation", seed: int = EVALUATION_SEED
) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """Give metrics and details of a model on a split, each with its standard error over rows.

    model: tokens [B, T] int64 to logits [B, T, vocab]; it is left in evaluation mode. The standard
    error is that of drawing these rows from the split, not that of training again with another seed,
    which is several times larger. The test split is for confirming a discovery and nothing else. Another
    `seed` gives other rows of the split.

    Raises:
        CandidateError: a score is not finite.
    """
    model.eval()
    metrics: dict[str, Metric] = {}
    details: dict[str, Metric] = {}
    for task, groups in evaluation_rows(recipe, split, seed):
        scores = task.score({name: _row_scores(model, rows) for name, rows in groups.items()})
        metrics |= scores.metrics
        details |= scores.details
    for name, metric in {**metrics, **details}.items():
        if not (math.isfinite(metric.value) and math.isfinite(metric.standard_error)):
            raise CandidateError(
                "evaluate",
                "nan",
                f"{name} is {metric.value} on the {split} split: logits are not finite on data that the "
                "model did not see; bound what grows with the input",
            )
    return metrics, details


def evaluation_rows(
    recipe: Recipe, split: Split, seed: int = EVALUATION_SEED
) -> list[tuple[Task, Mapping[str, Rows]]]:
    """Give each task with its groups of rows: the same for every model, another set a split and a seed."""
    found: list[tuple[Task, Mapping[str, Rows]]] = []
    for share in recipe.tasks:
        key = [seed, get_args(Split).index(split), zlib.crc32(share.task.encode())]
        task = load_task(share.task, split)
        groups = task.evaluation(np.random.default_rng(key), share.evaluation_rows, recipe.length)
        found.append((task, groups))
    return found


def evaluation_inputs(
    recipe: Recipe, rows: int, split: Split = "validation", seed: int = EVALUATION_SEED
) -> torch.Tensor:
    """Give real evaluation tokens [rows, T] int64, taken from all groups of all tasks in turn.

    Raises:
        ValueError: the recipe evaluates fewer rows than asked for.
    """
    groups = [rows.inputs for _, named in evaluation_rows(recipe, split, seed) for rows in named.values()]
    turns = [group[i] for i in range(max(map(len, groups))) for group in groups if i < len(group)]
    if len(turns) < rows:
        raise ValueError(f"{rows} rows asked for, but the recipe evaluates {len(turns)}")
    return torch.stack(turns[:rows])


def _row_scores(model: nn.Module, rows: Rows) -> RowScores:
    with torch.no_grad(), deterministic(EVALUATION_SEED):
        parts = [
            _chunk_scores(model(inputs), targets)
            for inputs, targets in zip(
                torch.split(rows.inputs, CHUNK), torch.split(rows.targets, CHUNK), strict=True
            )
        ]
    nll, accuracy = (torch.cat(part) for part in zip(*parts, strict=True))
    return RowScores(nll=nll, accuracy=accuracy)


def _chunk_scores(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give mean nll and accuracy of each row, [B] float64, over the asked positions of the row."""
    asked = targets != IGNORED
    nll = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
    right = (logits.argmax(-1) == targets).double()  # an ignored position is never right
    count = asked.sum(1)
    return nll.double().sum(1) / count, right.sum(1) / count
