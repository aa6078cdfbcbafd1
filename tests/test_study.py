"""The closed loop on the toy space: order, novelty, people, several workers, and what is refused."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from toy import HerePool, outcome, source_of, toy_study

from asi_arch.analyst.statistics import mean_metric, runs_at
from asi_arch.errors import SetupError
from asi_arch.loop.crew import share
from asi_arch.records import Brief, Evidence, Experiment, Failure, Job, Progress, Proposal
from asi_arch.researcher.symbolic import SymbolicResearcher
from asi_arch.settings import Settings
from asi_arch.spaces.toy.grammar import grammar
from asi_arch.study import Silent, Study

HINGE = 'RULE = {"terms": [{"kind": "hinge", "at": 0.0}, {"kind": "power", "degree": 1}]}\n'


class Notes(Silent):
    """Writes down what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def started(self, experiment: Experiment, slot: int) -> None:
        self.seen.append(("started", experiment.id, slot))

    def progress(self, slot: int, progress: Progress) -> None:
        self.seen.append((progress.phase, 0, slot))

    def finished(self, experiment: Experiment, slot: int) -> None:
        self.seen.append((experiment.status, experiment.id, slot))


class Echo:
    """Proposes its parent's program; from its nth call on, the hinge."""

    def __init__(self, hinge_at: int) -> None:
        self.hinge_at, self.briefs = hinge_at, list[Brief]()

    def propose(self, brief: Brief) -> Proposal:
        self.briefs.append(brief)
        source = HINGE if len(self.briefs) >= self.hinge_at else source_of(brief.parent)
        return Proposal(name="echo", motivation="", source=source, author="echo", parents=(brief.parent.id,))


def test_a_study_of_two_hundred_takes_seconds_and_finds_better_rules(tmp_path: Path) -> None:
    study = toy_study(tmp_path, experiments=200)
    begin = time.process_time()
    study.run()
    assert time.process_time() - begin < 20
    experiments = study.archive.experiments()
    assert [e.id for e in experiments] == list(range(1, 205))
    assert {e.status for e in experiments} == {"finished", "failed"}
    assert all((e.fitness is None) == (e.failure is not None) for e in experiments)
    assert all(e.finding and e.finding.text and e.ended_at >= e.claimed_at for e in experiments)
    baselines = max(e.fitness.value for e in experiments if e.kind == "baseline" and e.fitness)
    candidates = max(e.fitness.value for e in experiments if e.kind == "candidate" and e.fitness)
    assert candidates > baselines + 0.1
    study.close()


def test_one_seed_gives_the_same_study_twice_and_another_seed_another(tmp_path: Path) -> None:
    studies = [toy_study(tmp_path / name, seed=seed) for name, seed in (("a", 7), ("b", 7), ("c", 8))]
    for study in studies:
        study.run()
    first, again, other = (outcome(study) for study in studies)
    assert first == again
    assert first != other
    for study in studies:
        study.close()


def test_the_seed_is_measured_several_times_and_all_gains_are_against_its_mean(tmp_path: Path) -> None:
    study = toy_study(tmp_path, seed=5, seed_runs=4, experiments=3)
    study.run()
    seed, *others = study.archive.experiments(status="finished")
    runs = runs_at(seed, "explore")
    assert [run.seed for run in runs] == [5, 6, 7, 8]
    assert [e.stage for e in seed.evidence] == ["checks"] + ["explore"] * 4
    assert seed.fitness is not None
    assert seed.fitness.gains["inside"] == pytest.approx(0, abs=1e-12)
    assert others
    for other in others:
        assert [run.seed for run in runs_at(other, "explore")] == [5]
        assert other.fitness is not None
        gain = mean_metric(runs, "inside") - other.evidence[-1].metrics["inside"].value
        assert other.fitness.gains["inside"] == pytest.approx(gain)
    study.close()


def test_a_reference_is_trained_in_spite_of_its_checks_and_is_no_parent(tmp_path: Path) -> None:
    study = toy_study(tmp_path, experiments=40)
    study.run()
    [reference] = study.archive.experiments(kind="reference")
    assert reference.status == "finished"
    assert [v.name for v in reference.evidence[0].checks if not v.passed] == ["budget"]
    for candidate in study.archive.experiments(kind="candidate"):
        assert candidate.proposal is not None
        assert reference.id not in candidate.proposal.parents + candidate.proposal.references
    study.close()


def test_a_record_holds_all_that_makes_its_row_again(tmp_path: Path) -> None:
    study = toy_study(tmp_path, seed=2, experiments=12, steps=30)
    study.run()
    experiment = study.archive.experiments(kind="candidate", status="finished")[-1]
    settings = Settings(**dict(experiment.settings))  # type: ignore[arg-type]
    assert settings == study.settings
    last = experiment.evidence[-1]
    assert study.archive.bundle(last.graph_hash)
    job = Job(
        space=settings.space,
        name="again",
        source=source_of(experiment),
        seed=last.seed,
        stage=study.bench.stage,
    )
    assert job.stage is not None
    assert job.stage.steps == 30
    again = HerePool().run(job, lambda _: None)
    assert (again.metrics, again.curve, again.graph_hash) == (last.metrics, last.curve, last.graph_hash)
    study.close()


