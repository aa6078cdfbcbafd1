"""Train one model: fixed steps, order of data by seed, the same losses to the bit each time."""

import math
import resource
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from asi_arch.engineer.task import IGNORED, Rows, Task, load_task
from asi_arch.errors import CandidateError
from asi_arch.records import Progress, Stage, StopRule
from asi_arch.search.budgets.base import judge

CURVE_POINTS = 50
REPORT_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskShare:
    """A task's part of a recipe.

    rows: of every training step. evaluation_rows: of every group that is scored apart.
    """

    task: str
    rows: int
    evaluation_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is the same for every architecture of a space at every stage.

    vocab: tokens of all tasks in one vocabulary. length: tokens of a row, in training and evaluation.
    betas, weight_decay: of AdamW; matrices decay, but neither embeddings nor vectors.
    clip: largest norm of the whole gradient.
    warm_up: share of the steps in which the learning rate rises from 0 to its peak.
    final_rate: share of the peak that is left at the end of the linear decay.
    """

    d_model: int
    num_heads: int
    num_layers: int
    vocab: int
    length: int
    tasks: tuple[TaskShare, ...]
    betas: tuple[float, float]
    weight_decay: float
    clip: float
    warm_up: float
    final_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training run leaves beside the trained model.

    curve: (step, loss) pairs; the loss is the mean since the pair before, summed over tasks, in nats
        per token. seconds: wall clock. cpu_seconds: of the whole process, less what ran before.
    tokens_per_second: by the wall clock. peak_bytes: resident memory of the process at its peak, all
        that ran in it before included.
    stopped: why the training ended before its last step, in one line; "" when it did not.
    """

    curve: tuple[tuple[int, float], ...]
    seconds: float
    cpu_seconds: float
    tokens_per_second: float
    peak_bytes: int
    stopped: str = ""


def train(
    model: nn.Module,
    stage: Stage,
    recipe: Recipe,
    seed: int,
    report: Callable[[Progress], None],
    stop: StopRule | None = None,
) -> Trained:
    """Train a model in place on the training split.

    model: tokens [B, T] int64 to logits [B, T, vocab]. report: called at most four times a second,
    and at the end. stop: bars for the curve, point by point; what misses one is trained no further.

    Raises:
        CandidateError: the loss or the gradient is not finite; the message names the step.
    """
    batches = TaskBatches(recipe, seed)
    optimizer = make_optimizer(model, recipe)
    curve = _Curve(stage.steps)
    reporter = _Reporter(report, stage.steps)
    wall, cpu, stopped = time.perf_counter(), time.process_time(), ""
    model.train()
    with deterministic(seed):
        for step in range(stage.steps):
            rate = stage.learning_rate * schedule(step, stage.steps, recipe)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = _loss(model, batches.next())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            _check_finite(loss.item(), norm.item(), step, stage, rate)
            optimizer.step()
            reporter.tick(step + 1, loss.item())
            if curve.add(step, loss.item()):
                stopped = judge(curve.points, stop).reason
                if stopped:
                    break
    seconds = time.perf_counter() - wall
    tokens = curve.points[-1][0] * recipe.length * sum(share.rows for share in recipe.tasks)
    return Trained(
        curve=tuple(curve.points),
        seconds=seconds,
        cpu_seconds=time.process_time() - cpu,
        tokens_per_second=tokens / seconds,
        peak_bytes=peak_bytes(),
        stopped=stopped,
    )


def schedule(step: int, steps: int, recipe: Recipe) -> float:
    """Give the learning rate's share of its peak in a step, counted from 0: linear up, linear down."""
    rise = (step + 1) / max(1.0, recipe.warm_up * steps)
    fall = (1 - step / steps) / (1 - recipe.warm_up) + recipe.final_rate
    return min(1.0, rise, fall)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Give AdamW over a model's parameters; a parameter that two modules share appears once.

    Embeddings, gains, biases and other vectors do not decay.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.dim() >= 2 and id(p) not in embeddings]
    others = [p for p in parameters if p.dim() < 2 or id(p) in embeddings]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        betas=recipe.betas,
        fused=True,
    )


class TaskBatches:
    """An endless order of training rows that only recipe and seed decide, not the model.

    Each task draws from a generator of its own, so one task's order does not depend on another's.
    """

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self._recipe = recipe
        self._tasks: Mapping[str, Task] = {s.task: load_task(s.task, "train") for s in recipe.tasks}
        self._rngs = {
            s.task: np.random.default_rng([seed, zlib.crc32(s.task.encode())]) for s in recipe.tasks
        }

    def next(self) -> list[Rows]:
        """Give the rows of one step, task by task in the recipe's order."""
        return [
            self._tasks[s.task].sample(self._rngs[s.task], s.rows, self._recipe.length)
            for s in self._recipe.tasks
        ]


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Run one thread with deterministic kernels and torch's generator seeded; restore all afterwards."""
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout, if the model has any
        torch.set_num_threads(1)
        torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would import inductor
        memory.fill_uninitialized_memory = False  # 3 % of a step; no graph may hold such memory
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(mode)
            memory.fill_uninitialized_memory = fill


def peak_bytes() -> int:
    """Give the most resident memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _loss(model: nn.Module, batch: list[Rows]) -> torch.Tensor:
    """Give the sum over tasks of the mean cross-entropy of what the task asks for, in nats per token."""
    logits = model(torch.cat([rows.inputs for rows in batch]))
    parts = torch.split(logits, [len(rows.inputs) for rows in batch])
    losses = [
        F.cross_entropy(part.flatten(0, 1), rows.targets.flatten(), ignore_index=IGNORED)
        for part, rows in zip(parts, batch, strict=True)
    ]
    return torch.stack(losses).sum()


def _check_finite(loss: float, norm: float, step: int, stage: Stage, rate: float) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    what = "loss" if not math.isfinite(loss) else "gradient's norm"
    value = loss if not math.isfinite(loss) else norm
    raise CandidateError(
        "train",
        "nan",
        f"{what} is {value} at step {step + 1} of {stage.steps}, learning rate {rate:.2g}; "
        "bound what grows: normalize queries and keys, keep decays at or below 1, "
        "and keep exp, division and square root away from their poles",
    )


class _Curve:
    """Mean loss of each of about CURVE_POINTS equal pieces of the run."""

    def __init__(self, steps: int) -> None:
        self.points: list[tuple[int, float]] = []
        self._steps = steps
        self._every = max(1, round(steps / CURVE_POINTS))
        self._losses: list[float] = []

    def add(self, step: int, loss: float) -> bool:
        """Take a step's loss, and tell whether it completed a point."""
        self._losses.append(loss)
        if (step + 1) % self._every == 0 or step + 1 == self._steps:
            self.points.append((step + 1, sum(self._losses) / len(self._losses)))
            self._losses.clear()
        return not self._losses


class _Reporter:
    """Pass progress on, but not more often than a reader can see."""

    def __init__(self, report: Callable[[Progress], None], steps: int) -> None:
        self._report = report
        self._steps = steps
        self._last = -math.inf

    def tick(self, done: int, loss: float) -> None:
        now = time.monotonic()
        if done == self._steps or now - self._last >= REPORT_SECONDS:
            self._last = now
            self._report(Progress(phase="train", done=done, total=self._steps, note=f"loss {loss:.3f}"))
