"""From leads to claims on the toy space: which runs are made, what they say, and that none is lost."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy import HerePool, copy_study, toy_study

from asi_arch.analyst.replication import Replication, Terms, later_stage
from asi_arch.archive.folder import change_settings
from asi_arch.archive.sql import open_archive
from asi_arch.discoveries import Rerun
from asi_arch.loop.verify import Verifier, Watcher
from asi_arch.records import Evidence, Experiment, Failure, Fitness, Job, Metric, Proposal, Stage
from asi_arch.report.claims import claims_table, fallen_table, rates_table, verdict
from asi_arch.space import load_space
from asi_arch.study import Study

TOY = load_space("toy")
EXPLORE, REPLICATE = TOY.stages["explore"], TOY.stages["replicate"]
SEARCHED = {"experiments": 30, "cold_start": 8}
COMMAND = [sys.executable, "-W", "error", "-m", "asi_arch"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of thirty candidates, of which some passed every baseline."""
    folder = tmp_path_factory.mktemp("searched") / "study"
    study = toy_study(folder, **SEARCHED)
    study.run()
    study.close()
    return folder


@pytest.fixture
def folder(searched: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return copy_study(searched, tmp_path / "study")


def verified(folder: Path, pool: Any = None, top: int = 3, most: int = 4) -> Replication:
    change_settings(folder, {"leads": top, "claim_seeds": most})
    study = Study.open(folder, pool=pool or HerePool())
    known = Verifier(study.bench, 1).verify(Watcher(), threading.Event())
    study.close()
    return known


def test_every_lead_and_baseline_is_measured_alike_on_seeds_that_nothing_was_chosen_by(folder: Path) -> None:
    pool = HerePool()
    known = verified(folder, pool)
    assert known.missing() == []
    assert len(known.leads) == 3
    assert known.promoted
    search = set(range(known.seed, known.seed + 3))
    by_purpose: dict[str, set[int]] = {}
    for rerun in known.reruns:
        by_purpose.setdefault(rerun.purpose, set()).add(rerun.seed)
        assert (rerun.split == "test") == (rerun.purpose in ("claim", "seconds"))
    assert set(by_purpose) >= {"screen", "rate", "claim"}
    assert not search & set.union(*by_purpose.values())
    assert not by_purpose["claim"] & (by_purpose["screen"] | by_purpose["rate"])
    for e in (*known.baselines, *known.promoted):
        rates = [r.stage.learning_rate for r in known.reruns if (r.experiment, r.purpose) == (e.id, "rate")]
        assert sorted(rates) == list(known.tried)
        assert set(rates) >= {0.25, 0.5, 1.0}
        assert {r.stage.name for r in known.reruns if r.experiment == e.id and r.purpose == "claim"} == {
            "replicate"
        }
        assert 3 <= len(known.claim_runs(e)) <= 4
    assert {e.id for e in known.baselines} == {1, 2, 3}  # the reference breaks the rules and is no rival
    assert (
        len({(j.source, j.seed, j.stage, j.split) for j in pool.jobs}) == len(pool.jobs) == len(known.reruns)
    )
    assert all(c.outcome != "open" for c in known.claims)


def test_a_job_carries_the_split_and_a_candidate_what_would_be_too_good(folder: Path) -> None:
    pool = HerePool()
    known = verified(folder, pool)
    candidates = {e.proposal.source for e in known.leads if e.proposal}
    for job in pool.jobs:
        assert job.stop is None
        assert bool(job.reference) <= (job.source in candidates)
    assert {j.split for j in pool.jobs} == {"validation", "test"}
    assert any(j.reference for j in pool.jobs if j.split == "test")


def test_verifying_again_runs_nothing_and_says_the_same(folder: Path) -> None:
    first, pool = verified(folder), HerePool()
    again = verified(folder, pool)
    assert pool.jobs == []
    assert again.claims == first.claims
    assert again.leads == first.leads


def test_more_leads_are_added_and_none_of_the_first_is_dropped(folder: Path) -> None:
    few = verified(folder, top=1, most=3)
    assert len(few.leads) == 1
    pool = HerePool()
    more = verified(folder, pool, top=2, most=3)
    assert [e.id for e in more.leads][:1] == [e.id for e in few.leads]
    assert len(more.leads) == 2
    fewer = verified(folder, top=1, most=3)
    assert len(fewer.leads) == 2  # a lead that was replicated stays in the count of tries


def test_two_processes_share_the_runs(folder: Path) -> None:
    pools = [HerePool(0.01), HerePool(0.01)]
    threads = [threading.Thread(target=verified, args=(folder, pool)) for pool in pools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = verified(folder)
    jobs = [j for pool in pools for j in pool.jobs]
    assert len(jobs) == len(known.reruns)
    assert all(pool.jobs for pool in pools)


RUNNER = """
import sys, threading
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from toy import HerePool
from test_verify import verified
print("go", flush=True)
verified(Path(sys.argv[1]), HerePool(0.03))
"""


def test_a_verification_that_is_killed_goes_on_where_it_was(folder: Path, searched: Path) -> None:
    counts = []
    for seconds in (0.3, 0.5, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, str(folder), str(Path(__file__).parent)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        time.sleep(seconds)
        process.kill()
        process.communicate()
        archive = open_archive(folder / "study.db")
        counts.append(len(archive.reruns()))
        archive.close()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0], counts
    killed = verified(folder)
    assert len(killed.reruns) > counts[-1], "the kills came too late to test anything"
    whole = verified(copy_study(searched, folder.parent / "whole"))
    assert [c.comparisons for c in killed.claims] == [c.comparisons for c in whole.claims]


class Stopping(HerePool):
    """Sets an event after so many jobs."""

    def __init__(self, stop: threading.Event, after: int) -> None:
        super().__init__()
        self.stop, self.after = stop, after

    def run(self, job: Job, report: Any) -> Evidence:
        if len(self.jobs) >= self.after:
            self.stop.set()
        return super().run(job, report)


def test_a_verification_that_is_stopped_keeps_what_had_ended(folder: Path) -> None:
    stop = threading.Event()
    study = Study.open(folder, pool=Stopping(stop, 5))
    known = Verifier(study.bench, 1).verify(Watcher(), stop)
    study.close()
    assert len(known.reruns) == 6  # the run that was under way when it was stopped, and those before
    assert known.missing()
    assert "are missing" in verdict(known)


# what the runs allow to say, on made-up figures


def run(value: float, seed: int, stage: str = "explore") -> Evidence:
    metrics = {
        "inside": Metric(value=value, standard_error=0.0),
        "outside": Metric(value=max(1.0, value), standard_error=0.0),
    }
    return Evidence(stage=stage, seed=seed, source_hash="s", metrics=metrics, cpu_seconds=1.0)


def experiment(id: int, value: float, fitness: float, kind: Any = "candidate") -> Experiment:
    name = {1: "line", 2: "parabola"}.get(id, f"n{id}")
    return Experiment(
        id=id,
        kind=kind,
        status="finished",
        proposal=Proposal(name=name, motivation="", source=name, author=""),
        evidence=tuple(run(value, seed) for seed in range(3)),
        fitness=Fitness(formula="gain", value=fitness),
    )


def told(
    values: dict[int, float], claims: dict[int, float] | None = None, spread: float = 0.001
) -> Replication:
    """A study of line, parabola and candidates 5 and 6, whose fresh runs have these means."""
    experiments = [experiment(1, 0.5, 0.5, "baseline"), experiment(2, 0.45, 0.6, "baseline"),
                   experiment(5, 0.3, 0.9), experiment(6, 0.3, 0.8)]  # fmt: skip
    reruns = [
        Rerun(experiment=id, purpose="screen", stage=EXPLORE, seed=1000 + i, evidence=run(value, 1000 + i))
        for id, value in values.items()
        for i in range(2)
    ]
    for id, value in (claims or {}).items():
        for factor in (0.5, 1.0, 2.0):
            stage = replace(REPLICATE, learning_rate=factor * REPLICATE.learning_rate)
            evidence = run(value + abs(factor - 2) / 1000, 2000, "replicate")  # best at twice the rate
            reruns.append(Rerun(experiment=id, purpose="rate", stage=stage, seed=2000, evidence=evidence))
        stage = replace(REPLICATE, learning_rate=1.0)
        for i in range(3):
            evidence = run(value + (i - 1) * spread, 3000 + i, "replicate")
            rerun = Rerun(experiment=id, purpose="claim", stage=stage, seed=3000 + i, split="test",
                          evidence=evidence)  # fmt: skip
            reruns.append(rerun)
    return Replication(space=TOY, experiments=experiments, reruns=reruns, stage=EXPLORE, later=REPLICATE,
                       seed=0, formula="gain")  # fmt: skip


def test_a_lead_that_falls_back_is_not_promoted_and_is_told_of() -> None:
    known = told({1: 0.5, 2: 0.45, 5: 0.46, 6: 0.30})
    assert [e.id for e in known.promoted] == [6]
    assert [e.id for e in known.fallen] == [5]
    assert [row[:2] for row in fallen_table(known).rows] == [("#5", "n5")]
    wanted = known.missing()
    assert {r.purpose for r in wanted} == {"rate"}
    assert {r.experiment for r in wanted} == {1, 2, 6}


def tried_at(known: Replication, id: int, errors: Mapping[float, float]) -> Replication:
    """The same with an experiment's runs at some rates, given with their error inside."""
    kept = [r for r in known.reruns if (r.experiment, r.purpose) != (id, "rate")]
    runs = [
        Rerun(experiment=id, purpose="rate", stage=replace(REPLICATE, learning_rate=rate), seed=2000,
              evidence=run(error, 2000, "replicate"))
        for rate, error in errors.items()
    ]  # fmt: skip
    return replace(known, reruns=[*kept, *runs])


def failing(known: Replication, chosen: Callable[[Rerun], bool]) -> Replication:
    """The same with some of its runs failed."""
    fault = Failure(phase="train", kind="nan", message="the loss is not finite")
    reruns = [
        replace(r, evidence=replace(r.evidence, failure=fault, metrics={})) if r.evidence and chosen(r) else r
        for r in known.reruns
    ]
    return replace(known, reruns=reruns)


SCREENS = {1: 0.5, 2: 0.45, 5: 0.46, 6: 0.30}


def test_the_best_of_the_same_rates_is_taken_by_each() -> None:
    known = told(SCREENS, claims={1: 0.5, 2: 0.45, 6: 0.3})
    mixed = tried_at(known, 6, {0.25: 0.5, 0.5: 0.3, 1.0: 0.4})
    assert mixed.rates == {1: 1.0, 2: 1.0, 6: 0.5}


def test_where_one_still_gains_at_an_edge_a_rate_is_added_for_all() -> None:
    known = told(SCREENS, claims={1: 0.5, 2: 0.45, 6: 0.3})
    flat = replace(known, reruns=[r for r in known.reruns if r.purpose != "claim"])
    for id in (1, 2, 6):
        flat = tried_at(flat, id, {0.25: 0.301, 0.5: 0.302, 1.0: 0.303})
    assert flat.tried == (0.25, 0.5, 1.0)
    assert set(flat.rates.values()) == {0.25}
    assert all("edge" in row[2] for row in rates_table(flat).rows)
    assert {r.purpose for r in flat.missing()} == {"claim"}
    gains = tried_at(flat, 2, {0.25: 0.20, 0.5: 0.30, 1.0: 0.30})
    assert gains.tried == (0.125, 0.25, 0.5, 1.0)
    wanted = [(r.experiment, r.purpose, r.stage.learning_rate) for r in gains.missing()]
    assert wanted == [(id, "rate", 0.125) for id in (1, 2, 6)]
    found = tried_at(gains, 2, {0.125: 0.25, 0.25: 0.20, 0.5: 0.30, 1.0: 0.30})
    assert found.tried == gains.tried
    further = tried_at(gains, 2, {0.125: 0.1, 0.25: 0.20, 0.5: 0.30, 1.0: 0.30})
    assert further.tried == (0.0625, 0.125, 0.25, 0.5, 1.0)
    assert {r.stage.learning_rate for r in further.missing()} == {0.0625, 0.125}
    more = {0.0625: 0.01, 0.125: 0.1, 0.25: 0.20, 0.5: 0.30, 1.0: 0.30}
    assert tried_at(further, 2, more).tried == further.tried  # two on either side at most
    above = tried_at(flat, 6, {0.25: 0.3, 0.5: 0.3, 1.0: 0.2})
    assert above.tried == (0.25, 0.5, 1.0, 2.0)
    assert replace(above, reruns=above.reruns[::-1]).tried == above.tried
    one = replace(flat, terms=Terms(rates=(1.0,)))
    assert one.tried == (0.5,)


def test_once_something_is_claimed_the_rates_stand_and_no_claim_is_tested_anew() -> None:
    known = told(SCREENS, claims={1: 0.5, 2: 0.45, 6: 0.3})
    assert [c.outcome for c in known.claims] == ["discovery"]
    late = tried_at(known, 6, {0.25: 0.6, 0.5: 0.5, 1.0: 0.1})
    assert late.tried == (0.25, 0.5, 1.0)
    assert late.claims == known.claims
    assert "edge" in next(row[2] for row in rates_table(late).rows if row[0] == "#6")


def test_what_is_very_bad_or_fails_at_a_rate_is_claimed_at_its_best_of_the_others() -> None:
    known = tried_at(
        told(SCREENS, claims={1: 0.5, 2: 0.45, 6: 0.3}), 2, {0.25: 500.0, 0.5: 400.0, 1.0: 600.0}
    )
    assert known.at_rates[2][0.5] == 0.0  # of fitness: as bad as can be, and yet measured
    assert known.rates[2] in known.tried
    without = failing(known, lambda r: (r.experiment, r.purpose, r.stage.learning_rate) == (2, "rate", 0.5))
    assert without.at_rates[2][0.5] is None
    assert without.rates[2] in (0.25, 1.0)
    assert "failed" in next(row for row in rates_table(without).rows if row[0] == "#2")


def test_a_failed_fresh_run_of_the_seed_leaves_the_claims_readable() -> None:
    known = told(SCREENS, claims={1: 0.5, 2: 0.45, 6: 0.3})
    partly = failing(known, lambda r: (r.experiment, r.purpose, r.seed) == (1, "claim", 3001))
    assert len(partly.claims) == 1
    assert claims_table(partly).rows
    assert partly.in_equal_seconds(partly.claims[0]) is None


def test_a_clear_gain_is_a_discovery_and_no_gain_is_none() -> None:
    screens = {1: 0.5, 2: 0.45, 5: 0.30, 6: 0.30}
    known = told(screens, claims={1: 0.5, 2: 0.45, 5: 0.45, 6: 0.30})
    outcomes = {c.experiment: c.outcome for c in known.claims}
    assert outcomes == {5: "unproven", 6: "discovery"}
    assert "1 discovery, 1 unproven" in verdict(known)
    assert claims_table(known).rows[0][:4] == ("#6", "n6", "discovery", "parabola")
    worse = told(screens, claims={1: 0.5, 2: 0.30, 5: 0.45, 6: 0.45})
    assert {c.outcome for c in worse.claims} == {"refuted"}
    assert "honest zero" in verdict(worse)


def test_only_a_discovery_is_run_again_in_equal_seconds_with_the_steps_that_fit() -> None:
    screens = {1: 0.5, 2: 0.45, 5: 0.30, 6: 0.30}
    known = told(screens, claims={1: 0.5, 2: 0.45, 5: 0.45, 6: 0.30})
    slow = [
        replace(r, evidence=replace(r.evidence, cpu_seconds=2.0)) if r.experiment == 6 and r.evidence else r
        for r in known.reruns
    ]
    wanted = replace(known, reruns=slow).missing()
    assert {(r.experiment, r.purpose, r.stage.steps, r.split) for r in wanted} == {
        (6, "seconds", 120, "test")
    }


def test_equal_seconds_are_those_of_the_best_baseline_and_not_of_the_noisiest() -> None:
    known = told({1: 0.5, 2: 0.45, 5: 0.30, 6: 0.30}, claims={1: 0.5, 2: 0.45, 5: 0.45, 6: 0.30})
    noisy = [
        replace(r, evidence=run(0.5 + 0.1 * (r.seed - 3001), r.seed, "replicate"))
        if (r.experiment, r.purpose) == (1, "claim")
        else r
        for r in known.reruns
    ]
    noisy_known = replace(known, reruns=noisy)
    [claim] = [c for c in noisy_known.claims if c.experiment == 6]
    assert claim.hardest is not None
    assert claim.hardest.name == "line"
    assert noisy_known.best_baseline is not None
    assert noisy_known.best_baseline.id == 2
    assert noisy_known.in_equal_seconds(claim) is None
    stage = replace(REPLICATE, learning_rate=1.0, steps=120)
    own = [
        Rerun(experiment=6, purpose="seconds", stage=stage, seed=3000 + i, split="test",
              evidence=run(0.40, 3000 + i, "replicate"))
        for i in range(3)
    ]  # fmt: skip
    equal = replace(noisy_known, reruns=[*noisy, *own]).in_equal_seconds(claim)
    assert equal is not None
    assert (equal.baseline, equal.name, equal.seeds, equal.baseline_seeds) == (2, "parabola", 3, 3)
    assert 0 < equal.gain < claim.hardest.gain  # 0.40 against 0.45, not 0.30 against 0.5


def test_a_failed_fresh_run_makes_no_discovery() -> None:
    known = told({1: 0.5, 2: 0.45, 5: 0.46, 6: 0.30}, claims={1: 0.5, 2: 0.45, 6: 0.3})
    [claim] = failing(known, lambda r: (r.experiment, r.purpose, r.seed) == (6, "claim", 3001)).claims
    assert claim.outcome == "unproven"
    assert "1 of 3 fresh runs failed" in claim.reason


def test_without_a_lead_nothing_is_run() -> None:
    known = told({})
    none = replace(known, experiments=[e for e in known.experiments if e.kind == "baseline"])
    assert none.missing() == []
    assert "nothing to replicate" in verdict(none)


def test_the_next_stage_is_the_shortest_longer_one() -> None:
    stages = {s.name: s for s in (Stage(name="a", steps=9, learning_rate=1), EXPLORE, REPLICATE)}
    space = replace(TOY, stages=stages | {"long": Stage(name="long", steps=9999, learning_rate=1)})
    assert later_stage(space, EXPLORE).name == "replicate"
    assert later_stage(space, space.stages["long"]).name == "long"


# as a person meets it


def asi_arch(*words: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_the_commands_print_claims_and_figures_by_machine(folder: Path) -> None:
    done = asi_arch("verify", "--study", folder, "--top", 2, "--most", 3, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "Claims at stage replicate" in done.stdout
    assert "for the claim, replicate of 240 steps, seed 3000" in done.stdout
    listed = asi_arch("discoveries", "--study", folder)
    assert listed.returncode == 0
    assert listed.stdout.split("Claims at stage")[1] in done.stdout
    shown = asi_arch("discoveries", "--study", folder, "--json")
    claims = [json.loads(line) for line in shown.stdout.splitlines()]
    assert {c["outcome"] for c in claims} <= {"discovery", "unproven", "refuted"}
    assert all(c["comparisons"][0]["seeds"] == 3 for c in claims)
    assert all(c["learning_rate"] > 0 for c in claims)
    over = [c["in_equal_seconds"]["name"] for c in claims if c["outcome"] == "discovery"]
    assert over, [c["outcome"] for c in claims]
    assert len(set(over)) <= 1  # the best baseline
    assert all(f" over {name}" in listed.stdout for name in over)


def test_a_study_without_baselines_is_refused_in_one_line(tmp_path: Path) -> None:
    toy_study(tmp_path / "new").close()
    for command in ("verify", "discoveries"):
        done = asi_arch(command, "--study", tmp_path / "new")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "`asi-arch run`" in done.stderr


def test_a_member_of_the_pool_is_scored_by_all_its_runs_at_the_stage(folder: Path) -> None:
    study = Study.open(folder, pool=HerePool())
    before = {m.id: m for m in study.members()}
    study.close()
    known = verified(folder)
    study = Study.open(folder, pool=HerePool())
    after = {m.id: m for m in study.members()}
    study.close()
    lead = known.leads[0]
    again = known.screened[lead.id]
    assert again is not None
    assert after[lead.id].runs == before[lead.id].runs + 2 == 3
    assert after[lead.id].fitness == pytest.approx(((before[lead.id].fitness or 0.0) + 2 * again) / 3)
    touched = {e.id for e in (*known.leads, *known.baselines)}
    assert all(after[id] == before[id] for id in before if id not in touched)


def test_the_bound_of_seeds_is_not_chosen_by_what_claims_show(folder: Path) -> None:
    verified(folder, top=2, most=4)
    done = asi_arch("verify", "--study", folder, "--most", 3)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "leave out --most" in done.stderr
    assert asi_arch("verify", "--study", folder, "--most", 4).returncode == 0
