"""Studies made of dice: records with the shape of real ones, for tests of analyst and report."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from asi_arch.analyst.explain import explain
from asi_arch.analyst.fitness import score
from asi_arch.records import (
    Cost,
    Evidence,
    Experiment,
    Failure,
    Metric,
    Proposal,
    Stage,
    Verdict,
    text_hash,
)
from asi_arch.report.view import View
from asi_arch.settings import Settings
from asi_arch.space import MetricSpec, Space

SPACE = Space(
    name="dice",
    title="Dice that look like linear attention",
    folder=Path("/nowhere"),
    contract="none",
    seed="delta_net",
    metrics=(
        MetricSpec(
            name="bits_per_byte",
            title="text",
            unit="bits/byte",
            higher_is_better=False,
            scale={"explore": 0.037},
        ),
        MetricSpec(
            name="recall_nll",
            title="recall",
            unit="nats",
            higher_is_better=False,
            scale={"explore": 0.37},
        ),
    ),
    stages={"explore": Stage(name="explore", steps=500, learning_rate=1.2e-2)},
    engine="nowhere:nothing",
    references=("softmax_attention",),
)
BASELINES = {
    "delta_net": (2.872, 0.09),
    "gated_delta_net": (2.722, 1.43),
    "kda": (2.736, 1.81),
    "mamba2": (2.799, 1.45),
    "gla": (2.891, 3.23),
    "retnet": (3.271, 3.37),
    "linear_attention": (3.387, 2.19),
}
MOVES = ("output_gate", "short_conv", "scalar_decay", "negative_eigenvalues", "token_shift", "two_states")


def evidence(
    bits: float, nll: float, *, seed: int = 0, source: str = "x", loss: float | None = None
) -> Evidence:
    """One run of a source with these scores, and a curve that ends at `loss`."""
    end = bits * math.log(2) + nll if loss is None else loss
    dice = random.Random(f"{source} {seed}")
    steps = [1, *range(10, 501, 10)]
    curve = [(s, end + (9 - end) * math.exp(-s / 80) + dice.gauss(0, 0.04) * (s < 500)) for s in steps]
    accuracy = math.exp(-nll)
    graded = {f"recall_accuracy_n{n}": accuracy ** (n / 6) for n in (2, 4, 8, 16)}
    details = {
        name: Metric(value=value, standard_error=0.01)
        for name, value in {"recall_accuracy": accuracy, **graded}.items()
    }
    return Evidence(
        stage="explore",
        seed=seed,
        source_hash=text_hash(source),
        graph_hash=text_hash(source + "graph"),
        checks=(Verdict(name="causality", passed=True, message="moved 0.0 at T = 1..1024; limit 1e-5"),),
        curve=tuple(curve),
        metrics={
            "bits_per_byte": Metric(value=bits, standard_error=0.01),
            "recall_nll": Metric(value=nll, standard_error=0.02),
        },
        details=details,
        cost=Cost(
            parameters=131_216,
            mixer_parameters=20_800 + dice.randrange(9000),
            hidden_width=150,
            flops_per_token=3.1e5 * dice.uniform(0.8, 1.6),
            state_bytes=16_384,
            tokens_per_second=24_000 * dice.uniform(0.6, 1.2),
            relative_seconds=dice.uniform(0.8, 1.5),
        ),
        seconds=18.0,
        cpu_seconds=dice.uniform(11, 19),
    )


def study(candidates: int, seed: int = 0) -> View:
    """A study of so many candidates: children of the better ones, some failed, slowly better."""
    dice = random.Random(seed)
    experiments = [_baseline(i, name, dice) for i, name in enumerate(BASELINES, 1)]
    reference = experiments[0].evidence
    while len(experiments) < len(BASELINES) + candidates:
        experiments.append(_candidate(len(experiments) + 1, experiments, reference, dice))
    return View(space=SPACE, settings=Settings(space="dice"), experiments=tuple(experiments))


def _baseline(number: int, name: str, dice: random.Random) -> Experiment:
    bits, nll = BASELINES[name]
    count = 3 if name == SPACE.seed else 1
    runs = [
        evidence(bits + dice.gauss(0, 0.026), nll * math.exp(dice.gauss(0, 0.15)), seed=i, source=name)
        for i in range(count)
    ]
    proposal = Proposal(name=name, motivation="Known.", source=f"# {name}\n", author="baseline")
    return _ended(number, "baseline", proposal, tuple(runs), tuple(runs) if number == 1 else None, dice)


def _candidate(
    number: int, known: Sequence[Experiment], reference: tuple[Evidence, ...], dice: random.Random
) -> Experiment:
    ranked = sorted((e for e in known if e.fitness), key=lambda e: -(e.fitness.value if e.fitness else 0))
    parent = dice.choice(ranked[:10]) if number > 12 else known[0]
    assert parent.proposal is not None
    moves = tuple(dice.sample(MOVES, dice.choice((1, 1, 2, 3))))
    name = f"{moves[0]}_{number}"
    source = f"{parent.proposal.source}x = {number}\n"
    proposal = Proposal(
        name=name,
        motivation="Try it.",
        source=source,
        author="symbolic",
        parents=(parent.id,),
        moves=moves,
    )
    if dice.random() < 0.12:
        failure = Failure(phase="causality", kind="future", message="output 3 moved by 0.2 when token 9 did")
        run = Evidence(
            stage="explore", seed=0, source_hash=text_hash(source), failure=failure, cpu_seconds=3.0
        )
        return Experiment(
            id=number,
            kind="candidate",
            status="failed",
            proposal=proposal,
            evidence=(run,),
            failure=failure,
            claimed_at=1e9 + number * 20,
            ended_at=1e9 + number * 20 + 15,
        )
    metrics = parent.evidence[0].metrics
    bits = metrics["bits_per_byte"].value + dice.gauss(0.01, 0.06)
    nll = max(0.02, metrics["recall_nll"].value * math.exp(dice.gauss(0.05, 0.5)))
    run = evidence(bits, nll, source=source)
    return _ended(number, "candidate", proposal, (run,), reference, dice)


def _ended(number, kind, proposal, runs, reference, dice) -> Experiment:
    seed = reference or (evidence(2.872, 0.09, source="delta_net"),)
    started = 1e9 + number * 20
    experiment = Experiment(
        id=number,
        kind=kind,
        status="finished",
        proposal=proposal,
        evidence=runs,
        fitness=score(runs[0], seed, SPACE, "gain"),
        claimed_at=started,
        ended_at=started + dice.uniform(12, 20),
    )
    return replace(experiment, finding=explain(experiment, None, (), seed, SPACE))
