"""What is proven of a candidate's graphs, beside what is tested on them."""

from collections.abc import Iterator, Sequence

from asi_arch.engineer.bundle import Place
from asi_arch.engineer.candidate import Candidate
from asi_arch.engineer.checks.common import CUTS, TRACED_TOKENS, TRAIN_LENGTHS
from asi_arch.engineer.proof.interpret import Proof

Call = tuple[Place, str, Sequence[int]]


def calls(candidate: Candidate) -> Iterator[Call]:
    """Give every call that was traced: whole sequences in both modes, pieces, single tokens, the stage's."""
    for place, mode, length in candidate.traced((), TRAIN_LENGTHS):
        yield place, mode, (length,)
    for place in candidate.places:
        for cut in CUTS:
            yield from ((place, "eval", cut[: i + 1]) for i in range(1, len(cut)))
        yield from ((place, "eval", (1,) * (i + 1)) for i in range(1, TRACED_TOKENS))


def claim(candidate: Candidate, claimed: str) -> tuple[str, str]:
    """Tell whether `causal` or `separate` is proven of every graph.

    Returns:
        ("proven", "proven of all N graphs for all weights"), or ("tested", why it is not proven).
    """
    proofs: dict[int, tuple[Call, Proof]] = {}
    for place, mode, lengths in calls(candidate):
        number = candidate.bundle.number(place, mode, lengths)
        if number not in proofs:
            proofs[number] = ((place, mode, lengths), candidate.proof(place, mode, lengths))
    for (place, mode, lengths), proof in proofs.values():
        if not getattr(proof, claimed):
            where = f"T = {'+'.join(map(str, lengths))}, {mode} mode, layer {place.layer}"
            return "tested", f"not proven: {proof.reason} ({where})"
    return "proven", f"proven of all {len(proofs)} graphs, for all weights"
