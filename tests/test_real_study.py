"""The whole loop on the real space: wall, checks, training, score, archive, report, by the command line."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
SHORT = ["--set", "steps=12", "--set", "seed_runs=2", "--workers", "1", "--experiments", "3", "--seed", "5"]


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "asi_arch", "run", "--study", str(folder), *SHORT]
    wide = {**os.environ, "COLUMNS": "250"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=wide)


def experiments(folder: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(folder / "study.db")) as db:
        return [json.loads(row[0]) for row in db.execute("select record from experiments order by id")]


def what_must_agree(experiment: dict[str, Any]) -> Any:
    runs = [
        (e["stage"], e["seed"], e["graph_hash"], e["curve"], e["metrics"]) for e in experiment["evidence"]
    ]
    return experiment["status"], experiment["proposal"], runs, experiment["fitness"]


def test_two_studies_of_one_seed_give_the_same_proposals_and_the_same_losses(tmp_path: Path) -> None:
    outputs = [run(tmp_path / name).stdout for name in ("a", "b")]
    first, second = (experiments(tmp_path / name) for name in ("a", "b"))
    assert len(first) == 8 + 3
    assert {e["status"] for e in first} <= {"finished", "failed"}
    without_times = [[what_must_agree(e) for e in study] for study in (first, second)]
    assert without_times[0] == without_times[1]
    best = max(first, key=lambda e: e["fitness"]["value"])
    for words in (best["proposal"]["name"], "gain text", "gain recall"):
        assert words in outputs[0], outputs[0]
    report = tmp_path / "a" / "report"
    text = (report / "report.md").read_text()
    assert text.startswith("# ")
    assert all(e["proposal"]["name"] in text for e in first)
    assert len(list(report.glob("*.png"))) >= 4
