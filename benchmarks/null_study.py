"""Null studies: candidates are baselines under other names and seeds, so that every discovery is false.

    python benchmarks/null_study.py [--studies 200] [--json]

Each study is simulated with the noise that was measured on a laptop, from the search to the last run that
`asi-arch verify` would ask for, by the code that plans and judges these (`analyst/replication.py`). The
printed rate is of studies with any discovery; its interval is Clopper and Pearson's at 95 %.
"""

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from asi_arch.analyst.fitness import score
from asi_arch.analyst.replication import Replication, Terms
from asi_arch.analyst.statistics import mean_metric
from asi_arch.discoveries import Rerun
from asi_arch.records import Evidence, Experiment, Fitness, Kind, Metric, Proposal, Stage
from asi_arch.space import MetricSpec, Space

# Mean and standard deviation of single runs, 3 seeds each: text in bits per byte, recall in nats. At
# replicate there were two seeds, too few for a deviation of each: the ratio of the stages' pooled noise
# scales it.
EXPLORE = {
    "delta": (2.872, 0.033, 0.09, 0.014),
    "gdn": (2.722, 0.035, 1.43, 0.29),
    "kda": (2.736, 0.022, 1.81, 0.35),
    "mamba2": (2.799, 0.029, 1.45, 0.46),
    "gla": (2.891, 0.010, 3.23, 0.20),
    "ret": (3.271, 0.024, 3.37, 0.09),
    "lin": (3.387, 0.024, 2.19, 0.02),
}
LONGER = {
    "delta": (2.557, 0.025),
    "gdn": (2.453, 0.304),
    "kda": (2.434, 0.37),
    "mamba2": (2.483, 0.266),
    "gla": (2.615, 2.47),
    "ret": (3.143, 2.675),
    "lin": (3.219, 2.035),
}
RATIOS = (0.021 / 0.026, 0.13 / 0.26)  # pooled noise of the longer stage over the shorter, text and recall
SPACE = Space(
    name="null",
    title="Baselines under other names",
    folder=Path(),
    contract="",
    seed="delta",
    metrics=(
        MetricSpec(
            name="text", title="text", unit="bits/byte", higher_is_better=False,
            scale={"explore": 0.037, "replicate": 0.030},
        ),
        MetricSpec(
            name="recall", title="recall", unit="nats", higher_is_better=False,
            scale={"explore": 0.37, "replicate": 0.18},
        ),
    ),
    stages={
        "explore": Stage(name="explore", steps=1, learning_rate=1.0),
        "replicate": Stage(name="replicate", steps=2, learning_rate=1.0),
    },
    engine="",
)  # fmt: skip
SEED_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is simulated. baselines: names in EXPLORE. noise_of: a candidate's noise, by its model's name.

    skewed: one run in five lies 2.2 deviations above the others, as a late transition does.
    """

    title: str
    baselines: tuple[str, ...]
    noise_of: Callable[[str, random.Random], str] = lambda name, dice: name
    skewed: bool = False


WORLDS = (
    World(title="copies of all seven baselines", baselines=tuple(EXPLORE)),
    World(title="the same, skewed noise", baselines=tuple(EXPLORE), skewed=True),
    World(title="one baseline in mid-transition (kda), copies of it", baselines=("kda",)),
    World(title="one converged baseline (delta), copies of it", baselines=("delta",)),
    World(
        title="one converged baseline; its copies are as noisy as any of seven",
        baselines=("delta",),
        noise_of=lambda name, dice: dice.choice(list(EXPLORE)),
    ),
    World(
        title="the same, skewed noise",
        baselines=("delta",),
        noise_of=lambda name, dice: dice.choice(list(EXPLORE)),
        skewed=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One simulated study.

    single: whether a single run was better than every baseline's mean in a metric by 1.96 scales, a scale
    being the noise of a difference of two runs: what a study without replication would have claimed.
    """

    discoveries: int
    leads: int
    promoted: int
    runs: int
    single: bool


def simulate(world: World, number: int, candidates: int = 100, most_leads: int = 5) -> Outcome:
    """Run one null study with its number as seed: a search, then all that `asi-arch verify` would run."""
    dice = random.Random(f"null/{world.title}/{number}")
    baselines = [_baseline(i, name, world, dice) for i, name in enumerate(world.baselines, 1)]
    seed = baselines[0].evidence
    models = {b.id: (name, name) for b, name in zip(baselines, world.baselines, strict=True)}
    pool = []
    for id in range(len(baselines) + 1, len(baselines) + 1 + candidates):
        name = dice.choice(world.baselines)
        models[id] = (name, world.noise_of(name, dice))
        pool.append(_experiment(id, "candidate", name, (_run(*models[id], "explore", 0, world, dice),), seed))
    experiments = [*(_experiment(b.id, "baseline", _name(b), b.evidence, seed) for b in baselines), *pool]
    reruns: list[Rerun] = []
    while True:
        known = Replication(
            space=SPACE,
            experiments=experiments,
            reruns=tuple(reruns),
            stage=SPACE.stages["explore"],
            later=SPACE.stages["replicate"],
            seed=0,
            formula="gain",
            terms=Terms(top=most_leads),
        )
        missing = known.missing()
        if not missing or any(rerun.purpose == "seconds" for rerun in missing):
            break
        for rerun in missing:
            run = _run(*models[rerun.experiment], rerun.stage.name, rerun.seed, world, dice)
            reruns.append(replace(rerun, evidence=run))
    found = sum(claim.outcome == "discovery" for claim in known.claims)
    single = any(_stands_out(e.evidence[0], baselines) for e in pool)
    return Outcome(
        discoveries=found,
        leads=len(known.leads),
        promoted=len(known.promoted),
        runs=len(reruns),
        single=single,
    )


