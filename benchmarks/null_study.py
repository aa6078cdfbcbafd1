"""Null studies: candidates are baselines under other names and seeds, so that every discovery is false.

    python benchmarks/null_study.py [--studies 200] [--json]

Each study is simulated with the noise that was measured on a laptop: a search picks the
best of many single runs as leads, these are replicated on fresh seeds at the longer stage, as often as the
power calculation asks, and all are judged together. The printed rate is of studies with any discovery; its
interval is Clopper and Pearson's at 95 %.
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

from asi_arch.analyst.claims import Question, fitness_measure, judge_leads
from asi_arch.analyst.fitness import score
from asi_arch.analyst.statistics import mean_metric
from asi_arch.records import Evidence, Experiment, Metric, Proposal, Stage
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
    stages={name: Stage(name=name, steps=1, learning_rate=1.0) for name in ("explore", "replicate")},
    engine="",
)  # fmt: skip
SEED_RUNS = 3
ALPHA = 0.05


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
    runs: int
    single: bool


def simulate(world: World, number: int, candidates: int = 100, most_leads: int = 5) -> Outcome:
    """Run one null study with its number as seed."""
    dice = random.Random(f"null/{world.title}/{number}")
    baselines = [_baseline(i, name, world, dice) for i, name in enumerate(world.baselines, 1)]
    seed = baselines[0].evidence
    twins = [dice.choice(world.baselines) for _ in range(candidates)]
    pool = []
    for id, name in enumerate(twins, len(baselines) + 1):
        noise = world.noise_of(name, dice)
        run = _run(name, noise, "explore", 0, world, dice)
        pool.append((score(run, seed, SPACE, "gain").value, id, name, noise, run))
    best = max(max(score(run, seed, SPACE, "gain").value for run in b.evidence) for b in baselines)
    chosen = [entry for entry in sorted(pool, reverse=True)[:most_leads] if entry[0] > best]
    single = any(_stands_out(run, baselines) for *_, run in pool)
    leads = [_experiment(id, "candidate", name, (run,)) for _, id, name, _, run in chosen]
    models = {id: (name, noise) for _, id, name, noise, _ in chosen}
    models |= {b.id: (name, name) for b, name in zip(baselines, world.baselines, strict=True)}
    wanted = dict.fromkeys(models, 3)
    while True:
        baselines, leads = (
            [_replicated(e, *models[e.id], wanted[e.id], world, dice) for e in group]
            for group in (baselines, leads)
        )
        reference = [run for run in baselines[0].evidence if run.stage == "replicate"]
        measure = fitness_measure(SPACE, reference, "gain")
        question = Question(stage="replicate", measure=measure, seen=range(SEED_RUNS), alpha=ALPHA)
        claims = judge_leads(leads, baselines, question)
        short = [claim for claim in claims if claim.outcome == "open"]
        if not short:
            break
        for claim in short:
            wanted[claim.experiment] = max(wanted[claim.experiment], claim.planned)
            for b in baselines:
                wanted[b.id] = max(wanted[b.id], claim.planned)
    runs = sum(len(e.evidence) for e in (*baselines, *leads))
    found = sum(claim.outcome == "discovery" for claim in claims)
    return Outcome(discoveries=found, leads=len(leads), runs=runs, single=single)


def _stands_out(run: Evidence, baselines: Sequence[Experiment]) -> bool:
    def least(spec: MetricSpec) -> float:
        return min(mean_metric(b.evidence, spec.name) for b in baselines)

    return any(run.metrics[m.name].value < least(m) - 1.96 * m.scale["explore"] for m in SPACE.metrics)


def _baseline(id: int, name: str, world: World, dice: random.Random) -> Experiment:
    runs = [_run(name, name, "explore", s, world, dice) for s in range(SEED_RUNS if id == 1 else 1)]
    return _experiment(id, "baseline", name, tuple(runs))


def _experiment(id: int, kind: str, name: str, runs: tuple[Evidence, ...]) -> Experiment:
    proposal = Proposal(name=name, motivation="", source=name, author="")
    return Experiment(id=id, kind=kind, status="finished", proposal=proposal, evidence=runs)  # type: ignore[arg-type]


def _replicated(
    experiment: Experiment, name: str, noise: str, wanted: int, world: World, dice: random.Random
) -> Experiment:
    have = sum(run.stage == "replicate" for run in experiment.evidence)
    new = [_run(name, noise, "replicate", SEED_RUNS + i, world, dice) for i in range(have, wanted)]
    return replace(experiment, evidence=(*experiment.evidence, *new))


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
        "any false discovery",
        "95 %",
        "from single runs",
        "runs",
    )
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(
            str(row["world"]), str(row["with_leads"]), f"{row['rate']:.1%}",
            f"{row['low']:.1%} to {row['high']:.1%}", f"{row['single_run_rate']:.0%}",
            f"{row['mean_runs']:.0f}",
        )  # fmt: skip
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
