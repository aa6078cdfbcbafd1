"""Whole studies that a model leads: faults of every kind, kills, and replays."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from authored import LINE, authored, candidates, design, hinge, id_of, model, rule, said, view_of
from llm_server import Answer, Asked, Garbage, Reply, Reset, Say, Server, Slow, Status, Truncated, first, use
from llm_study import CANARY
from toy import outcome, toy_study

from asi_arch.report.markdown import write_report
from asi_arch.report.story import tell

RUNNER = Path(__file__).parent / "toy.py"
FAULTS = (
    Status(429, "slow down", retry_after=0.02),
    Status(500, "broken KEY"),
    Truncated(),
    Garbage(),
    Reset(),
)


def kink(id: int) -> str:
    return rule(LINE, hinge(id / 20))


def a_troubled_designer(asked: Asked) -> Reply:
    """One whose answers have every fault, each in an experiment of its own."""
    id, again = id_of(asked), asked.turn > 0
    name = f"Kink{id}"
    if id == 5 and not again:
        return Answer('{"name": "Kink5", "motiv')
    if id == 6 and not again:
        return Say("I would rather talk about hinges.")
    if id == 7 and not again:
        return design(kink(7), name="7!")
    if id == 8:
        return design("RULE = {not python", name=name)
    if id == 9:
        return design(rule({**LINE, "gain": 100.0}, hinge(0.45)), name=name)
    if id == 10 and not again:
        return use("check", code=kink(10))
    if id == 11 and asked.about("all refused"):
        return design(kink(11), name=name)
    return design(kink(5) if id == 11 else kink(id), name=name)


def a_mender(asked: Asked) -> Reply:
    """One that needs two attempts for the program that is no Python."""
    if "diverged" in asked.text:
        return Answer({"note": "The gain was too high.", "edits": [{"search": "100.0", "replace": "1.5"}]})
    if "Attempts before" not in asked.text:
        return Answer({"note": "A bracket.", "source": "RULE = {'terms': [{'kind': 'spline'}]}"})
    return Answer({"note": "A hinge is the nearest to a spline.", "source": kink(8)})


def troubled() -> Callable[[Asked], Reply]:
    return first(FAULTS, model(designer=a_troubled_designer, mender=a_mender))


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_a_study_of_faults_ends_well_and_every_fault_is_kept_with_what_was_done(
    tmp_path: Path, protocol: str
) -> None:
    folder = tmp_path / "study"
    with authored(folder, troubled(), protocol=protocol, experiments=20) as (study, _):
        study.run()
        recorded, calls = outcome(study), study.archive.calls()
        assert [e.status for e in candidates(study)] == ["finished"] * 20
        by_id = {e.id: e for e in candidates(study)}
        assert [a.failure.phase for a in by_id[8].attempts] == ["source", "graph"]
        assert [a.failure.kind for a in by_id[9].attempts] == ["nan"]
        assert [(r.of, r.basis) for r in by_id[11].repeats] == [(5, "program")]
        faults = [fault for call in calls for turn in call.turns for fault in turn.faults]
        assert [fault.kind for fault in faults[:2]] == ["429", "500"]
        assert {"connection", "garbled", "answer", "tool"} >= {fault.kind for fault in faults[2:]}
        assert len(faults) == len(FAULTS) + 4
        assert all(fault.action for fault in faults)
        assert all(call.answer and not call.error for call in calls)
        roles = {"designer", "mender", "summariser", "novelty", "judge", "analyst", "reader"}
        assert {call.role for call in calls} == roles
        told = {
            part.title: part
            for id in (8, 11)
            for part in tell(view_of(study), by_id[id], study.archive.calls(id))
        }
        write_report(view_of(study), folder / "report")
    assert "+RULE = {'terms': [{'kind': 'spline'}]}" in str(told["attempt 1 to 2"].body)
    assert "mended: A hinge is the nearest to a spline." in str(told["attempt 2 failed"].body)
    assert "Kink11: the same program as experiment 5" in str(told["refused before"].body)
    assert "Contract (" in str(told["brief"].body)
    assert "calls" in told
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 5
    assert not [path for path in written if CANARY.encode() in path.read_bytes()]

    same = {"experiments": 20, "seed_runs": 1, "selection": "paper"}
    again = toy_study(tmp_path / "again", model=f"replay:{folder}", **same)
    again.run()
    assert outcome(again) == recorded
    assert list(map(said, again.archive.calls())) == list(map(said, calls))
    again.close()


def run_until(folder: Path, server: Server, is_time: Callable[[], bool]) -> None:
    """Run a study in a process of its own, and kill it when it is time."""
    values = [f"model=openai:gpt-5-mini@{server.openai}", "seed_runs=1", "selection=paper"]
    command = [sys.executable, str(RUNNER), str(folder), "4", "1", "0.01", *values]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not is_time():
            assert process.poll() is None, "it ended before it was time"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "role",
    [
        "You design neural",
        "You mend programs",
        "You judge whether",
        "You judge architectures",
        "You explain the result",
    ],
)
def test_a_study_that_is_killed_while_a_model_thinks_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    faulty = [rule({"kind": "spline"}), rule({"kind": "bspline"})]

    def designer(asked: Asked) -> Reply:
        id = id_of(asked)
        return design(faulty[0] if id == 6 else kink(id), name=f"Kink{id}")

    def mender(asked: Asked) -> Reply:
        tries = asked.text.count("- failed in")
        return Answer({"note": f"Try {tries}.", "source": faulty[1] if not tries else kink(6)})

    def is_awaited(asked: Asked) -> bool:
        """Whether the kill comes while this is asked."""
        if role == "You design neural":
            return role in asked.system and id_of(asked) == 6
        return role in asked.system and (role != "You mend programs" or asked.about("- failed in"))

    script = model(designer=designer, mender=mender)
    with Server(lambda asked: Slow(30.0) if is_awaited(asked) else script(asked)) as server:
        run_until(tmp_path / "killed", server, lambda: any(map(is_awaited, list(server.requests))))
    with authored(tmp_path / "whole", script, experiments=4) as (study, _):
        study.run()
        whole = outcome(study)
    with authored(tmp_path / "killed", script, experiments=4) as (study, server):
        before = {e.id: e for e in candidates(study)}
        study.run()
        assert outcome(study) == whole
        if "mend" in role:
            assert len(before[6].attempts) == 1
            assert len(server.asked("You mend")) == 1
        if "mend" not in role:
            assert server.asked(role)
        mended = study.archive.get(6)
        assert [a.failure.phase for a in mended.attempts] == ["graph", "graph"]