def _name(experiment: Experiment) -> str:
    return experiment.proposal.name if experiment.proposal else ""


def _stands_out(run: Evidence, baselines: Sequence[Experiment]) -> bool:
    def least(spec: MetricSpec) -> float:
        return min(mean_metric(b.evidence, spec.name) for b in baselines)

    return any(run.metrics[m.name].value < least(m) - 1.96 * m.scale["explore"] for m in SPACE.metrics)


def _baseline(id: int, name: str, world: World, dice: random.Random) -> Experiment:
    runs = [_run(name, name, "explore", s, world, dice) for s in range(SEED_RUNS if id == 1 else 1)]
    return _experiment(id, "baseline", name, tuple(runs), ())


def _experiment(
    id: int, kind: Kind, name: str, runs: tuple[Evidence, ...], seed: Sequence[Evidence]
) -> Experiment:
    """Give a finished experiment; seed: runs that its fitness is against, or () for none yet."""
    proposal = Proposal(name=name, motivation="", source=name, author="")
    fitness = None
    if seed:
        values = [score(run, seed, SPACE, "gain").value for run in runs]
        fitness = Fitness(formula="gain", value=sum(values) / len(values))
    return Experiment(id=id, kind=kind, status="finished", proposal=proposal, evidence=runs, fitness=fitness)


def _run(name: str, noise: str, stage: str, seed: int, world: World, dice: random.Random) -> Evidence:
    text, text_noise, recall, recall_noise = EXPLORE[name]
    _, text_noise, _, recall_noise = EXPLORE[noise]
    if stage == "replicate":
        text, recall = LONGER[name]
        text_noise, recall_noise = text_noise * RATIOS[0], recall_noise * RATIOS[1]
    values = {
        "text": text + text_noise * _deviate(dice, world.skewed),
        "recall": recall + recall_noise * _deviate(dice, world.skewed),
    }
    metrics: Mapping[str, Metric] = {k: Metric(value=v, standard_error=0.0) for k, v in values.items()}
    return Evidence(stage=stage, seed=seed, source_hash=name, metrics=metrics)


def _deviate(dice: random.Random, skewed: bool) -> float:
    """Give a draw of mean 0 and deviation 1; skewed: one of five lies 2.2 deviations up."""
    if not skewed:
        return dice.gauss(0, 1)
    late = dice.random() < 0.2
    value = 2.0 + 0.8 * dice.gauss(0, 1) if late else -0.5 + 0.45 * dice.gauss(0, 1)
    return value / 1.1367  # sqrt(0.2 (4 + 0.64) + 0.8 (0.25 + 0.2025))


def summary(world: World, outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Give the rates of a world's studies."""
    total, false = len(outcomes), sum(o.discoveries > 0 for o in outcomes)
    low = float(beta.ppf(0.025, false, total - false + 1)) if false else 0.0
    high = float(beta.ppf(0.975, false + 1, total - false)) if false < total else 1.0
    return {
        "world": world.title,
        "studies": total,
        "with_leads": sum(o.leads > 0 for o in outcomes),
        "with_promoted": sum(o.promoted > 0 for o in outcomes),
        "with_false_discovery": false,
        "rate": false / total,
        "low": low,
        "high": high,
        "single_run_rate": sum(o.single for o in outcomes) / total,
        "mean_runs": sum(o.runs for o in outcomes) / total,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Rate of false discoveries where nothing is to be found.")
    parser.add_argument("--studies", type=int, default=200, help="simulated studies of each kind")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    rows = [summary(w, [simulate(w, i) for i in range(options.studies)]) for w in WORLDS]
    if options.json:
        print(json.dumps(rows))
        return
    table = Table(title=f"{options.studies} null studies of each kind, 100 candidates, best 5 replicated")
    columns = (
        "nothing is better in",
        "with leads",
        "with promoted ones",
        "any false discovery",
        "95 %",
        "from single runs",
        "runs",
    )
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(
            str(row["world"]), str(row["with_leads"]), str(row["with_promoted"]), f"{row['rate']:.1%}",
            f"{row['low']:.1%} to {row['high']:.1%}", f"{row['single_run_rate']:.0%}",
            f"{row['mean_runs']:.0f}",
        )  # fmt: skip
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
