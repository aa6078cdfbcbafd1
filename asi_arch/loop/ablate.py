"""A discovery taken apart: each change against its nearest baseline is taken back alone and measured."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from asi_arch.analyst.claims import compare
from asi_arch.analyst.noise import Noise, fit_noise
from asi_arch.analyst.replication import Replication
from asi_arch.analyst.statistics import fitness_value, mean
from asi_arch.discoveries import Comparison, Rerun
from asi_arch.errors import SetupError
from asi_arch.records import Evidence, Experiment, Failure, Stage
from asi_arch.researcher.novelty import source_hash
from asi_arch.researcher.symbolic import Grammar

PART_FROM = 4000  # added to the study's seed: runs of an ablation are no part of a claim
WHOLE, NEAREST = "", "the nearest baseline"

Grouping = Callable[[Sequence[str]], Sequence[tuple[str, Sequence[int]]]]
"""Groups the hunks of a difference: gives (name, indices of hunks) for each, no hunk in two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One change: its name, and the source in which it is taken back."""

    name: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """An experiment against its nearest baseline. parts: what sets them apart. how: they were told apart."""

    experiment: Experiment
    baseline: Experiment
    parts: tuple[Part, ...]
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What a change is worth: fitness with it less fitness without it.

    comparison: None where nothing was measured without it. failure: of a run without it.
    metrics: means without it, by name.
    """

    part: str
    comparison: Comparison | None
    metrics: dict[str, float]
    failure: Failure | None = None


def anatomy(
    experiment: Experiment,
    baselines: Sequence[Experiment],
    grammar: Grammar | None,
    grouping: Grouping | None = None,
) -> Anatomy:
    """Find the baseline that differs least from an experiment, and what sets them apart.

    Args:
        experiment: with a proposal.
        baselines: of the study, at least one, all with proposals.
        grammar: of the space; where it reads the source exactly, parts are those of its designs.
        grouping: groups the hunks of the difference of two sources otherwise; None: each stands alone.

    Raises:
        SetupError: nothing sets it apart from a baseline.
    """
    found = _by_grammar(experiment, baselines, grammar) or _by_hunks(experiment, baselines, grouping)
    if not found.parts:
        raise SetupError(
            f"experiment {experiment.id} differs from baseline {found.baseline.name} in nothing that can "
            "be taken away; choose another"
        )
    return found


def ablation_runs(found: Anatomy, stage: Stage, seed: int, seeds: int) -> list[Rerun]:
    """Give the runs of an ablation: the whole, the nearest baseline, and the whole without each part.

    stage: of all of them, with the learning rate of the whole. seed: of the study. seeds: runs of each.
    """
    runs = []
    for k in range(seed + PART_FROM, seed + PART_FROM + seeds):
        runs.append(_run(found.experiment, WHOLE, "", stage, k))
        runs.append(_run(found.baseline, NEAREST, "", stage, k))
        runs += [_run(found.experiment, part.name, part.source, stage, k) for part in found.parts]
    return runs


def contributions(
    found: Anatomy, runs: Sequence[Rerun], ended: Sequence[Rerun], known: Replication
) -> list[Contribution]:
    """Give what each part is worth, the nearest baseline's whole distance first, then the largest.

    Args:
        found: what was taken apart.
        runs: of the ablation, from `ablation_runs`.
        ended: reruns of the study that ended.
        known: of the study, for its fitness.
    """
    by_key = {rerun.key: rerun.evidence for rerun in ended}
    groups: dict[str, list[Evidence]] = {}
    for run in runs:
        evidence = by_key.get(run.key)
        if evidence is not None:
            groups.setdefault(run.part, []).append(evidence)
    reference = [e for e in groups.get(NEAREST, ()) if e.metrics and e.failure is None]
    scored = {
        part: [known.score(e, reference) for e in group if e.metrics and e.failure is None]
        for part, group in groups.items()
        if reference
    }
    noise = _noise(scored.values())
    told = []
    for part in (NEAREST, *(p.name for p in found.parts)):
        own, other = scored.get(WHOLE, []), scored.get(part, [])
        group = groups.get(part, [])
        complete = all(e.failure is None for e in group)
        told.append(
            Contribution(
                part=part,
                comparison=compare(own, other, noise, 0.95) if complete and noise else None,
                metrics={
                    spec.name: mean(e.metrics[spec.name].value for e in group if e.metrics)
                    for spec in known.space.metrics
                    if any(e.metrics for e in group)
                },
                failure=next((e.failure for e in group if e.failure is not None), None),
            )
        )
    worth = [c.comparison.gain if c.comparison else float("-inf") for c in told]
    order = sorted(range(1, len(told)), key=lambda i: (-worth[i], told[i].part))
    return [told[0], *(told[i] for i in order)]