def test_a_known_program_is_refused_before_it_costs_a_job(tmp_path: Path) -> None:
    pool, echo = HerePool(), Echo(hinge_at=4)
    study = Study.create(tmp_path, Settings(space="toy", selection="paper"), researcher=echo, pool=pool)
    study.prepare()
    jobs = len(pool.jobs)
    experiment = study.ask()
    assert experiment.proposal is not None
    assert experiment.proposal.source == HINGE
    assert [brief.attempt for brief in echo.briefs] == [0, 1, 2, 3]
    assert [(r.of, r.graph_hash) for r in experiment.repeats] == [(1, "")] * 3
    assert all(repeat.source_hash in echo.briefs[-1].known for repeat in experiment.repeats)
    assert len(pool.jobs) == jobs
    assert study.archive.get(experiment.id) == experiment
    study.close()


def test_a_known_graph_is_never_trained_and_its_id_asks_again(tmp_path: Path) -> None:
    source = '"""Another text."""\nRULE = {"terms": [{"degree": 1, "kind": "power"}]}'
    pool = HerePool()

    class Rewriter(Echo):
        def propose(self, brief: Brief) -> Proposal:
            proposal = super().propose(brief)
            return proposal if proposal.source == HINGE else replace(proposal, source=source)

    study = Study.create(tmp_path, Settings(space="toy"), researcher=Rewriter(hinge_at=2), pool=pool)
    study.prepare()
    jobs = len(pool.jobs)
    first = study.ask()
    refused = study.measure(first)
    assert refused.failure is not None
    assert (refused.failure.phase, refused.failure.kind) == ("novelty", "duplicate")
    assert "experiment 1" in refused.failure.message
    assert [job.stage for job in pool.jobs[jobs:]] == [None]
    second = study.tell(first, refused)
    assert (second.id, second.status) == (first.id, "proposed")
    assert source_of(second) == HINGE
    assert [(r.of, r.graph_hash) for r in second.repeats] == [(1, refused.graph_hash)]
    ended = study.tell(second, study.measure(second))
    assert ended.status == "finished"
    assert ended.repeats == second.repeats
    assert [e.stage for e in ended.evidence] == ["checks", "explore"]
    study.close()


def test_an_id_whose_proposals_all_repeat_ends_failed(tmp_path: Path) -> None:
    settings = Settings(space="toy", novelty_attempts=3, experiments=2)
    study = Study.create(tmp_path, settings, researcher=Echo(hinge_at=99), pool=HerePool())
    study.run()
    candidates = study.archive.experiments(kind="candidate")
    assert [(c.status, len(c.repeats)) for c in candidates] == [("failed", 3)] * 2
    failure = candidates[0].failure
    assert failure is not None
    assert (failure.phase, failure.kind) == ("novelty", "duplicate")
    assert "3 proposals in a row" in failure.message
    study.close()


def test_every_failure_is_kept_with_phase_and_reason_and_told_to_later_briefs(tmp_path: Path) -> None:
    briefs: list[Brief] = []

    class Spoiler(SymbolicResearcher):
        def propose(self, brief: Brief) -> Proposal:
            briefs.append(brief)
            proposal = super().propose(brief)
            broken = f'RULE = {{"terms": [{{"kind": "spline{brief.id}"}}]}}'
            return replace(proposal, source=broken) if brief.id % 2 else proposal

    given = Settings(space="toy", experiments=8, workers=1)
    study = Study.create(tmp_path, given, researcher=Spoiler(grammar()), pool=HerePool())
    study.run()
    failed = study.archive.experiments(kind="candidate", status="failed")
    assert len(failed) >= 4
    for experiment in failed:
        assert experiment.failure is not None
        assert experiment.failure.phase
        assert experiment.failure.message
        assert experiment.finding is not None
    assert any("spline5" in line for line in briefs[-1].avoid)
    study.close()


