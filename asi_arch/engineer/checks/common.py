"""What the checks share: lengths, inputs, limits, and the form of a verdict."""

import math
import random
from collections.abc import Callable

import torch
from torch import Tensor

from asi_arch.engineer.candidate import Candidate
from asi_arch.records import Verdict

LENGTHS = (1, 2, 31, 32, 33, 64, 100, 256, 257, 512, 1024)  # odd, even, at and beside chunk borders
TRAIN_LENGTHS = (33, 64, 1024)
CUTS = ((31, 33), (32, 32), (33, 31), (63, 1), (1, 63), (7, 25, 32), (100, 157), (512, 512))
NUM_TOKENS = 40  # token by token; the first TRACED_TOKENS have a graph of their own
TRACED_TOKENS = 6
LEAK_LIMIT = 1e-9  # of the root mean square of the output at its position, in float64
SINGLE_LEAK_LIMIT = 1e-4  # in float32: rounding of rows in other company leaves 1e-6, a leak that helps 1
MATCH_LIMIT = 1e-6  # whole against pieces: the same sums in another order, in float64
SINGLE_CUTS = CUTS[:1] + CUTS[5:6]
SINGLE_LIMIT, SINGLE_FACTOR = 1e-5, 16  # in float32, where a state kept with fewer bits shows: this, and
# so many times what rounding does to the whole
BATCH = 4
Check = Callable[[Candidate], Verdict]


def lengths_of(source: str) -> tuple[int, ...]:
    """Give every T at which a source is checked: the fixed ones, and two that its own text decides."""
    draw = random.Random(source)
    return tuple(sorted({*LENGTHS, draw.randint(3, 127), draw.randint(128, 1023)}))


def verdict(name: str, passed: bool, message: str, basis: str = "") -> Verdict:
    """Give a verdict."""
    return Verdict(name=name, passed=passed, message=message, basis=basis)


def inputs(length: int, width: int, seed: int, rows: int = BATCH) -> Tensor:
    """Give x [B, T, D]: even rows are normal; odd rows repeat four vectors, as tokens repeat."""
    generator = torch.Generator().manual_seed(seed * 7919 + length)
    x = torch.randn(rows, length, width, generator=generator, dtype=torch.float64)
    book = torch.randn(4, width, generator=torch.Generator().manual_seed(width), dtype=torch.float64)
    chosen = torch.randint(0, 4, (rows, length), generator=generator)
    x[1::2] = book[chosen[1::2]]
    return x


def scale_of(y: Tensor) -> float:
    """Give the root mean square of a tensor, or a little more than 0."""
    return max(float(y.detach().pow(2).mean().sqrt()), 1e-12)


def or_infinity(value: Tensor) -> float:
    """Give a number; what is not one counts as infinite, so that no limit lets it pass."""
    number = float(value)
    return math.inf if math.isnan(number) else number
