"""What a task is: rows of tokens to train on, fixed rows to be measured on, and scores by name.

Shapes: B rows, T tokens of a row. A model is given inputs and nothing else; targets stay with the
trainer and the evaluator.
"""

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from asi_arch.records import Metric, Split

IGNORED = -100  # the target of a position where nothing is asked
FOLDER = Path(__file__).parent / "tasks"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Tokens and what should follow them.

    inputs: [B, T] int64. targets: [B, T] int64, the token to predict after each input, or IGNORED.
    Every row asks at least once.
    """

    inputs: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowScores:
    """What a model did on each row, averaged over the tokens that were asked for.

    nll: [B] float64, nats per token. accuracy: [B] float64, 0..1.
    """

    nll: torch.Tensor
    accuracy: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """metrics: by the names that a space declares. details: finer figures, by name."""

    metrics: Mapping[str, Metric]
    details: Mapping[str, Metric]


class Task(Protocol):
    """One task on one split. All randomness comes from the generator that is passed in."""

    def sample(self, rng: np.random.Generator, rows: int, length: int) -> Rows:
        """Draw rows of `length` tokens to train on."""

    def evaluation(self, rng: np.random.Generator, rows: int, length: int) -> Mapping[str, Rows]:
        """Draw `rows` rows for each group that is scored apart, by the group's name."""

    def score(self, groups: Mapping[str, RowScores]) -> Scores:
        """Turn what a model did on each group of `evaluation` into metrics and details."""


def task_names() -> tuple[str, ...]:
    """Give the name of every task: the modules of the `tasks` folder."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"))


def load_task(name: str, split: Split) -> Task:
    """Give a task on one split of its data. A module of the folder has `load(split) -> Task`.

    Raises:
        ValueError: no such task.
    """
    if name not in task_names():
        raise ValueError(f"no task {name!r}; the tasks are {', '.join(task_names())}")
    task: Task = importlib.import_module(f"asi_arch.engineer.tasks.{name}").load(split)
    return task


def mean_metric(groups: Sequence[torch.Tensor]) -> Metric:
    """Give the mean of the groups' means, and its standard error with rows as sampling units.

    groups: each [B] with B >= 2, one figure a row; rows are independent of each other.
    """
    value = sum(float(rows.mean()) for rows in groups) / len(groups)
    variance = sum(float(rows.var(correction=1)) / len(rows) for rows in groups) / len(groups) ** 2
    return Metric(value=value, standard_error=math.sqrt(variance))