def test_results_of_a_job_are_recorded_by_the_time_it_is_told(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    study.prepare()
    experiment = study.ask()
    assert study.archive.get(experiment.id).status == "proposed"
    ended = study.tell(experiment, study.measure(experiment))
    assert study.archive.get(experiment.id) == ended
    assert study.tell(experiment, study.measure(experiment)) == ended
    study.close()


def test_nothing_is_asked_before_the_seed_is_measured(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    with pytest.raises(SetupError, match="prepare"):
        study.ask()
    assert len(study.archive.experiments()) == 4
    study.close()


def test_a_person_s_rule_enters_the_study_and_is_measured_by_the_next_run(tmp_path: Path) -> None:
    study = toy_study(tmp_path, experiments=5)
    study.run()
    id = study.submit("mine", HINGE, "A kink.")
    assert study.archive.get(id).status == "proposed"
    with pytest.raises(SetupError, match=f"experiment {id} already"):
        study.submit("mine again", "# the same\n" + HINGE, "A kink.")
    study.run()
    ended = study.archive.get(id)
    assert ended.status == "finished"
    assert ended.proposal is not None
    assert (ended.proposal.author, ended.proposal.parents) == ("person", (1,))
    assert len(study.archive.experiments(kind="candidate")) == 6
    study.close()


def test_a_person_s_duplicate_fails_with_the_experiment_that_it_repeats(tmp_path: Path) -> None:
    study = toy_study(tmp_path, experiments=0)
    study.run()
    id = study.submit("line", "RULE = {'terms': [{'kind': 'power', 'degree': 1, 'gain': 1}]}", "A line.")
    study.run()
    failure = study.archive.get(id).failure
    assert failure is not None
    assert failure.kind == "duplicate"
    assert "experiment 1" in failure.message
    study.close()


def test_many_workers_lose_nothing_and_tell_their_slots(tmp_path: Path) -> None:
    notes = Notes()
    study = toy_study(tmp_path, HerePool(0.002), experiments=40, workers=6)
    study.run(notes)
    experiments = study.archive.experiments()
    assert [e.id for e in experiments] == list(range(1, 45))
    assert {"finished"} <= {e.status for e in experiments} <= {"finished", "failed"}
    assert sorted(id for what, id, _ in notes.seen if what in ("finished", "failed")) == list(range(1, 45))
    assert {slot for _, _, slot in notes.seen} == set(range(6))
    graphs = [e.evidence[-1].graph_hash for e in experiments if e.status == "finished"]
    assert len(graphs) == len(set(graphs))
    study.close()


def test_stopping_gives_up_what_runs_and_the_next_run_ends_it(tmp_path: Path) -> None:
    stop = threading.Event()

    class Closable(HerePool):
        def run(self, job: Job, report: Callable[[Progress], None]) -> Evidence:
            if job.stage is not None and "hinge" in job.name and stop.wait(20):
                raise RuntimeError("closed")
            return super().run(job, report)

    study = toy_study(tmp_path, Closable(), experiments=30, workers=2)
    study.prepare()
    threading.Timer(0.5, stop.set).start()
    study.run(stop=stop)
    left = [e for e in study.archive.experiments() if e.status not in ("finished", "failed")]
    assert 1 <= len(left) <= 2
    assert all(e.status == "proposed" for e in left)
    stopped = {e.id: e for e in study.archive.experiments() if e not in left}
    study.close()
    again = toy_study(tmp_path, experiments=30)
    again.run()
    ended = {e.id: e for e in again.archive.experiments()}
    assert len(ended) == 34
    assert {e.status for e in ended.values()} <= {"finished", "failed"}
    assert all(ended[id] == e for id, e in stopped.items())
    assert all(source_of(ended[e.id]) == source_of(e) for e in left)
    again.close()


def test_a_failure_that_the_stop_caused_is_no_result(tmp_path: Path) -> None:
    stop = threading.Event()

    class Killed(HerePool):
        def run(self, job: Job, report: Callable[[Progress], None]) -> Evidence:
            evidence = super().run(job, report)
            if job.stage is None or "power" in job.name:
                return evidence
            stop.set()
            failure = Failure(phase="train", kind="crash", message="killed")
            return replace(evidence, metrics={}, failure=failure)

    study = toy_study(tmp_path, Killed(), experiments=30)
    study.run(stop=stop)
    assert stop.is_set()
    assert all(not e.failure or e.failure.kind != "crash" for e in study.archive.experiments())
    study.close()


def test_an_error_of_ours_ends_the_run_and_leaves_the_study_whole(tmp_path: Path) -> None:
    class Broken(SymbolicResearcher):
        def propose(self, brief: Brief) -> Proposal:
            if brief.id == 8:
                raise ZeroDivisionError("a bug")
            return super().propose(brief)

    given = Settings(space="toy", workers=3, experiments=12)
    study = Study.create(tmp_path, given, researcher=Broken(grammar()), pool=HerePool(0.005))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        study.run()
    assert study.archive.get(8).status == "claimed"
    study.close()
    again = toy_study(tmp_path)
    again.run()
    assert [e.status in ("finished", "failed") for e in again.archive.experiments()] == [True] * 16
    again.close()


def test_time_that_is_over_ends_a_run(tmp_path: Path) -> None:
    study = toy_study(tmp_path, HerePool(0.02), experiments=100_000, hours=1 / 3600)
    study.prepare()
    begin = time.monotonic()
    study.run()
    assert 0.9 < time.monotonic() - begin < 15
    assert study.archive.experiments(kind="candidate")
    assert all(e.status in ("finished", "failed") for e in study.archive.experiments())
    study.close()


def test_a_longer_study_goes_on_where_a_shorter_one_ended(tmp_path: Path) -> None:
    whole, parts = toy_study(tmp_path / "whole", experiments=14), tmp_path / "parts"
    whole.run()
    for count in (0, 3, 4, 14):
        study = toy_study(parts, experiments=count)
        study.run()
        assert len(study.archive.experiments(kind="candidate")) == count
        study.close()
    study = toy_study(parts, experiments=14)
    assert outcome(study) == outcome(whole)
    study.close()
    whole.close()


def test_what_gives_figures_their_meaning_cannot_change(tmp_path: Path) -> None:
    toy_study(tmp_path, seed=1).close()
    for key, value in {"seed": 2, "steps": 9, "learning_rate": 0.1, "stage": "replicate",
                       "space": "linear_attention", "fitness": "paper", "seed_runs": 9}.items():  # fmt: skip
        with pytest.raises(SetupError, match=f"setting {key!r} of study"):
            Study.open_or_create(tmp_path, {key: value})
    with pytest.raises(SetupError, match="'pool_size' must be 1 or more"):
        Study.open_or_create(tmp_path, {"pool_size": 0})
    study = Study.open_or_create(tmp_path, {"seed": 1, "experiments": 77})
    assert (study.settings.seed, study.settings.experiments) == (1, 77)
    study.close()
    assert Study.open(tmp_path).settings.experiments == 77


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stage": "huge"}, "no stage 'huge'; it has explore, replicate"),
        ({"space": "toys"}, "no space 'toys'"),
    ],
)
def test_a_study_of_nothing_is_refused_and_leaves_no_folder(
    tmp_path: Path, values: dict[str, str], words: str
) -> None:
    with pytest.raises(SetupError, match=words):
        Study.open_or_create(tmp_path / "new", {"space": "toy"} | values)
    assert not (tmp_path / "new").exists()


