"""Where an experiment becomes evidence, and evidence becomes fitness and a finding."""

import math
import threading
import time
from collections import OrderedDict, defaultdict
from dataclasses import replace
from functools import cached_property

from asi_arch.analyst.explain import explain
from asi_arch.analyst.fitness import score
from asi_arch.analyst.provenance import attribute
from asi_arch.analyst.statistics import mean, mean_metric, runs_at
from asi_arch.archive.base import Archive
from asi_arch.errors import SetupError
from asi_arch.loop.seams import Critics, Pool, Report
from asi_arch.records import (
    Evidence,
    Experiment,
    Failure,
    Fitness,
    Job,
    Judgement,
    Progress,
    Stage,
    StopRule,
    text_hash,
)
from asi_arch.search.budgets.base import Facts
from asi_arch.search.budgets.policies import budget_of
from asi_arch.settings import Settings, is_without
from asi_arch.space import Space

CHECKS = "checks"  # the stage of evidence from which nothing was trained
DUPLICATE = "duplicate"
PREVIEWS = 64  # checks that are kept for a source that may yet be handed in
SAME = {
    "graph": "the graph is that of experiment {}, and nothing is trained twice",
    "function": "it computes what experiment {} computes: equal outputs from equal parameters",
}


class Bench:
    """Measures at the study's stage, and scores against the study's seed. Thread-safe.

    All it knows is in the archive, so a job that was killed goes on where the last record left it.
    """

    def __init__(self, space: Space, settings: Settings, archive: Archive, pool: Pool) -> None:
        self.space, self.settings, self.archive, self.pool = space, settings, archive, pool
        self.stage = stage_of(space, settings)
        self._seed_runs: tuple[Evidence, ...] = ()
        self._adding = threading.Lock()
        self._checking: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self._previews: OrderedDict[str, Evidence] = OrderedDict()

    @cached_property
    def seed_id(self) -> int:
        """Give the id of the seed's experiment."""
        rows = self.archive.rows()
        return next(row.id for row in rows if row.kind == "baseline" and row.name == self.space.seed)

    def seed_runs(self) -> tuple[Evidence, ...]:
        """Give the seed's runs, to which all fitness is relative; none until all of them are there."""
        if not self._seed_runs:
            seed = self.archive.get(self.seed_id)
            if seed.status == "finished":
                self._seed_runs = runs_at(seed, self.stage.name)
        return self._seed_runs

    def examine(self, experiment: Experiment, seed: int, report: Report) -> Evidence:
        """Check an experiment's source, once for all its runs, and train its graph, if nobody else has.

        Args:
            experiment: with a proposal.
            seed: of the training run.
            report: is told how far it is.

        Returns:
            Evidence of the training, or of what failed before it; `duplicate` is the failure of a
            graph, or of a function, that another experiment trains or trained.
        """
        checked = self._check(experiment, report)
        if checked.failure is not None:
            return checked
        first, basis = self.first(checked, experiment.id, seed)
        if first != experiment.id:
            message = SAME[basis].format(first)
            return replace(checked, failure=Failure(phase="novelty", kind=DUPLICATE, message=message))
        known = self.archive.get(experiment.id).evidence
        recorded = next((e for e in known if (e.stage, e.seed) == (self.stage.name, seed)), None)
        if recorded is not None:
            return recorded  # the process that measured it was killed before it said what follows
        bundle = checked.bundle or (self.archive.bundle(checked.graph_hash) if checked.graph_hash else "")
        trained = self.pool.run(self._job(experiment, seed, self.stage, bundle), report)
        scored = trained.graph_hash if trained.metrics else checked.graph_hash
        assert scored == checked.graph_hash, "what was scored is not the graph that was checked"
        return trained

    def first(self, checked: Evidence, id: int, seed: int) -> tuple[int, str]:
        """Give the experiment that may train a graph with a seed, of two that ask the first, and why.

        Programs of one function count as one. Why: the `graph` is the same, or only the `function`.
        """
        stage = self.stage.name
        if checked.function_hash:
            first = self.archive.reserve(f"function {checked.function_hash}", stage, seed, id)
            if first != id:
                known = {e.graph_hash for e in self.archive.get(first).evidence}
                return first, "graph" if checked.graph_hash in known else "function"
        return self.archive.reserve(checked.graph_hash or checked.source_hash, stage, seed, id), "graph"

    def preview(self, source: str) -> Evidence:
        """Check a source that may yet be handed in; the checks are not run again when it is."""
        job = Job(space=self.settings.space, name="preview", source=source, seed=self.settings.seed)
        checked = self.pool.run(job, _ignore)
        with self._adding:
            self._previews[text_hash(source)] = checked
            while len(self._previews) > PREVIEWS:
                self._previews.popitem(last=False)
        return checked

    def known(self, checked: Evidence, id: int) -> str:
        """Say which experiment has the graph or the function of a checked source; "" when no other has."""
        for experiment in self.archive.experiments():
            for run in experiment.evidence if experiment.id != id else ():
                if checked.graph_hash and run.graph_hash == checked.graph_hash:
                    return SAME["graph"].format(experiment.id)
                if checked.function_hash and run.function_hash == checked.function_hash:
                    return SAME["function"].format(experiment.id)
        return ""

    def add(self, id: int, evidence: Evidence) -> Experiment:
        """Record evidence of an open experiment, checks first and then by seed, and give it."""
        with self._adding:
            experiment = self.archive.get(id)
            key = (evidence.stage, evidence.seed)
            kept = [e for e in experiment.evidence if (e.stage, e.seed) != key]
            ordered = sorted([*kept, evidence], key=lambda e: (e.stage != CHECKS, e.seed))
            experiment = replace(experiment, evidence=tuple(ordered))
            self.archive.record(experiment)
        return experiment

    def end(self, experiment: Experiment, critics: Critics | None = None) -> Experiment:
        """Score, explain and record an experiment that will not be measured further, and give it.

        critics: what else is thought of one that has a score; it may be asked, and paid for, again when
        this process is killed before the record is written.
        """
        failure = failure_of(experiment)
        runs = runs_at(experiment, self.stage.name)
        seed = runs if experiment.id == self.seed_id else self.seed_runs()
        judging = critics is not None and not failure and not is_without(self.settings, "judge")
        judgement = critics.judge(experiment) if critics and judging else None
        ended = replace(
            experiment,
            status="failed" if failure else "finished",
            failure=failure,
            judgement=judgement,
            fitness=None if failure else self._fitness(runs, seed, judgement),
            ended_at=time.time(),
        )
        parents = experiment.proposal.parents if experiment.proposal else ()
        parent = self.archive.get(parents[0]) if parents else None
        siblings = [
            e
            for e in self.archive.experiments()
            if parents and e.id != experiment.id and e.proposal and parents[0] in e.proposal.parents
        ]
        ended = replace(ended, attribution=attribute(ended))
        if not is_without(self.settings, "analyst"):
            ended = replace(ended, finding=explain(ended, parent, siblings, seed, self.space))
            ended = critics.explain(ended, parent, siblings) if critics and not failure else ended
        self.archive.record(ended)
        return self.archive.get(experiment.id)

    def _check(self, experiment: Experiment, report: Report) -> Evidence:
        """Give the evidence of the checks; they run once, whoever asks."""
        with self._checking[experiment.id]:
            known = self.archive.get(experiment.id).evidence
            checked = next((e for e in known if e.stage == CHECKS), None)
            if checked is None:
                job = self._job(experiment, self.settings.seed, None, "")
                with self._adding:
                    checked = self._previews.pop(text_hash(job.source), None) if job.enforce else None
                checked = checked or self.pool.run(job, report)
                self.add(experiment.id, checked)
        return checked

    def _job(self, experiment: Experiment, seed: int, stage: Stage | None, bundle: str) -> Job:
        assert experiment.proposal is not None
        return Job(
            space=self.settings.space,
            name=experiment.proposal.name,
            source=experiment.proposal.source,
            seed=seed,
            stage=stage,
            bundle=bundle,
            enforce=experiment.kind != "reference",
            reference=self._reference() if experiment.kind == "candidate" and stage else {},
            stop=self._stop_rule(seed) if experiment.kind == "candidate" and stage else None,
        )

    def _stop_rule(self, seed: int) -> StopRule | None:
        """Give when a candidate's run is to be ended, by all that the study has seen until now."""
        return budget_of(self.settings.budget).rule(self.facts(seed))

    def facts(self, seed: int) -> Facts:
        """Give what a budget knows: curves at the stage with a training seed, the seed's own apart."""
        stage, own = self.stage.name, next((r.curve for r in self.seed_runs() if r.seed == seed), ())
        ended = [e for e in self.archive.experiments("candidate") if e.status in ("finished", "failed")]
        curves = [
            run.curve
            for e in sorted(ended, key=lambda e: (e.ended_at, e.id))
            for run in e.evidence
            if (run.stage, run.seed) == (stage, seed) and (run.metrics or run.stopped_at)
        ]
        warm_up = math.ceil(self.space.warm_up * self.stage.steps)
        return Facts(
            steps=self.stage.steps,
            warm_up=warm_up,
            seed=own,
            curves=curves,
            planned=self.settings.experiments,
        )

    def fresh(self) -> dict[int, list[float]]:
        """Give the fitness in each rerun at the stage, by experiment: runs that were made after its end."""
        found: dict[int, list[float]] = {}
        for rerun in self.archive.reruns():
            run = rerun.evidence
            if rerun.purpose == "screen" and run is not None and run.metrics and run.failure is None:
                value = score(run, self.seed_runs(), self.space, self.settings.fitness).value
                found.setdefault(rerun.experiment, []).append(value)
        return found

    def _reference(self) -> dict[str, float]:
        """Give the seed's mean of each metric, as measured in this study."""
        return {spec.name: mean_metric(self.seed_runs(), spec.name) for spec in self.space.metrics}

    def _fitness(
        self, runs: tuple[Evidence, ...], seed: tuple[Evidence, ...], judgement: Judgement | None
    ) -> Fitness:
        """Give the mean fitness of an experiment's runs, term by term."""
        mark, weight = judgement.mark if judgement else None, self.settings.judge_weight
        scores = [score(run, seed, self.space, self.settings.fitness, mark, weight) for run in runs]
        return Fitness(
            formula=self.settings.fitness,
            value=mean(s.value for s in scores),
            terms={name: mean(s.terms[name] for s in scores) for name in scores[0].terms},
            gains={name: mean(s.gains[name] for s in scores) for name in scores[0].gains},
        )


def _ignore(_: Progress) -> None:
    """Take no note."""


def failure_of(experiment: Experiment) -> Failure | None:
    """Give what ended an experiment before its score: its own failure, or that of its evidence."""
    return experiment.failure or next((e.failure for e in experiment.evidence if e.failure), None)


def stage_of(space: Space, settings: Settings) -> Stage:
    """Give the stage at which a study measures. Raises SetupError when the space has no such stage."""
    stage = space.stages.get(settings.stage)
    if stage is None:
        known = ", ".join(space.stages)
        raise SetupError(f"space {space.name!r} has no stage {settings.stage!r}; it has {known}")
    return replace(
        stage,
        steps=settings.steps or stage.steps,
        learning_rate=settings.learning_rate or stage.learning_rate,
    )
