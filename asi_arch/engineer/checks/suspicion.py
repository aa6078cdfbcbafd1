"""A score that is too good to be believed unseen: the trained weights, looked at more closely than any other.

Shapes: R rows, T tokens of a row.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asi_arch.engineer.evaluate import evaluate, evaluation_inputs
from asi_arch.engineer.train import Recipe
from asi_arch.records import Metric, Verdict
from asi_arch.space import WINDOW, MetricSpec, advantage

LIMIT = 1e-12  # of the size of a position's logits, in float64: rounding leaves 1e-14 (docs/wall.md)
SINGLE_LIMIT = 2e-5  # in float32: rounding leaves up to 3e-6 where rows stand in other company
FRESH_SEED = 54321  # of rows that nothing else sees
FRESH_ROWS = 128  # twice those of `trained_causality`
CUT_ROWS = 8  # at each position, other ones at the next
CALL_ROWS = 64
COMPANIES = (1, 2, 3, 5, 8, 32)  # rows of a call
ERRORS = 5.0  # standard errors of the difference of two scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A trained model and what it scored. model: tokens [R, T] int64 to logits [R, T, vocab].

    same_graph: whether what was trained is the graph that was checked. graph_hash: of that graph.
    """

    model: nn.Module
    recipe: Recipe
    metrics: Mapping[str, Metric]
    same_graph: bool
    graph_hash: str


def suspects(
    metrics: Mapping[str, Metric], specs: Sequence[MetricSpec], reference: Mapping[str, float]
) -> list[str]:
    """Say of each metric that is better than the reference by more than the window by how much it is."""
    found = []
    for spec in specs:
        if spec.name in reference:
            value, known = metrics[spec.name].value, reference[spec.name]
            ahead = advantage(spec, value, known)
            if ahead > WINDOW:
                found.append(f"{spec.name} {value:.4g} is {ahead:.0%} better than the seed's {known:.4g}")
    return found


def too_good(scored: Scored, specs: Sequence[MetricSpec], reference: Mapping[str, float]) -> Verdict | None:
    """Clear a score that is suspiciously good, or refuse it; None where there is no suspicion.

    On rows that nothing else sees: tokens replaced after every position, and one at a time at every
    position; every row in other company; both in float64 and in float32; the score anew. The model is left
    in float32, as it was trained.
    """
    suspicion = suspects(scored.metrics, specs, reference)
    if not suspicion:
        return None
    anew, _ = evaluate(scored.model.float(), scored.recipe, seed=FRESH_SEED)
    worse = [text for spec in specs if (text := _worse(spec, scored.metrics[spec.name], anew[spec.name]))]
    scored.model.eval()
    later_single, rows_single, _ = _moves(scored)
    scored.model.double()
    later, rows, at = _moves(scored)
    scored.model.float()
    single = max(later_single, rows_single)
    faults = [f"tokens from {at} on move logits before them by {later:.1e}"] if not later <= LIMIT else []
    faults += [f"other rows move logits by {rows:.1e}"] if not rows <= LIMIT else []
    slight = f"in fp32 logits move by {single:.1e} (limit {SINGLE_LIMIT:.0e})"
    faults += [slight] if not single <= SINGLE_LIMIT else []
    faults += worse
    faults += [] if scored.same_graph else ["what was trained is not the graph that was checked"]
    scores = ", ".join(f"{spec.name} {anew[spec.name].value:.4g}" for spec in specs)
    done = (
        f"on {FRESH_ROWS} fresh rows {scored.recipe.length - 1} cuts and as many single tokens "
        f"move logits by {later:.1e}, {len(COMPANIES)} companies of rows by {rows:.1e} (limit {LIMIT:.0e} "
        f"of a position's size, float64), in float32 by {single:.1e} (limit {SINGLE_LIMIT:.0e}); "
        f"other rows score {scores}; graph {scored.graph_hash} as checked"
    )
    verdict = f"refused: {'; '.join(faults)} (limit {LIMIT:.0e}, float64)" if faults else f"cleared: {done}"
    return Verdict(name="too_good", passed=not faults, message=f"{'; '.join(suspicion)}; {verdict}")


def _worse(spec: MetricSpec, first: Metric, second: Metric) -> str:
    """Say that a metric does not hold on other rows, or give ""."""
    change = second.value - first.value if not spec.higher_is_better else first.value - second.value
    allowed = ERRORS * math.hypot(first.standard_error, second.standard_error)
    if change <= allowed:
        return ""
    return f"{spec.name} is {second.value:.4g} on other rows (worse by {change:.2g}, noise {allowed:.2g})"


def _moves(scored: Scored) -> tuple[float, float, int]:
    """Give how far later tokens and other rows move logits of fresh rows, and where the former begin."""
    tokens = evaluation_inputs(scored.recipe, FRESH_ROWS, seed=FRESH_SEED)
    with torch.no_grad():
        logits = _logits(scored.model, tokens)
        size = logits.pow(2).mean(-1).sqrt().clamp_min(1e-12)  # [R, T]
        later, at = _later(scored, tokens, logits, size)
        return later, max(_companies(scored.model, tokens, logits, size)), at


def _later(scored: Scored, tokens: Tensor, logits: Tensor, size: Tensor) -> tuple[float, int]:
    """Give how far changed tokens move logits before them, and the first position that was changed."""
    worst, at = 0.0, 0
    for rows, first, changed in _probes(tokens, scored.recipe.vocab):
        before = torch.arange(tokens.shape[1]) < first[:, None]
        moved = (logits[rows] - _logits(scored.model, changed)).abs().amax(-1) / size[rows]
        moved = moved.nan_to_num(math.inf).masked_fill(~before, 0.0)
        worst, at = max((worst, at), (float(moved.max()), int(first[moved.amax(1).argmax()])))
    return worst, at


def _probes(tokens: Tensor, vocab: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Give (rows [P], first changed position [P], changed tokens [P, T]), all positions in each.

    Tokens from a position on become noise, in half of the rows those of another row; or one token
    becomes another.
    """
    length = tokens.shape[1]
    generator = torch.Generator().manual_seed(41)
    first = torch.arange(1, length).repeat_interleave(CUT_ROWS)  # [P]
    rows = torch.arange(len(first)) % len(tokens)
    noise = torch.randint(0, vocab, (len(first), length), generator=generator)
    other = torch.where((torch.arange(len(first)) % 2 == 0)[:, None], noise, tokens[rows - 1])
    time = torch.arange(length)
    yield rows, first, torch.where(time >= first[:, None], other, tokens[rows])
    rows = rows.flip(0)
    shifted = (tokens[rows] + 1 + noise % (vocab - 1)) % vocab  # differs everywhere
    yield rows, first, torch.where(time == first[:, None], shifted, tokens[rows])


def _companies(model: nn.Module, tokens: Tensor, logits: Tensor, size: Tensor) -> Iterator[float]:
    """Give how far logits of the same rows move when other rows stand beside them, in calls of many sizes."""
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(43))
    for count, begin in zip(COMPANIES, itertools.count(0, 7), strict=False):
        rows = order.roll(begin)[:count]
        moved = (logits[rows] - model(tokens[rows])).abs().amax(-1) / size[rows]
        yield float(moved.nan_to_num(math.inf).max())


def _logits(model: nn.Module, tokens: Tensor) -> Tensor:
    return torch.cat([model(part) for part in torch.split(tokens, CALL_ROWS)])
