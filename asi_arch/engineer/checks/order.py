"""The gates before training, in their order."""

from asi_arch.engineer.checks.common import Check
from asi_arch.engineer.checks.growth import cost, state
from asi_arch.engineer.checks.leaks import batch, causality, continuation
from asi_arch.engineer.checks.sound import determinism, finite, gradients


def all_checks() -> tuple[Check, ...]:
    """Give the checks that run on graphs, in their order."""
    return (finite, causality, continuation, batch, determinism, gradients, cost, state)
