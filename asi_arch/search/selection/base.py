"""What a policy of selection sees of a study, and what it answers."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from asi_arch.records import Kind, Status
from asi_arch.settings import Settings

Result = TypeVar("Result")
Further = ParamSpec("Further")
Choice = tuple[int, tuple[int, ...]]
"""The id of the parent, and the ids of the references."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An experiment as a policy sees it.

    fitness: mean over its runs so far; None unless finished. runs: how many these are.
    parents: experiment ids; open experiments have them from their proposal on.
    result: 1 for the candidate that ended first, 2 for the next, failed ones too; 0 for one that has
        not ended, and for baselines and references.
    cell: its coarse behaviour, such as ("state 0", "cost 1", "kda"); () where that is unknown.
    """

    id: int
    kind: Kind
    status: Status
    fitness: float | None = None
    runs: int = 1
    parents: tuple[int, ...] = ()
    result: int = 0
    cell: tuple[str, ...] = ()


class Policy(Protocol):
    """Chooses parent and references. Pure: equal arguments give equal choices, in every process."""

    def __call__(self, members: Sequence[Member], settings: Settings, seed: int, id: int) -> Choice:
        """Give the parent and the references of the proposal that an id is for.

        Args:
            members: of the study, in the order of ids; the seed has ended.
            settings: the study's; its seed and the id alone seed the draws.
            seed: id of the seed's experiment.
            id: of the proposal.

        Returns:
            A parent that has finished and is no reference row, and references of which the same holds.
        """
        ...


def remembered(
    function: Callable[Concatenate[Sequence[Member], Further], Result],
) -> Callable[Concatenate[Sequence[Member], Further], Result]:
    """Remember the last result of a function of members, for callers that ask for many ids of one tuple.

    Only a tuple is remembered, by identity, since nothing can change it; what else the function takes,
    such as settings, is compared. Safe to call from any thread.
    """
    last: tuple[Sequence[Member], object, Result] | None = None

    @wraps(function)
    def ask(members: Sequence[Member], /, *args: Further.args, **named: Further.kwargs) -> Result:
        nonlocal last
        held = last
        if held is None or held[0] is not members or held[1] != (args, named):
            held = (members, (args, named), function(members, *args, **named))
            if isinstance(members, tuple):
                last = held
        return held[2]

    return ask


@remembered
def parents_of(members: Sequence[Member]) -> tuple[Member, ...]:
    """Give the members that may be parents: finished ones, candidates and baselines."""
    return tuple(
        m for m in members if m.status == "finished" and m.kind != "reference" and m.fitness is not None
    )


@remembered
def ranked(members: Sequence[Member]) -> list[Member]:
    """Give the members that may be parents, the best first, equal ones by id."""
    return sorted(parents_of(members), key=lambda m: (-value(m), m.id))


def value(member: Member) -> float:
    """Give the fitness of a member that has one."""
    assert member.fitness is not None
    return member.fitness


def draw_of(settings: Settings, id: int, what: str) -> random.Random:
    """Give the random numbers of an id for one purpose."""
    return random.Random(f"{settings.seed}/{id}/{what}")


def percentiles(members: Sequence[Member]) -> Mapping[int, float]:
    """Give by id the share of the others that a member is better than, equal ones counted half: 0..1.

    It makes policies independent of the fitness's scale, and of how bad the failures among results are.
    """
    order = sorted(value(m) for m in members)
    if len(order) < 2:
        return {m.id: 0.5 for m in members}
    first: dict[float, int] = {}
    last: dict[float, int] = {}
    for place, fitness in enumerate(order):
        first.setdefault(fitness, place)
        last[fitness] = place
    return {m.id: (first[value(m)] + last[value(m)]) / 2 / (len(order) - 1) for m in members}


def draw_references(
    members: Sequence[Member], parent: int, settings: Settings, draw: random.Random
) -> tuple[int, ...]:
    """Draw references evenly from the best `pool_size` that are not the parent."""
    pool = [m.id for m in ranked(members)[: settings.pool_size] if m.id != parent]
    return tuple(draw.sample(pool, min(settings.num_references, len(pool))))
