"""Multi-query associative recall of graded difficulty.

A row states `n` (key, value) pairs with distinct keys, then queries those keys until the row is
full; after each queried key its value is asked for. Queries run through all keys, in a fresh random
order each time round, so every key is asked for about equally often.
Source: arXiv:2312.04927, sec. 3 (the task; here queries follow one another without filler).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from asi_arch.engineer.task import IGNORED, Rows, RowScores, Scores, mean_metric
from asi_arch.records import Split

NUM_PAIRS = (2, 4, 8, 16)  # 8 and fewer are soon learned; 16 still tells good models apart
NUM_KEYS = 32  # keys, and as many values
FIRST_KEY = 128  # text stays below, in the same vocabulary
FIRST_VALUE = 192


class Recall:
    """Random rows; each is new, so splits differ only in the generator that the caller passes."""

    def sample(self, rng: np.random.Generator, rows: int, length: int) -> Rows:
        """Draw rows, the number of pairs of each drawn from NUM_PAIRS."""
        return draw(rng, rng.choice(NUM_PAIRS, rows), length)

    def evaluation(self, rng: np.random.Generator, rows: int, length: int) -> Mapping[str, Rows]:
        """Draw one group for each number of pairs, named `n2`, `n4`, ..."""
        return {f"n{n}": draw(rng, [n] * rows, length) for n in NUM_PAIRS}

    def score(self, groups: Mapping[str, RowScores]) -> Scores:
        """Give `recall_nll`, the mean over numbers of pairs, in nats; accuracies are details.

        The nll is the metric because it still tells models apart where accuracy is near 0 or 1.
        """
        details = {"recall_accuracy": mean_metric([scores.accuracy for scores in groups.values()])}
        for name, scores in groups.items():
            details[f"recall_accuracy_{name}"] = mean_metric([scores.accuracy])
            details[f"recall_nll_{name}"] = mean_metric([scores.nll])
        nll = mean_metric([scores.nll for scores in groups.values()])
        return Scores(metrics={"recall_nll": nll}, details=details)


def load(split: Split) -> Recall:
    """Give the task, the same for every split."""
    del split
    return Recall()


def draw(rng: np.random.Generator, num_pairs: Sequence[int] | np.ndarray, length: int) -> Rows:
    """Draw one row for each number of pairs.

    Raises:
        ValueError: `length` leaves no room for a query after the pairs.
    """
    n = np.asarray(num_pairs)[:, None]  # [B, 1]
    slots = np.arange((length + 1) // 2)  # [P] a slot is a key and its value
    if n.max() >= len(slots):
        raise ValueError(f"{n.max()} pairs leave no query in {length} tokens; need {2 * n.max() + 1}")
    pair = np.where(slots < n, slots, _queries(rng, n, len(slots)))  # [B, P]
    keys = rng.permuted(np.tile(np.arange(NUM_KEYS), (len(n), 1)), axis=1)
    values = rng.integers(0, NUM_KEYS, (len(n), NUM_KEYS))
    tokens = np.empty((len(n), 2 * len(slots)), dtype=np.int64)
    tokens[:, 0::2] = FIRST_KEY + np.take_along_axis(keys, pair, axis=1)
    tokens[:, 1::2] = FIRST_VALUE + np.take_along_axis(values, pair, axis=1)
    targets = np.full_like(tokens, IGNORED)
    targets[:, 0::2] = np.where(slots < n, IGNORED, tokens[:, 1::2])
    inputs, targets = (np.ascontiguousarray(a[:, :length]) for a in (tokens, targets))
    return Rows(inputs=torch.from_numpy(inputs), targets=torch.from_numpy(targets))


def _queries(rng: np.random.Generator, n: np.ndarray, num_slots: int) -> np.ndarray:
    """Give the queried pair of each slot, [B, P]; the first n slots, which state, have no meaning."""
    position = np.arange(num_slots)
    order = np.argsort(position // n + rng.random((len(n), num_slots)), axis=1)  # shuffles each round
    return np.take_along_axis(order % n, np.maximum(position - n, 0), axis=1)
