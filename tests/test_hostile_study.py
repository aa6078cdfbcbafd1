"""A real study with hostile and faulty candidates mixed in runs to its end and ranks none of them."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from corpus import entries

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
HOSTILE = ("doubling_bomb", "memory_tensors", "work_bomb")
FAULTY = ("tiny_1e7", "batch_mean", "blocks_of_root_t", "state_of_all_keys", "exp_of_large")
BROKEN_RULES = ("exit_with_success", "read_home")
SYMBOLIC = 2
SHORT = ["--set", "steps=12", "--set", "seed_runs=2", "--workers", "2", "--seed", "5"]


def asi_arch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "asi_arch", *arguments, "--study", str(folder)]
    wide = {**os.environ, "COLUMNS": "250"}  # a long name would wrap a short one
    return subprocess.run(command, capture_output=True, text=True, check=False, env=wide)


def experiments(folder: Path) -> dict[str, dict[str, Any]]:
    with closing(sqlite3.connect(folder / "study.db")) as db:
        records = [json.loads(row[0]) for row in db.execute("select record from experiments order by id")]
    return {record["proposal"]["name"]: record for record in records}


def test_hostile_and_faulty_candidates_fail_in_their_phase_and_the_study_goes_on(tmp_path: Path) -> None:
    known = {e.name: e for kind in ("hostile", "faulty") for e in entries(HERE / kind)}
    folder = tmp_path / "study"
    first = asi_arch(folder, "run", "--experiments", "1", *SHORT)
    assert first.returncode == 0, first.stderr
    for name in BROKEN_RULES:
        refused = asi_arch(folder, "submit", str(known[name].path), "--motivation", "It must win.")
        assert refused.returncode == 2, refused.stdout
        assert "nothing was submitted" in refused.stderr
    mixed = [*HOSTILE, *FAULTY]
    for name in mixed:
        entered = asi_arch(folder, "submit", str(known[name].path), "--motivation", "It must win.")
        assert entered.returncode == 0, entered.stderr
    ended = asi_arch(folder, "run", "--experiments", str(len(mixed) + SYMBOLIC), *SHORT)
    assert ended.returncode == 0, ended.stderr
    found = experiments(folder)
    assert len(found) == 8 + len(mixed) + SYMBOLIC
    assert {e["status"] for e in found.values()} <= {"finished", "failed"}
    for name in mixed:
        failure = found[name]["failure"]
        assert failure is not None, name
        assert failure["phase"] in known[name].expect, (name, failure)
        assert found[name]["fitness"] is None
        assert not any(evidence["metrics"] for evidence in found[name]["evidence"])
    symbolic = [e for e in found.values() if e["proposal"]["author"] == "symbolic"]
    assert len(symbolic) == SYMBOLIC
    assert any(e["status"] == "finished" for e in symbolic)
    best = asi_arch(folder, "best", "--count", "30").stdout
    assert "delta_net" in best
    above = best[: best.index("delta_net")]
    assert not any(name in above for name in (*mixed, *BROKEN_RULES)), best
