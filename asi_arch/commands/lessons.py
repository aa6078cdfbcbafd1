"""Lessons of a study: what repeated runs have shown, written where recall finds it."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from asi_arch.analyst.noise import Noise, difference, fit_noise
from asi_arch.analyst.replication import Replication
from asi_arch.analyst.statistics import mean, metric_value, runs_at
from asi_arch.errors import SetupError
from asi_arch.papers import Cognition, Paper
from asi_arch.records import Experiment
from asi_arch.space import MetricSpec, Space

FEWEST = 3  # runs of a side; of a lead and its rival both fresh ones of the screen do
ALPHA = 0.05  # chance that one or more lessons of a study are false
PREFIX = "lesson-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """A difference of two means of runs at a stage. value: positive is better. margin: half its interval."""

    spec: MetricSpec
    value: float
    margin: float

    @property
    def sure(self) -> bool:
        """Tell whether the interval excludes 0."""
        return abs(self.value) > self.margin


def learned(folder: Path) -> tuple[list[Path], list[Path]]:
    """Write a study's lessons into its own knowledge; give the files that stand, and those withdrawn.

    A lesson is a lead against the baseline that was best when both were run again at the search's stage, by
    these fresh runs alone, or an experiment against its parent at a stage where both have `FEWEST` runs or
    more; if a metric moved for sure: the interval of its gain excludes 0 at a level that allows for all pairs
    and metrics looked at (Bonferroni). All are scored on the validation split: what is recalled in later
    briefs must not know the test split, on which claims rest. A lesson that no longer holds is withdrawn.

    Raises:
        SetupError: there is no study, or no such pair in it.
    """
    from asi_arch.cognition.base import OWN
    from asi_arch.cognition.write import keep, to_toml
    from asi_arch.loop.verify import replication_of
    from asi_arch.study import Study

    with closing(Study.open(folder)) as study:
        space, experiments = study.space, study.archive.experiments()
        study.require_measured()
        known = replication_of(study.bench)
    found = lessons(space, experiments, date.today().year, known)
    if found is None:
        raise SetupError(
            f"{folder} has no experiment with {FEWEST} runs at a stage that can be compared; "
            "`asi-arch verify` replicates its best"
        )
    kept = [keep(folder / OWN, lesson.paper.arxiv, to_toml([lesson])) for lesson in found]
    stale = sorted(set((folder / OWN).glob(f"{PREFIX}*.toml")) - set(kept))
    for path in stale:
        path.unlink()
    return kept, stale


def lessons(
    space: Space, experiments: Sequence[Experiment], year: int, known: Replication | None = None
) -> list[Cognition] | None:
    """Give what is sure of each pair of experiment and parent; None where no pair has runs enough.

    known: of the study's leads, which are paired with the baseline that was best in fresh runs, too.
    """
    by_id = {e.id: e for e in experiments}
    pairs = [(e, by_id[p], stage) for e in experiments for p in _parent(e, by_id) for stage in space.stages]
    pairs = [pair for pair in pairs if all(len(runs_at(e, pair[2])) >= FEWEST for e in pair[:2])]
    pairs += _screened(known) if known else []
    if not pairs:
        return None
    level = 1 - ALPHA / (len(pairs) * len(space.metrics))
    sides = {(e.id, stage): e for *both, stage in pairs for e in both}
    replicated = {id for id, _ in sides}
    groups = [*sides.values(), *(e for e in experiments if e.id not in replicated)]
    noises = {stage: _noises(space, groups, stage) for stage in {pair[2] for pair in pairs}}
    found = []
    for child, parent, stage in pairs:
        gains = [_gain(spec, child, parent, stage, noises[stage], level) for spec in space.metrics]
        if any(gain is not None and gain.sure for gain in gains):
            found.append(_lesson(child, parent, stage, [gain for gain in gains if gain], year))
    return found


def _screened(known: Replication) -> list[tuple[Experiment, Experiment, str]]:
    """Give each lead with the baseline that was best in fresh runs, both with these runs and no others."""
    rival = known.screen_rival
    if rival is None:
        return []
    other = replace(rival, evidence=known.evidence(rival.id, "screen"))
    leads = [e for e in known.leads if known.screened.get(e.id) is not None]
    own = (replace(e, evidence=known.evidence(e.id, "screen")) for e in leads)
    return [(lead, other, known.stage.name) for lead in own]


def _parent(experiment: Experiment, by_id: Mapping[int, Experiment]) -> list[int]:
    proposal = experiment.proposal
    return [p for p in proposal.parents[:1] if p in by_id] if proposal else []


def _noises(space: Space, experiments: Sequence[Experiment], stage: str) -> dict[str, Noise]:
    """Give the noise of each metric at a stage; a metric whose runs never differ has none."""
    found = {}
    for spec in space.metrics:
        groups = [[metric_value(run, spec.name) for run in runs_at(e, stage)] for e in experiments]
        try:
            found[spec.name] = fit_noise(groups)
        except ValueError:
            continue
    return found


def _gain(
    spec: MetricSpec,
    child: Experiment,
    parent: Experiment,
    stage: str,
    noises: Mapping[str, Noise],
    level: float,
) -> Gain | None:
    if spec.name not in noises:
        return None
    own, other = ([metric_value(run, spec.name) for run in runs_at(e, stage)] for e in (child, parent))
    change = mean(own) - mean(other)
    value = change if spec.higher_is_better else -change
    return Gain(spec=spec, value=value, margin=difference(noises[spec.name], own, other).margin(level))


def _lesson(child: Experiment, parent: Experiment, stage: str, gains: Sequence[Gain], year: int) -> Cognition:
    assert child.proposal is not None
    assert parent.proposal is not None
    name = f"{PREFIX}{child.id}-{stage}".lower().replace("_", "-")
    paper = Paper(arxiv=name, title=f"What experiment {child.id} has shown at {stage}", year=year)
    sure = [gain for gain in gains if gain.sure]
    better = [gain.spec.title for gain in sure if gain.value > 0]
    worse = [gain.spec.title for gain in sure if gain.value < 0]
    is_parent = parent.id in child.proposal.parents
    moves = ", ".join(move.replace("_", " ") for move in child.proposal.moves) if is_parent else ""
    rival = "its parent" if is_parent else f"baseline {parent.proposal.name}"
    change = moves or ("its author's change" if is_parent else f"design #{child.id}")
    verdict = " and ".join(
        f"{word} {', '.join(names)}" for word, names in (("better", better), ("worse", worse)) if names
    )
    asked = "" if is_parent else "".join(f", for changing #{id}" for id in child.proposal.parents[:1])
    counts = [len(runs_at(e, stage)) for e in (child, parent)]
    return Cognition(
        id=f"{name}/1",
        paper=paper,
        title=f"Measured here: {child.proposal.name} against {rival} is {verdict}",
        trigger=f"{' and '.join(f'weak {gain.spec.title}' for gain in sure)} in a design such as "
        f"{parent.proposal.name} (#{parent.id}), and {change} is considered.",
        background=f"The author's reason{asked}: {child.proposal.motivation}",
        method=f"#{parent.id} changed by: {moves}."
        if moves
        else f"The difference of #{child.id} and #{parent.id}.",
        implementation=f"The program is experiment {child.id}; `asi-arch show {child.id} --source` prints "
        f"it; {rival} is experiment {parent.id}.",
        effect=f"At {stage}, means of {counts[0]} and {counts[1]} runs: {'; '.join(map(_told, gains))}.",
        checked=True,
        source=f"experiments {child.id} and {parent.id} of this study at {stage}",
    )


def _told(gain: Gain) -> str:
    unit = f" {gain.spec.unit}".rstrip()
    if not gain.sure:
        return f"{gain.spec.title} not distinguishable ({gain.value:+.3g} ± {gain.margin:.2g}{unit})"
    word = "better" if gain.value > 0 else "worse"
    return f"{gain.spec.title} {word} by {abs(gain.value):.3g} ± {gain.margin:.2g}{unit}"