def _noise(groups: Iterable[Sequence[float]]) -> Noise | None:
    try:
        return fit_noise(groups)
    except ValueError:  # no two runs, or none that differ
        return None


def stage_of(known: Replication, experiment: Experiment) -> Stage:
    """Give the stage of claims with the learning rate that an experiment was claimed at, if it was."""
    return replace(known.later, learning_rate=known.rates.get(experiment.id, known.later.learning_rate))


def hunks(old: str, new: str) -> list[tuple[int, int, int, int]]:
    """Give the places where two texts differ: lines i1 to i2 of the old are j1 to j2 of the new."""
    matcher = difflib.SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False)
    return [(i1, i2, j1, j2) for tag, i1, i2, j1, j2 in matcher.get_opcodes() if tag != "equal"]


def taken_back(old: str, new: str, some: Sequence[tuple[int, int, int, int]]) -> str:
    """Give the new text with some of its differences from the old undone."""
    before, after = old.splitlines(), new.splitlines()
    for i1, i2, j1, j2 in sorted(some, reverse=True):
        after[j1:j2] = before[i1:i2]
    return "\n".join(after) + "\n"


def _by_grammar(
    experiment: Experiment, baselines: Sequence[Experiment], grammar: Grammar | None
) -> Anatomy | None:
    if grammar is None:
        return None
    design, note = grammar.read(_source(experiment))
    if note:  # it is not that design's program, so parts of the design would not be its own
        return None
    found = []
    for baseline in baselines:
        base, _ = grammar.read(_source(baseline))
        parts = grammar.without_each(design, base)
        found.append((len(parts), -fitness_value(baseline), baseline.id, baseline, parts))
    *_, baseline, parts = min(found, key=lambda one: one[:3])
    made = (
        Part(name=name, source=grammar.render(other, grammar.title(other), f"Without: {name}."))
        for name, other in parts
    )
    return Anatomy(experiment=experiment, baseline=baseline, parts=tuple(made), how="parts of its design")


def _by_hunks(experiment: Experiment, baselines: Sequence[Experiment], grouping: Grouping | None) -> Anatomy:
    new = _source(experiment)
    sizes = [
        (sum(max(i2 - i1, j2 - j1) for i1, i2, j1, j2 in hunks(_source(b), new)), b.id, b) for b in baselines
    ]
    *_, baseline = min(sizes, key=lambda one: one[:2])
    old = _source(baseline)
    places = hunks(old, new)
    shown = [_shown(old, new, place) for place in places]
    groups = grouping(shown) if grouping and len(places) > 1 else _alone(old, new, places)
    parts = tuple(
        Part(name=name, source=taken_back(old, new, [places[i] for i in some])) for name, some in groups
    )
    how = "groups of lines, named by a model" if grouping and len(places) > 1 else "lines of its source"
    return Anatomy(experiment=experiment, baseline=baseline, parts=parts, how=how)


def _alone(
    old: str, new: str, places: Sequence[tuple[int, int, int, int]]
) -> list[tuple[str, Sequence[int]]]:
    """Name each hunk by its place; what changes words for people only is no part."""
    named: list[tuple[str, Sequence[int]]] = []
    for i, (i1, i2, j1, j2) in enumerate(places):
        if source_hash(taken_back(old, new, [places[i]])) != source_hash(new):
            lines = f"lines {j1 + 1} to {j2}" if j2 > j1 else f"{i2 - i1} lines left out at {j1 + 1}"
            named.append((lines, (i,)))
    return named


def _shown(old: str, new: str, place: tuple[int, int, int, int]) -> str:
    i1, i2, j1, j2 = place
    removed = [f"-{line}" for line in old.splitlines()[i1:i2]]
    return "\n".join([*removed, *(f"+{line}" for line in new.splitlines()[j1:j2])])


def _run(experiment: Experiment, part: str, source: str, stage: Stage, seed: int) -> Rerun:
    return Rerun(experiment=experiment.id, purpose="part", part=part, source=source, stage=stage, seed=seed)


def _source(experiment: Experiment) -> str:
    assert experiment.proposal is not None
    return experiment.proposal.source
