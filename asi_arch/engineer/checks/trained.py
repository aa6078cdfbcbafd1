"""The gate after training: what the trained weights do with real evaluation data.

Shapes: R rows, T tokens of a row.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from asi_arch.engineer.checks.common import LEAK_LIMIT, SINGLE_LEAK_LIMIT, or_infinity
from asi_arch.engineer.evaluate import evaluation_inputs
from asi_arch.engineer.train import Recipe
from asi_arch.records import Verdict

TRAINED_ROWS = 64
CALL_ROWS = 32  # as in evaluation


def trained_causality(model: nn.Module, recipe: Recipe) -> Verdict:
    """After training, on real evaluation data: later tokens and other rows do not move logits.

    Each position from 1 to T - 1 is where the changed tokens begin in some row, under every kind of
    change. In float64, where a tiny leak shows, and in float32, in which it was trained and is scored: a
    graph can tell the two apart (1 + 1e-9 - 1). model: tokens [R, T] int64 to logits [R, T, vocab]; it is
    left in float64 and evaluation mode.
    """
    model.eval()
    tokens = _rows(recipe)
    single, at_single, rows_single, _ = _shifts(model.float(), tokens, recipe)
    worst, at, rows, kinds = _shifts(model.double(), tokens, recipe)
    limit, precision = LEAK_LIMIT, "fp64"
    if max(single, rows_single) > SINGLE_LEAK_LIMIT and max(worst, rows) <= LEAK_LIMIT:
        worst, at, rows, limit, precision = single, at_single, rows_single, SINGLE_LEAK_LIMIT, "fp32"
    said = f"(limit {limit:.0e} of a position's size, {precision})"
    if worst > limit or rows > limit:
        what = f"tokens from {at} on move logits before them by {worst:.1e} of their size"
        what = what if worst > limit else f"other rows move logits by {rows:.1e} of their size"
        return Verdict(name="trained_causality", passed=False, message=f"{what} {said} after training")
    message = f"after training, later tokens move logits by {worst:.1e}, other rows by {rows:.1e} {said}"
    message += f", by {max(single, rows_single):.1e} in fp32 (limit {SINGLE_LEAK_LIMIT:.0e});"
    scope = f"{len(tokens)} rows x {kinds} kinds of change, at every position"
    return Verdict(name="trained_causality", passed=True, message=f"{message} {scope}")


def _shifts(model: nn.Module, tokens: Tensor, recipe: Recipe) -> tuple[float, int, float, int]:
    """Give how far later tokens move logits, where, how far other rows do, and the kinds of change."""
    first = torch.arange(len(tokens)) % (recipe.length - 1) + 1  # [R], of the changed tokens
    after = torch.arange(recipe.length) >= first[:, None]
    with torch.no_grad():
        logits = _logits(model, tokens)
        size = logits.pow(2).mean(-1).sqrt().clamp_min(1e-12)  # [R, T]
        worst, at, kinds = 0.0, 0, 0
        for later in _changes(tokens, first, recipe.vocab):
            moved = (logits - _logits(model, later)).abs().amax(-1) / size
            moved = moved.nan_to_num(torch.inf).masked_fill(after, 0.0)
            worst, at = max((worst, at), (float(moved.max()), int(first[moved.amax(1).argmax()])))
            kinds += 1
        return worst, at, max(_row_shifts(model, tokens, logits, recipe.vocab)), kinds


def _rows(recipe: Recipe) -> Tensor:
    """Give evaluation rows [R, T], at least as many as there are positions."""
    tokens = evaluation_inputs(recipe, TRAINED_ROWS)
    return tokens.repeat(-(-(recipe.length - 1) // TRAINED_ROWS), 1)


def _logits(model: nn.Module, tokens: Tensor) -> Tensor:
    return torch.cat([model(part) for part in torch.split(tokens, CALL_ROWS)])


def _changes(tokens: Tensor, first: Tensor, vocab: int) -> Iterator[Tensor]:
    """Give rows with the tokens from `first` on replaced, and with only the one at `first` replaced.

    By noise, by another row's, by their own in reverse, by the last token before, by themselves one later.
    """
    generator = torch.Generator().manual_seed(23)
    noise = torch.randint(0, vocab, tokens.shape, generator=generator)
    time = torch.arange(tokens.shape[1])
    later = time >= first[:, None]
    last = tokens.gather(1, first[:, None] - 1).expand_as(tokens)
    for other in (noise, tokens.roll(1, 0), tokens.flip(1), last, tokens.roll(1, 1)):
        yield torch.where(later, other, tokens)
    yield torch.where(time == first[:, None], (tokens + 1 + noise % (vocab - 1)) % vocab, tokens)


def _row_shifts(model: nn.Module, tokens: Tensor, logits: Tensor, vocab: int) -> Iterator[float]:
    """Give how far the logits of rows move in other company: alone, in another order, among others."""
    generator = torch.Generator().manual_seed(29)
    n = CALL_ROWS // 2
    some, known = tokens[:n], logits[:n]
    size = known.pow(2).mean(-1, keepdim=True).sqrt().clamp_min(1e-12)
    others = torch.randint(0, vocab, some.shape, generator=generator)
    companies = (
        (model(some.flip(0)).flip(0), slice(0, n)),
        (model(torch.cat([some, others]))[:n], slice(0, n)),
        (model(torch.cat([others, some]))[n:], slice(0, n)),
        (model(some[:1]), slice(0, 1)),
        (model(some[1:5]), slice(1, 5)),
    )
    for moved, of in companies:
        yield or_infinity(((known[of] - moved).abs() / size[of]).max())
