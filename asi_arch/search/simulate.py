"""A study without an archive: the policies on a landscape, thousands of candidates in a second or so."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from asi_arch.records import Status, StopRule
from asi_arch.search.budgets.base import Budget, Curve, Facts, judge
from asi_arch.search.budgets.full import Full
from asi_arch.search.selection.base import Member, Policy
from asi_arch.settings import Settings

SEED_RUNS = 3
RENEWED = 1.1  # times as many curves as before, and the budget is asked for a new rule: it is slow


class World(Protocol):
    """How good candidates are. All qualities are on one scale, and more is better."""

    @property
    def seed(self) -> float:
        """Give the quality of the seed."""
        ...

    @property
    def failed(self) -> float:
        """Give the chance that nothing comes of a candidate."""
        ...

    def child(self, parent: float, draw: random.Random) -> float:
        """Give the inherited quality of a child of a parent's inherited quality."""
        ...

    def own(self, draw: random.Random) -> float:
        """Give what a candidate has of its own beside that."""
        ...

    def error(self, draw: random.Random) -> float:
        """Give by how far the fitness of one run is off its candidate's true quality."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One simulated study.

    curve: gives the learning curve of a run with a measured fitness; asked for where a budget reads
    curves. target: true quality that is searched for. at_most: compute, in full runs. parallel:
    proposals that are made before any of their results is known. budget: which runs are stopped early.
    """

    policy: Policy
    settings: Settings
    world: World
    curve: Callable[[float, random.Random], Curve]
    target: float
    at_most: float = 1800.0
    parallel: int = 8
    budget: Budget = field(default_factory=Full)
    warm_up: float = 0.5


@dataclass(slots=True)
class Outcome:
    """What came of it. Compute is in full runs.

    found: compute until a candidate was measured that truly reaches the target, and named: until the
    candidate of the highest fitness did so; infinite when that did not happen. spent: in all. best: the
    highest true quality so far after each candidate. leader: the true quality of the one with the
    highest fitness then.
    """

    found: float = float("inf")
    named: float = float("inf")
    spent: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    leader: list[float] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    truth: list[float] = field(default_factory=list)


def simulate(plan: Plan, number: int, stop_when_named: bool = True) -> Outcome:
    """Run a study. Equal plans and numbers give equal outcomes.

    number: of the repeat; it takes the place of the study's seed.
    stop_when_named: end when the target is found and named, else at `at_most`.
    """
    settings = replace(plan.settings, seed=number)
    draw, curve_draw = random.Random(f"simulated/{number}"), random.Random(f"curves/{number}")
    is_raced = not isinstance(plan.budget, Full)
    world, outcome = plan.world, Outcome()
    inherited = [world.seed]
    measured = sum(world.seed + world.error(draw) for _ in range(SEED_RUNS)) / SEED_RUNS
    members = outcome.members
    members.append(Member(id=1, kind="baseline", status="finished", fitness=measured, runs=SEED_RUNS))
    outcome.truth.append(world.seed)
    curves = [plan.curve(measured, curve_draw)]
    best = leader = world.seed
    highest, spent = measured, 0.0
    rule, asked = None, 0
    while spent < plan.at_most:
        ids = range(len(members) + 1, len(members) + 1 + plan.parallel)
        known = tuple(members)
        parents = [plan.policy(known, settings, 1, id)[0] for id in ids]
        if is_raced and len(curves) >= RENEWED * asked:
            rule, asked = _rule(plan, curves), len(curves)
        for id, parent in zip(ids, parents, strict=True):
            x = world.child(inherited[parent - 1], draw)
            true = x + world.own(draw)
            shown = true + world.error(draw)
            lost = draw.random() < world.failed
            run, share = _run(plan.curve(shown, curve_draw), rule) if is_raced else ((), 1.0)
            fitness = None if lost or share < 1 else shown
            spent += share
            inherited.append(x)
            if is_raced and not lost:
                curves.append(run)
            status: Status = "failed" if fitness is None else "finished"
            kept = (parent,)
            ended = Member(
                id=id, kind="candidate", status=status, fitness=fitness, parents=kept, result=id - 1
            )
            members.append(ended)
            outcome.truth.append(true)
            if fitness is not None:
                best = max(best, true)
                if fitness > highest:
                    highest, leader = fitness, true
            outcome.spent.append(spent)
            outcome.best.append(best)
            outcome.leader.append(leader)
            if best >= plan.target:
                outcome.found = min(outcome.found, spent)
            if leader >= plan.target:
                outcome.named = min(outcome.named, spent)
        if stop_when_named and outcome.named < float("inf"):
            break
    return outcome


def _rule(plan: Plan, curves: Sequence[Curve]) -> StopRule | None:
    """Give when runs that start now are stopped, from the curves so far, the seed's first."""
    steps = curves[0][-1][0]
    facts = Facts(steps=steps, warm_up=math.ceil(plan.warm_up * steps), seed=curves[0], curves=curves[1:])
    return plan.budget.rule(facts)


def _run(curve: Curve, rule: StopRule | None) -> tuple[Curve, float]:
    """Give the curve as far as it was run, and the share of a full run that it cost."""
    if rule is not None:
        for end in range(1, len(curve)):
            if not judge(curve[:end], rule).go_on:
                return curve[:end], curve[end - 1][0] / curve[-1][0]
    return curve, 1.0
