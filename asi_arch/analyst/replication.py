"""From leads to claims: which runs are still needed, at which rate, and what the runs so far allow to say."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from asi_arch.analyst.claims import WORTH, Question, compare, fitness_measure, judge_leads
from asi_arch.analyst.fitness import score
from asi_arch.analyst.noise import fit_noise
from asi_arch.analyst.power import FEWEST_SEEDS, MOST_SEEDS
from asi_arch.analyst.statistics import fitness_value, mean
from asi_arch.discoveries import Claim, Comparison, Purpose, Rerun
from asi_arch.records import Evidence, Experiment, Stage
from asi_arch.space import Space

RATES = (0.5, 1.0, 2.0)  # times a stage's own learning rate: the same for all
WIDENINGS = 2  # on either side at most: an eighth and eight times at the farthest
SCREEN_SEEDS = 2
SCREEN_FROM, RATE_FROM, CLAIM_FROM = 1000, 2000, 3000  # added to the study's seed, so that no two overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How leads are replicated. top: how many of the best. most: seeds beyond which no plan goes."""

    top: int = 5
    most: int = MOST_SEEDS
    rates: tuple[float, ...] = RATES


@dataclass(frozen=True, kw_only=True)
class Replication:
    """What is known of a study's leads, and what is still to be run. Pure: equal fields, equal answers.

    Three steps, each on seeds that the ones before did not use. *Screen*: leads and baselines run again at
    the stage of the search; a lead goes on if its mean is above every baseline's. *Rate*: at the next
    longer stage leads and baselines each get the best of the same learning rates, by a run each on the
    validation split; rates are added for all while one of them still gains at an edge. *Claim*: there, at
    that rate, fresh seeds on the test split, as many as a power calculation asks for, and `judge_leads`.

    Args:
        space: of the study.
        experiments: all of the study.
        reruns: that have ended.
        stage: at which the search measured.
        later: at which claims are made; the search's own where the space has no longer one.
        seed: of the study.
        formula: of the fitness.
        terms: how many leads, seeds and rates.
    """

    space: Space
    experiments: Sequence[Experiment]
    reruns: Sequence[Rerun]
    stage: Stage
    later: Stage
    seed: int
    formula: str
    terms: Terms = field(default_factory=Terms)

    @cached_property
    def baselines(self) -> tuple[Experiment, ...]:
        """Give the baselines that were measured, references left out, the seed first."""
        found = [e for e in self.experiments if e.kind == "baseline" and e.status == "finished"]
        return tuple(sorted(found, key=lambda e: (e.name != self.space.seed, e.id)))

    @cached_property
    def leads(self) -> tuple[Experiment, ...]:
        """Give the best candidates that passed every baseline, and all that were leads before; best first."""
        bar = max((fitness_value(e) for e in self.baselines), default=1.0)
        ended = [e for e in self.experiments if e.kind == "candidate" and e.status == "finished"]
        ranked = sorted(ended, key=lambda e: (-fitness_value(e), e.id))
        best = [e.id for e in ranked if fitness_value(e) > bar][: self.terms.top]
        before = {r.experiment for r in self.reruns if r.purpose == "screen"}
        return tuple(e for e in ranked if e.id in best or e.id in before)

    @cached_property
    def screened(self) -> dict[int, float | None]:
        """Give the mean fitness of each lead and baseline in fresh runs at the search's stage, by id.

        None where a run failed; what has not all its runs is left out.
        """
        seeds = self._seed_evidence
        found: dict[int, float | None] = {}
        for e in (*self.baselines, *self.leads):
            runs = self.evidence(e.id, "screen")
            if len(runs) >= SCREEN_SEEDS:
                scored = all(map(_is_whole, runs))
                found[e.id] = mean(self.score(run, seeds) for run in runs) if scored else None
        return found

    @cached_property
    def promoted(self) -> tuple[Experiment, ...]:
        """Give the leads that stayed above every baseline when they were run again."""
        bar = self.screen_bar
        return tuple(e for e in self.leads if bar is not None and (self.screened.get(e.id) or 0.0) > bar)

    @property
    def screen_rival(self) -> Experiment | None:
        """Give the best baseline in fresh runs at the search's stage; None before all have theirs."""
        means = {e.id: self.screened[e.id] for e in self.baselines if e.id in self.screened}
        if len(means) < len(self.baselines):
            return None
        scored = [e for e in self.baselines if means[e.id] is not None]
        return max(scored, key=lambda e: means[e.id] or 0.0, default=None)

    @property
    def screen_bar(self) -> float | None:
        """Give the mean of that baseline in these runs, which a lead has to pass."""
        return self.screened[self.screen_rival.id] if self.screen_rival else None

    @cached_property
    def rate_reference(self) -> tuple[Evidence, ...]:
        """Give the seed's runs at the later stage's own rate, to which fitness at any rate is relative."""
        runs = self._of(self.baselines[0].id, "rate") if self.baselines else ()
        return tuple(run for r in runs if r.stage == self.later and _is_whole(run := _measured(r)))

    @cached_property
    def at_rates(self) -> dict[int, dict[float, float | None]]:
        """Give by id the fitness of each at the learning rates it was tried at; None where it failed."""
        found: dict[int, dict[float, float | None]] = {}
        for e in (*self.baselines, *self.promoted) if self.rate_reference else ():
            runs = [(r.stage.learning_rate, _measured(r)) for r in self._of(e.id, "rate")]
            found[e.id] = {
                rate: self.score(run, self.rate_reference) if _is_whole(run) else None for rate, run in runs
            }
        return found

    @cached_property
    def rates(self) -> dict[int, float]:
        """Give the learning rate at which each was best, by id; what failed at every rate is left out.

        Of equally good ones it is the lowest, in whatever order the runs ended.
        """
        scored = {id: _scored(at) for id, at in self.at_rates.items()}
        return {id: max(sorted(at), key=lambda rate: at[rate]) for id, at in scored.items() if at}

    @cached_property
    def tried(self) -> tuple[float, ...]:
        """Give the learning rates that all are tried at, rising: those of the terms, and more beyond an edge.

        Another is added where anything is best at the edge by a gain over the rate beside it that is worth
        having: there its best may lie beyond. It is added for all, so that all have the same chances. Once
        a claim has a run the rates stand: what was claimed is not chosen anew.
        """
        own = sorted(factor * self.later.learning_rate for factor in self.terms.rates)
        if self.baselines and any(r.purpose == "claim" for r in self.reruns):
            return tuple(sorted({r.stage.learning_rate for r in self._of(self.baselines[0].id, "rate")}))
        if len(own) < 2:
            return tuple(own)
        rates, low, high = own, own[0] / own[1], own[-1] / own[-2]
        for _ in range(WIDENINGS):
            if self._still_gains(rates):
                rates = [rates[0] * low, *rates]
        for _ in range(WIDENINGS):
            if self._still_gains(rates[::-1]):
                rates = [*rates, rates[-1] * high]
        return tuple(rates)

    def _still_gains(self, rates: Sequence[float]) -> bool:
        """Tell whether anything is best at the first of some rates, by a gain that is worth having."""
        edge, beside, *rest = rates
        tried = (at for at in self.at_rates.values() if at.keys() >= set(rates))
        return any(
            (at[edge] or 0.0) > max([(at[beside] or 0.0) + WORTH, *(at[rate] or 0.0 for rate in rest)])
            for at in tried
        )

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """Give a claim for each promoted lead; none before the seed has runs at the claims' stage."""
        if not (self._claim_reference and self.promoted):
            return ()
        question = Question(
            stage=self.later.name,
            measure=fitness_measure(self.space, self._claim_reference, self.formula),
            seen=(),  # every run that is given here is one that nothing was chosen by
            most=self.terms.most,
        )
        groups = [replace(e, evidence=self.claim_runs(e)) for e in (*self.promoted, *self.baselines)]
        count = len(self.promoted)
        return judge_leads(groups[:count], groups[count:], question)

    @property
    def fallen(self) -> tuple[Experiment, ...]:
        """Give the leads that did not stay above every baseline."""
        kept = {e.id for e in self.promoted}
        done = [e for e in self.leads if e.id in self.screened and self.screen_bar is not None]
        return tuple(e for e in done if e.id not in kept)

    def claim_runs(self, experiment: Experiment) -> tuple[Evidence, ...]:
        """Give an experiment's runs for claims at its best rate, failed ones too, by seed."""
        return self._at_best_rate(experiment.id, "claim")

    def evidence(self, id: int, purpose: Purpose) -> tuple[Evidence, ...]:
        """Give what an experiment's reruns for a purpose measured, by seed."""
        return _by_seed(self._of(id, purpose))

    @cached_property
    def best_baseline(self) -> Experiment | None:
        """Give the baseline with the best fitness at its best rate: chosen before any test split is seen."""
        best = {
            e.id: self.at_rates[e.id][self.rates[e.id]] or 0.0 for e in self.baselines if e.id in self.rates
        }
        return max((e for e in self.baselines if e.id in best), key=lambda e: best[e.id], default=None)

    def in_equal_seconds(self, claim: Claim) -> Comparison | None:
        """Compare a candidate with the best baseline, having as many steps as fit in its seconds.

        None before these runs were made. Same seeds on both sides; 95 %, for this comparison alone.
        """
        rival, reference = self.best_baseline, self._claim_reference
        runs = [run for run in self._at_best_rate(claim.experiment, "seconds") if _is_whole(run)]
        if rival is None or not (runs and reference):
            return None
        seeds = {run.seed for run in runs}
        against = [run for run in self.claim_runs(rival) if _is_whole(run) and run.seed in seeds]
        groups = [self.claim_runs(e) for e in (*self.baselines, *self.promoted)]
        own, other = ([self.score(run, reference) for run in side] for side in (runs, against))
        noise = fit_noise([self.score(r, reference) for r in group if _is_whole(r)] for group in groups)
        found = compare(own, other, noise, 0.95)
        return replace(found, baseline=rival.id, name=rival.name) if found else None

    def score(self, run: Evidence, reference: Sequence[Evidence]) -> float:
        """Give the fitness of a run against runs at the same stage, without a judge's mark."""
        return score(run, reference, self.space, self.formula).value

    def missing(self) -> list[Rerun]:
        """Give the runs that come next: one step's, as far as what is known says; none when all is done."""
        done = {r.key for r in self.reruns}
        for step in (self._screens, self._rates, self._claims, self._seconds):
            wanted = [rerun for rerun in step() if rerun.key not in done]
            if wanted:
                return wanted
            if step == self._screens and not self.promoted:
                return []
        return []

    def _screens(self) -> Iterator[Rerun]:
        seeds = range(self.seed + SCREEN_FROM, self.seed + SCREEN_FROM + SCREEN_SEEDS)
        for e in (*self.leads, *self.baselines) if self.leads else ():
            for seed in seeds:
                yield Rerun(experiment=e.id, purpose="screen", stage=self.stage, seed=seed)

    def _rates(self) -> Iterator[Rerun]:
        for e in (*self.baselines, *self.promoted):
            for rate in self.tried:
                stage = replace(self.later, learning_rate=rate)
                yield Rerun(experiment=e.id, purpose="rate", stage=stage, seed=self.seed + RATE_FROM)

    def _claims(self) -> Iterator[Rerun]:
        waiting = [claim for claim in self.claims if claim.outcome == "open"]
        planned = {claim.experiment: claim.planned for claim in waiting}
        most = max(planned.values(), default=FEWEST_SEEDS)
        for e in (*self.baselines, *self.promoted):
            own = planned.get(e.id, FEWEST_SEEDS) if e.kind == "candidate" else most
            if e.id in self.rates:
                stage = replace(self.later, learning_rate=self.rates[e.id])
                yield from self._seeds(e.id, "claim", stage, own)

    def _seconds(self) -> Iterator[Rerun]:
        for claim in self.claims:
            if claim.outcome != "discovery" or (rival := self.best_baseline) is None:
                continue
            own = next(e for e in self.promoted if e.id == claim.experiment)
            share = _seconds(self.claim_runs(rival)) / max(_seconds(self.claim_runs(own)), 1e-9)
            steps = max(1, round(self.later.steps * share / 10) * 10)
            begun = next((r.stage.steps for r in self._of(own.id, "seconds")), steps)  # times move
            stage = replace(self.later, learning_rate=self.rates[own.id], steps=begun)
            yield from self._seeds(own.id, "seconds", stage, FEWEST_SEEDS)

    def _seeds(self, id: int, purpose: Purpose, stage: Stage, count: int) -> Iterator[Rerun]:
        for seed in range(self.seed + CLAIM_FROM, self.seed + CLAIM_FROM + count):
            yield Rerun(experiment=id, purpose=purpose, stage=stage, seed=seed, split="test")

    @cached_property
    def _claim_reference(self) -> tuple[Evidence, ...]:
        """Give the seed's runs for claims that have a score, to which fitness in claims is relative."""
        return tuple(filter(_is_whole, self.claim_runs(self.baselines[0]))) if self.baselines else ()

    def _at_best_rate(self, id: int, purpose: Purpose) -> tuple[Evidence, ...]:
        rate = self.rates.get(id)
        return _by_seed(r for r in self._of(id, purpose) if r.stage.learning_rate == rate)

    def _of(self, id: int, purpose: Purpose) -> Iterable[Rerun]:
        return [r for r in self._by_experiment.get(id, ()) if r.purpose == purpose]

    @cached_property
    def _by_experiment(self) -> dict[int, list[Rerun]]:
        found: dict[int, list[Rerun]] = {}
        for rerun in self.reruns:
            found.setdefault(rerun.experiment, []).append(rerun)
        return found

    @cached_property
    def _seed_evidence(self) -> tuple[Evidence, ...]:
        """Give the seed's runs of the search, to which fitness at its stage is relative."""
        seed = self.baselines[0]
        return tuple(e for e in seed.evidence if e.stage == self.stage.name and e.metrics and not e.failure)


def later_stage(space: Space, stage: Stage) -> Stage:
    """Give the shortest stage of a space that is longer than one; that one itself if there is none."""
    longer = [other for other in space.stages.values() if other.steps > stage.steps]
    return min(longer, key=lambda other: other.steps, default=stage)


def _measured(rerun: Rerun) -> Evidence:
    assert rerun.evidence is not None, "only reruns that ended are given"
    return rerun.evidence


def _is_whole(run: Evidence) -> bool:
    return bool(run.metrics) and run.failure is None


def _by_seed(reruns: Iterable[Rerun]) -> tuple[Evidence, ...]:
    return tuple(_measured(r) for r in sorted(reruns, key=lambda r: r.seed))


def _scored(at: Mapping[float, float | None]) -> dict[float, float]:
    """Leave out the rates at which the run failed."""
    return {rate: fitness for rate, fitness in at.items() if fitness is not None}


def _seconds(runs: Sequence[Evidence]) -> float:
    times = sorted(run.cpu_seconds for run in runs if run.metrics)
    return times[len(times) // 2] if times else 1.0