def test_a_seed_that_fails_ends_the_study_with_the_reason(tmp_path: Path) -> None:
    class Unfit(HerePool):
        def run(self, job: Job, report: Callable[[Progress], None]) -> Evidence:
            evidence = super().run(job, report)
            failure = Failure(phase="train", kind="memory", message="it needs 9 GB")
            return replace(evidence, failure=failure) if job.name == "line" and job.stage else evidence

    study = toy_study(tmp_path, Unfit())
    with pytest.raises(SetupError, match="the seed 'line' failed in train: it needs 9 GB"):
        study.run()
    assert study.archive.experiments(kind="candidate") == []
    study.close()


def test_a_baseline_that_fails_is_a_row_and_no_end(tmp_path: Path) -> None:
    class Unfit(HerePool):
        def run(self, job: Job, report: Callable[[Progress], None]) -> Evidence:
            evidence = super().run(job, report)
            failure = Failure(phase="train", kind="memory", message="it needs 9 GB")
            return replace(evidence, failure=failure) if job.name == "wave" and job.stage else evidence

    study = toy_study(tmp_path, Unfit(), experiments=6)
    study.run()
    by_name = {e.proposal.name: e for e in study.archive.experiments(kind="baseline") if e.proposal}
    assert by_name["wave"].status == "failed"
    assert by_name["parabola"].status == "finished"
    assert len(study.archive.experiments(kind="candidate")) == 6
    study.close()


def test_a_study_runs_through_child_processes_and_can_be_stopped(tmp_path: Path) -> None:
    study = Study.create(tmp_path, Settings(space="toy", workers=2, experiments=4, steps=20_000))
    stop = threading.Event()
    threading.Timer(1.5, stop.set).start()
    begin = time.monotonic()
    study.run(stop=stop)
    assert time.monotonic() - begin < 15
    study.run()
    experiments = study.archive.experiments()
    assert len(experiments) == 8
    assert {e.status for e in experiments} <= {"finished", "failed"}
    assert all(e.failure is None or e.failure.kind != "crash" for e in experiments)
    study.close()


def test_workers_share_tasks_and_the_first_error_is_the_one_that_is_raised() -> None:
    done: list[int] = []
    share(iter(range(50)), 4, lambda task, _: done.append(task), threading.Event(), lambda: None)
    assert sorted(done) == list(range(50))

    closed = threading.Event()

    def work(task: int, _: int) -> None:
        if task == 3:
            raise KeyError("first")
        if not closed.wait(10):
            raise AssertionError("nobody closed the pool")
        raise RuntimeError("a consequence")

    with pytest.raises(KeyError, match="first"):
        share(iter(range(50)), 4, work, threading.Event(), closed.set)
