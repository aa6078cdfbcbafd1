"""A study that is killed with SIGKILL goes on as if nothing had happened."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy import outcome, toy_study

from asi_arch.archive.folder import has_study
from asi_arch.archive.sql import open_archive
from asi_arch.records import Experiment

EXPERIMENTS, NAP = 40, 0.01
RUNNER = Path(__file__).parent / "toy.py"


def start(folder: Path, workers: int) -> subprocess.Popen[str]:
    """Start a study in a process of its own and wait until it is about to open the folder."""
    command = [sys.executable, str(RUNNER), str(folder), str(EXPERIMENTS), str(workers), str(NAP)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    return process


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    time.sleep(seconds)
    process.kill()
    process.communicate()


def finish(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def ended(folder: Path) -> dict[int, Experiment]:
    """What the archive holds that has ended; nothing while there is none."""
    if not has_study(folder):
        return {}
    archive = open_archive(folder / "study.db")
    experiments = archive.experiments()
    archive.close()
    assert [e.id for e in experiments] == list(range(1, len(experiments) + 1))
    return {e.id: e for e in experiments if e.status in ("finished", "failed")}


def test_ten_kills_lose_nothing_double_nothing_and_change_no_figure(tmp_path: Path) -> None:
    draw, killed = random.Random(20), tmp_path / "killed"
    known: dict[int, Experiment] = {}
    counts, window = [], 0.4  # seconds; longer where a slow machine has done nothing in them
    for _ in range(10):
        kill_after(start(killed, workers=1), draw.uniform(0.0, window))
        now = ended(killed)
        assert {id: now.get(id) for id in known} == known
        window *= 1.0 if len(now) > len(known) else 1.5
        known = now
        counts.append(len(known))
    assert len(set(counts)) > 3, counts  # the kills did fall into the study
    assert finish(start(killed, workers=1)) == 0
    assert {id: e for id, e in ended(killed).items() if id in known} == known

    whole = toy_study(tmp_path / "whole", experiments=EXPERIMENTS)
    whole.run()
    again = toy_study(killed, experiments=EXPERIMENTS)
    assert outcome(again) == outcome(whole)
    assert len(again.archive.experiments(kind="candidate")) == EXPERIMENTS
    assert sorted(path.name for path in killed.iterdir() if ".draft" not in path.name) == [
        "owners", "settings.toml", "study.db", "study.db-shm", "study.db-wal"]  # fmt: skip
    for study in (whole, again):
        study.close()


def test_kills_with_several_workers_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    draw, known = random.Random(21), dict[int, Experiment]()
    for _ in range(2):
        kill_after(start(tmp_path, workers=4), draw.uniform(0.1, 0.4))
        now = ended(tmp_path)
        assert {id: now.get(id) for id in known} == known
        known = now
    assert finish(start(tmp_path, workers=4)) == 0
    assert len(ended(tmp_path)) == EXPERIMENTS + 4
    assert_no_graph_was_trained_twice(tmp_path)


def test_two_processes_run_one_study_and_one_takes_over_what_the_other_dies_with(tmp_path: Path) -> None:
    first, second = start(tmp_path, workers=2), start(tmp_path, workers=2)
    kill_after(first, 0.3)
    assert finish(second) == 0
    assert finish(start(tmp_path, workers=2)) == 0
    assert len(ended(tmp_path)) == EXPERIMENTS + 4
    assert_no_graph_was_trained_twice(tmp_path)


def test_two_processes_that_both_live_share_the_work(tmp_path: Path) -> None:
    processes = [start(tmp_path, workers=1) for _ in range(2)]
    assert [finish(process) for process in processes] == [0, 0]
    assert len(ended(tmp_path)) == EXPERIMENTS + 4
    assert_no_graph_was_trained_twice(tmp_path)


def assert_no_graph_was_trained_twice(folder: Path) -> None:
    runs = [
        (evidence.graph_hash, evidence.seed)
        for experiment in ended(folder).values()
        for evidence in experiment.evidence
        if evidence.stage == "explore"
    ]
    assert len(runs) == len(set(runs)) > EXPERIMENTS // 2


@pytest.mark.slow
def test_a_hundred_kills_change_no_figure(tmp_path: Path) -> None:
    draw = random.Random(22)
    for _ in range(100):
        kill_after(start(tmp_path / "killed", workers=1), draw.uniform(0.0, 0.08))
    assert finish(start(tmp_path / "killed", workers=1)) == 0
    whole = toy_study(tmp_path / "whole", experiments=EXPERIMENTS)
    whole.run()
    again = toy_study(tmp_path / "killed", experiments=EXPERIMENTS)
    assert outcome(again) == outcome(whole)
    for study in (whole, again):
        study.close()
