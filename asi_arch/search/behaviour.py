"""Behaviour: in which coarse cell of state size, cost and mechanism a design lies; and families of moves."""

import ast
import math
from collections.abc import Iterable, Sequence

from asi_arch.records import Cost, Experiment, Proposal

OPS = "asi_arch.ops"
HELPERS = {"l2norm", "rms_norm", "rotary", "token_shift", "short_conv"}  # every mechanism may use them
RECENT = 50  # trials, of which the most used families of moves are the trodden path
Cell = tuple[str, ...]


def behaviour(experiment: Experiment, seed: Cost) -> Cell:
    """Give the coarse cell of an experiment; () where nothing is known of its behaviour.

    Args:
        experiment: with a proposal and evidence.
        seed: what the seed costs, to which sizes and costs are relative.

    Returns:
        The state's size in powers of 2 of the seed's; the cost in powers of 2 of the seed's (seconds of
        the mixer, else FLOPs); and the mechanism: the recurrences of `asi_arch.ops` that its source
        uses, else the family of its last move. What is unknown is left out.
    """
    if experiment.proposal is None:
        return ()
    cost = next((run.cost for run in reversed(experiment.evidence) if run.cost != Cost()), Cost())
    state = _octave(cost.state_bytes, seed.state_bytes)
    seconds = _octave(cost.relative_seconds, seed.relative_seconds)
    work = seconds or _octave(cost.flops_per_token, seed.flops_per_token)
    mechanism = _mechanism(experiment.proposal)
    named = (("state", state), ("cost", work), ("", mechanism))
    return tuple(f"{name} {value}".strip() for name, value in named if value)


def family_of(move: str) -> str:
    """Give the family of a move: what it changes: its name's last word, without a plural's s."""
    return move.rsplit("_", 1)[-1].removesuffix("s")


def most_used(moves: Iterable[Sequence[str]], share: float = 1 / 3) -> frozenset[str]:
    """Give the families that were used most in some proposals: the first third of them, at least one."""
    counts: dict[str, int] = {}
    for names in moves:
        for name in names:
            counts[family_of(name)] = counts.get(family_of(name), 0) + 1
    order = sorted(counts, key=lambda family: (-counts[family], family))
    return frozenset(order[: math.ceil(share * len(order))])


def _octave(value: float, seed: float) -> str:
    return f"{round(math.log2(value / seed)):+d}" if value > 0 and seed > 0 else ""


def _mechanism(proposal: Proposal) -> str:
    try:
        tree = ast.parse(proposal.source)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == OPS]
    names = {alias.name for node in imports for alias in node.names}
    used = sorted(name for name in names - HELPERS if name.islower())
    return "+".join(used) or (family_of(proposal.moves[-1]) if proposal.moves else "")
