"""What every archive must keep, and what the one in SQLite adds: processes, kills, damaged files."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from asi_arch.archive.base import Archive, Row
from asi_arch.archive.folder import change_settings, create_folder, open_folder
from asi_arch.archive.sql import SqlArchive, create_archive, open_archive
from asi_arch.calls import Call, Fault, Message, Spending, ToolUse, Turn
from asi_arch.discoveries import Rerun
from asi_arch.errors import SetupError
from asi_arch.records import (
    Evidence,
    Experiment,
    Failure,
    Fitness,
    Job,
    Metric,
    Proposal,
    Repeat,
    Stage,
    Verdict,
    from_json,
    to_json,
)
from asi_arch.settings import Settings

PROPOSAL = Proposal(
    name="lines",
    motivation="More lines.",
    source="RULE = {}\n",
    author="person",
    parents=(1,),
    references=(2, 3),
    cognitions=("2412.06464/1",),
    moves=("add_line",),
)
EVIDENCE = Evidence(
    stage="explore",
    seed=3,
    source_hash="s" * 16,
    graph_hash="g1",
    bundle='{"nodes": []}',
    checks=(Verdict(name="source", passed=True, message="fine"),),
    curve=((1, 0.1), (2, 1 / 3)),
    metrics={"error": Metric(value=2 / 3, standard_error=1e-300)},
    details={"error_4": Metric(value=-0.0, standard_error=5e-324)},
    seconds=1.25,
    versions={"python": "3.11"},
)


def finished(id: int, fitness: float = 0.5, evidence: Evidence = EVIDENCE) -> Experiment:
    return Experiment(
        id=id,
        kind="candidate",
        status="finished",
        proposal=PROPOSAL,
        evidence=(evidence,),
        fitness=Fitness(formula="gain", value=fitness, terms={"error": fitness}),
        repeats=(Repeat(of=1, source_hash="t" * 16),),
        settings={"seed": 3, "hours": 0.0, "space": "toy"},
        ended_at=time.time(),
    )


def failed(id: int) -> Experiment:
    failure = Failure(phase="source", kind="syntax", message="no", trace="line 1")
    return Experiment(
        id=id, kind="candidate", status="failed", proposal=PROPOSAL, failure=failure, ended_at=time.time()
    )


def call(id: int = 0, experiment: int | None = None, role: str = "designer") -> Call:
    """A call of three requests: one answered at a known price, one at none, one not answered."""
    asked = (Message(author="system", text="You design."), Message(author="user", text="Go."))
    use = ToolUse(tool="check", arguments='{"source": "x"}', id="1")
    fault = Fault(kind="429", message="slow down", action="waited 1.0 s and asked again")
    turns = (
        Turn(asked=asked, answer=Message(author="model", uses=(use,)), tokens_in=200, tokens_cached=100,
             tokens_out=30, dollars=0.25, seconds=1 / 3, faults=(fault,)),
        Turn(asked=(Message(author="tool", text="no", tool="check", use="1"),),
             answer=Message(author="model"), tokens_in=5),
        Turn(asked=(), faults=(fault,)),
    )  # fmt: skip
    return Call(
        id=id, experiment=experiment, role=role, model="openai:a", options={"model_temperature": 0.5},
        turns=turns, answer='"x"', started_at=1.5,
    )  # fmt: skip


def claimed(archive: Archive) -> int:
    id = archive.claim("candidate")
    assert id is not None
    return id


def rerun(experiment: int, seed: int = 1000, evidence: Evidence | None = None) -> Rerun:
    stage = Stage(name="replicate", steps=10, learning_rate=0.1)
    return Rerun(
        experiment=experiment, purpose="claim", stage=stage, seed=seed, split="test", evidence=evidence
    )


class ArchiveContract:
    """What an archive promises. A new archive is tested by a subclass that makes it.

    `archive` and `other` are two views of one study, as two processes have them.
    """

    @pytest.fixture
    def archive(self) -> Iterator[Archive]:
        raise NotImplementedError

    @pytest.fixture
    def other(self) -> Iterator[Archive]:
        raise NotImplementedError

    def test_ids_count_up_from_one_without_gaps(self, archive: Archive, other: Archive) -> None:
        assert [claimed(archive), claimed(other), claimed(archive)] == [1, 2, 3]

    def test_a_record_comes_back_bit_for_bit_but_for_its_bundle(
        self, archive: Archive, other: Archive
    ) -> None:
        experiment = finished(claimed(archive))
        assert archive.record(experiment)
        bare = replace(experiment, evidence=(replace(EVIDENCE, bundle=""),))
        assert other.get(1) == archive.get(1) == bare
        assert other.experiments() == [bare]
        assert other.bundle("g1") == '{"nodes": []}'
        assert str(other.get(1).evidence[0].details["error_4"].value) == "-0.0"

    def test_a_bundle_stays_when_evidence_without_it_is_recorded_again(self, archive: Archive) -> None:
        id = claimed(archive)
        archive.record(replace(finished(id), status="proposed", fitness=None, ended_at=0.0))
        archive.record(finished(id, evidence=replace(EVIDENCE, bundle="")))
        assert archive.bundle("g1") == '{"nodes": []}'

    def test_recording_twice_changes_nothing_and_the_first_end_stands(
        self, archive: Archive, other: Archive
    ) -> None:
        id = claimed(archive)
        assert archive.record(finished(id, 0.5))
        assert not archive.record(finished(id, 0.5))
        assert not other.record(finished(id, 0.9))
        assert not other.record(failed(id))
        assert [e.fitness.value for e in other.experiments() if e.fitness] == [0.5]

    def test_an_id_that_was_never_claimed_cannot_be_recorded(self, archive: Archive) -> None:
        with pytest.raises(KeyError):
            archive.record(finished(1))
        with pytest.raises(KeyError):
            archive.get(1)
        with pytest.raises(KeyError):
            archive.bundle("g1")
        assert archive.experiments() == []

    def test_a_record_that_would_not_come_back_is_refused(self, archive: Archive) -> None:
        id = claimed(archive)
        broken = replace(EVIDENCE, curve=((1, float("nan")),))
        with pytest.raises(ValueError, match="cannot be kept"):
            archive.record(finished(id, evidence=broken))
        assert archive.get(id).status == "claimed"

    def test_experiments_are_listed_by_kind_and_status_in_the_order_of_ids(self, archive: Archive) -> None:
        archive.claim("baseline")
        for _ in range(3):
            claimed(archive)
        archive.record(failed(3))
        archive.record(finished(2))
        assert [e.id for e in archive.experiments()] == [1, 2, 3, 4]
        assert [e.id for e in archive.experiments(kind="candidate")] == [2, 3, 4]
        assert [e.id for e in archive.experiments(status="failed")] == [3]
        assert [e.id for e in archive.experiments(kind="baseline", status="finished")] == []

    def test_a_listing_follows_what_another_process_records(self, archive: Archive, other: Archive) -> None:
        id = claimed(archive)
        assert [e.status for e in other.experiments()] == ["claimed"]
        archive.record(finished(id))
        assert [e.status for e in other.experiments()] == ["finished"]
        assert [(row.status, row.fitness) for row in other.rows()] == [("finished", 0.5)]

    def test_rows_say_in_brief_what_the_records_say(self, archive: Archive) -> None:
        archive.claim("baseline")
        for _ in range(3):
            claimed(archive)
        archive.record(failed(4))
        archive.record(finished(2, 0.75))
        assert archive.rows() == [
            Row(id=1, kind="baseline", status="claimed"),
            Row(id=2, kind="candidate", status="finished", name="lines", fitness=0.75, parents=(1,),
                graph_hash="g1", result=2),
            Row(id=3, kind="candidate", status="claimed"),
            Row(id=4, kind="candidate", status="failed", name="lines", parents=(1,), result=1),
        ]  # fmt: skip

    def test_no_more_are_claimed_than_the_study_may_have(self, archive: Archive, other: Archive) -> None:
        archive.claim("baseline")
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda i: (archive, other)[i % 2].claim("candidate", 5), range(20)))
        assert sorted(id for id in found if id is not None) == [2, 3, 4, 5, 6]

    def test_the_first_that_asks_may_train_a_graph_for_ever(self, archive: Archive, other: Archive) -> None:
        first, second = claimed(archive), claimed(other)
        assert archive.reserve("g", "explore", 0, first) == first
        assert other.reserve("g", "explore", 0, second) == first
        assert other.reserve("g", "explore", 1, second) == second
        assert other.reserve("g", "replicate", 0, second) == second
        archive.record(failed(first))
        assert other.reserve("g", "explore", 0, second) == first

    def test_of_many_that_ask_at_once_one_may_train(self, archive: Archive, other: Archive) -> None:
        ids = [claimed(archive) for _ in range(16)]
        with ThreadPoolExecutor(8) as threads:
            owners = set(threads.map(lambda id: (archive, other)[id % 2].reserve("g", "explore", 0, id), ids))
        assert len(owners) == 1

    def test_an_open_experiment_belongs_to_who_claimed_it(self, archive: Archive, other: Archive) -> None:
        claimed(archive)
        assert archive.adopt("candidate") is None
        assert other.adopt("candidate") is None

    def test_what_is_released_is_adopted_once_lowest_id_first(self, archive: Archive, other: Archive) -> None:
        for _ in range(3):
            archive.release(claimed(archive))
        archive.release(archive.claim("baseline") or 0)
        assert other.adopt("baseline", "reference") == 4
        assert [other.adopt("candidate"), archive.adopt("candidate"), other.adopt("candidate")] == [1, 2, 3]
        assert archive.adopt("candidate", "baseline") is None

    def test_nobody_can_release_what_another_owns(self, archive: Archive, other: Archive) -> None:
        other.release(claimed(archive))
        assert other.adopt("candidate") is None

    def test_closing_lets_go_of_what_is_open(self, archive: Archive, other: Archive) -> None:
        claimed(archive)
        archive.close()
        archive.close()
        assert other.adopt("candidate") == 1

    def test_an_ended_experiment_is_never_adopted(self, archive: Archive, other: Archive) -> None:
        archive.record(finished(claimed(archive)))
        archive.record(failed(claimed(archive)))
        archive.close()
        assert other.adopt("candidate") is None

    def test_eight_threads_lose_and_double_nothing(self, archive: Archive, other: Archive) -> None:
        def work(i: int) -> int:
            mine = (archive, other)[i % 2]
            id = claimed(mine)
            assert mine.record(finished(id, i / 1000, replace(EVIDENCE, graph_hash=f"g{i}")))
            return id

        with ThreadPoolExecutor(8) as threads:
            ids = list(threads.map(work, range(120)))
        assert sorted(ids) == list(range(1, 121))
        for view in (archive, other):
            kept = view.experiments(status="finished")
            assert [e.id for e in kept] == list(range(1, 121))
            assert sorted(e.fitness.value for e in kept if e.fitness) == [i / 1000 for i in range(120)]
            assert sorted(row.result for row in view.rows()) == list(range(1, 121))

    def test_calls_get_ids_in_order_and_come_back_bit_for_bit(self, archive: Archive, other: Archive) -> None:
        claimed(archive)
        first = archive.record_call(call(experiment=1))
        second = other.record_call(call(role="judge"))
        assert (first.id, second.id) == (1, 2)
        assert other.calls() == archive.calls() == [call(experiment=1, id=1), call(role="judge", id=2)]
        assert archive.calls(1) == [first]
        assert archive.calls(2) == []

    def test_a_call_is_written_again_while_it_goes_on(self, archive: Archive, other: Archive) -> None:
        begun = archive.record_call(replace(call(), answer="", turns=call().turns[:1]))
        archive.record_call(replace(call(), id=begun.id))
        assert other.calls() == [call(id=1)]

    def test_calls_of_nothing_and_calls_that_would_not_come_back_are_refused(self, archive: Archive) -> None:
        for wrong in (call(experiment=1), call(id=1)):
            with pytest.raises(KeyError):
                archive.record_call(wrong)
        with pytest.raises(ValueError, match="cannot be kept"):
            archive.record_call(replace(call(), turns=(replace(call().turns[0], dollars=float("nan")),)))
        assert archive.calls() == []

    def test_spending_adds_up_and_an_unknown_price_is_not_nothing(
        self, archive: Archive, other: Archive
    ) -> None:
        assert archive.spent() == Spending()
        archive.record_call(call())
        other.record_call(call())
        assert archive.spent() == Spending(calls=2, requests=4, tokens=470, dollars=0.5, unpriced=2)

    def test_eight_threads_lose_no_call(self, archive: Archive, other: Archive) -> None:
        with ThreadPoolExecutor(8) as threads:
            kept = list(threads.map(lambda i: (archive, other)[i % 2].record_call(call()).id, range(80)))
        assert sorted(kept) == list(range(1, 81))
        assert archive.spent().calls == 80

    def test_a_rerun_is_begun_once_and_left_to_others_when_it_is_given_up(
        self, archive: Archive, other: Archive
    ) -> None:
        archive.record(finished(claimed(archive)))
        assert archive.begin_rerun(rerun(1))
        assert not archive.begin_rerun(rerun(1))  # another thread of the same process
        assert not other.begin_rerun(rerun(1))
        assert other.begin_rerun(rerun(1, seed=1001))
        other.leave_rerun(rerun(1))  # not its own: nothing happens
        assert not other.begin_rerun(rerun(1))
        archive.leave_rerun(rerun(1))
        assert other.begin_rerun(rerun(1))
        assert archive.reruns() == []
        with pytest.raises(KeyError, match="no experiment 7"):
            archive.begin_rerun(rerun(7))

    def test_a_rerun_that_ended_stands_and_the_experiment_is_as_it_was(
        self, archive: Archive, other: Archive
    ) -> None:
        archive.record(finished(claimed(archive)))
        before = archive.get(1)
        done = rerun(1, evidence=EVIDENCE)
        with pytest.raises(KeyError, match="never begun"):
            archive.record_rerun(done)
        assert archive.begin_rerun(rerun(1))
        with pytest.raises(ValueError, match="no evidence"):
            archive.record_rerun(rerun(1))
        with pytest.raises(ValueError, match="cannot be kept"):
            archive.record_rerun(rerun(1, evidence=replace(EVIDENCE, curve=((1, float("nan")),))))
        assert archive.record_rerun(done)
        assert not archive.record_rerun(rerun(1, evidence=replace(EVIDENCE, seconds=9.0)))
        assert not other.begin_rerun(rerun(1))
        archive.leave_rerun(rerun(1))
        assert other.reruns() == [replace(done, evidence=replace(EVIDENCE, bundle=""))]
        assert other.get(1) == before

    def test_many_threads_begin_a_rerun_once(self, archive: Archive, other: Archive) -> None:
        archive.record(finished(claimed(archive)))
        asked = [(view, rerun(1, seed)) for seed in range(10) for view in (archive, other) for _ in range(3)]
        with ThreadPoolExecutor(8) as threads:
            begun = list(threads.map(lambda pair: pair[0].begin_rerun(pair[1]), asked))
        assert sum(begun) == 10


class TestSqlArchive(ArchiveContract):
    @pytest.fixture
    def archive(self, tmp_path: Path) -> Iterator[SqlArchive]:
        archive = create_archive(tmp_path / "study.db", {})
        yield archive
        archive.close()

    @pytest.fixture
    def other(self, archive: SqlArchive, tmp_path: Path) -> Iterator[SqlArchive]:
        other = open_archive(tmp_path / "study.db")
        yield other
        other.close()

    def test_the_tables_refuse_what_would_be_a_lie(self, archive: SqlArchive, tmp_path: Path) -> None:
        archive.record(finished(claimed(archive)))
        archive.record(finished(claimed(archive)))
        with sqlite3.connect(tmp_path / "study.db") as direct:
            for change in (
                "UPDATE experiments SET fitness = NULL WHERE id = 1",
                "UPDATE experiments SET status = 'proposed' WHERE id = 1",
                "UPDATE experiments SET result = 2 WHERE id = 1",
                "UPDATE experiments SET id = 2 WHERE id = 1",
                "UPDATE experiments SET status = 'done' WHERE id = 1",
            ):
                with pytest.raises(sqlite3.IntegrityError):
                    direct.execute(change)
        direct.close()

    def test_a_person_can_read_it_with_sqlite_alone(self, archive: SqlArchive, tmp_path: Path) -> None:
        archive.record(finished(claimed(archive), 0.75))
        direct = sqlite3.connect(tmp_path / "study.db")
        query = "SELECT id, name, json_extract(record, '$.fitness.terms.error') FROM experiments"
        assert direct.execute(query).fetchall() == [(1, "lines", 0.75)]
        direct.close()

    def test_every_transaction_is_synced_to_a_write_ahead_log(self, archive: SqlArchive) -> None:
        with archive._engine.begin() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


CLAIMER = """
import sys, time
from pathlib import Path
from asi_arch.archive.sql import open_archive
archive = open_archive(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(60):
    print(archive.claim("candidate"), flush=True)
if sys.argv[2] == "stay":
    time.sleep(60)
"""

WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from asi_arch.archive.sql import open_archive
from asi_arch.records import Experiment, from_json
archive = open_archive(Path(sys.argv[1]))
record = from_json(Experiment, sys.argv[2])
while True:
    id = archive.claim("candidate")
    archive.record(replace(record, id=id))
    print(id, flush=True)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip


def test_two_processes_claim_at_once_and_share_no_id(tmp_path: Path) -> None:
    create_archive(tmp_path / "study.db", {}).close()
    processes = [start(CLAIMER, str(tmp_path / "study.db"), "leave") for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    ids = [[int(word) for word in process.communicate("\n")[0].split()] for process in processes]
    assert sorted(ids[0] + ids[1]) == list(range(1, 121))


def test_what_a_living_process_claimed_is_left_to_it_until_it_is_killed(tmp_path: Path) -> None:
    create_archive(tmp_path / "study.db", {}).close()
    process = start(CLAIMER, str(tmp_path / "study.db"), "stay")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert [process.stdout.readline() for _ in range(61)][-1] == "60\n"
    archive = open_archive(tmp_path / "study.db")
    assert archive.adopt("candidate") is None
    process.send_signal(signal.SIGSTOP)
    assert archive.adopt("candidate") is None
    process.kill()
    process.communicate()
    assert archive.adopt("candidate") == 1
    assert len(list((tmp_path / "owners").iterdir())) == 1
    archive.close()
    assert list((tmp_path / "owners").iterdir()) == []


def test_what_was_recorded_survives_a_kill_at_any_instant(tmp_path: Path) -> None:
    create_archive(tmp_path / "study.db", {}).close()
    record, draw, told = to_json(finished(1)), random.Random(0), []
    for _ in range(3):
        process = start(WRITER, str(tmp_path / "study.db"), record)
        assert process.stdout is not None
        told.append(int(process.stdout.readline()))
        threading.Timer(draw.uniform(0.0, 0.15), process.kill).start()
        told += [int(word) for word in process.communicate()[0].split("\n")[:-1]]
    archive = open_archive(tmp_path / "study.db")
    statuses = {e.id: e.status for e in archive.experiments()}
    assert list(statuses) == list(range(1, len(statuses) + 1))
    assert told
    assert {statuses[id] for id in told} == {"finished"}
    assert set(statuses.values()) <= {"finished", "claimed"}
    assert sum(status == "claimed" for status in statuses.values()) <= 3
    archive.close()


def test_a_new_archive_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    entries = [replace(finished(i), status="proposed", fitness=None, ended_at=0.0) for i in (1, 2)]
    with ThreadPoolExecutor(4) as threads:
        made = list(
            threads.map(lambda i: create_archive(tmp_path / "study.db", {"by": str(i)}, entries), range(4))
        )
    assert len({archive.facts()["by"] for archive in made}) == 1
    assert {len(archive.experiments()) for archive in made} == {2}
    assert made[0].adopt("candidate") == 1
    for archive in made:
        archive.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["owners", "study.db"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "schema none|no such table"),
        (b"This is no database." * 300, "not a database"),
        (b"SQLite format 3\0" + b"\1" * 5000, "cannot read"),
    ],
)
def test_a_file_that_is_no_archive_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "study.db").write_bytes(content)
    with pytest.raises(SetupError, match=words) as caught:
        open_archive(tmp_path / "study.db")
    assert "\n" not in str(caught.value)


def test_a_damaged_archive_is_refused_in_one_line(tmp_path: Path) -> None:
    archive = create_archive(tmp_path / "study.db", {})
    for _ in range(40):
        archive.record(finished(claimed(archive)))
    archive.close()
    whole = (tmp_path / "study.db").read_bytes()
    (tmp_path / "study.db").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SetupError, match=r"study\.db") as caught:
        open_archive(tmp_path / "study.db")
    assert "\n" not in str(caught.value)


def test_an_archive_of_an_earlier_program_is_opened_and_gets_the_tables_it_lacks(
    tmp_path: Path,
) -> None:
    archive = create_archive(tmp_path / "study.db", {"settings": "{}"})
    archive.record(finished(claimed(archive)))
    archive.close()
    with sqlite3.connect(tmp_path / "study.db") as direct:
        direct.execute("DROP TABLE calls")
        direct.execute("DROP TABLE reruns")
        direct.execute("UPDATE facts SET value = '1' WHERE name = 'schema'")
    direct.close()
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: open_archive(tmp_path / "study.db"), range(4)))
    assert opened[0].record_call(call(experiment=1)).id == 1
    assert [archive.calls() for archive in opened] == [[call(experiment=1, id=1)]] * 4
    assert opened[3].facts() == {"schema": "3", "settings": "{}"}
    assert opened[3].begin_rerun(rerun(1))
    assert [e.status for e in opened[3].experiments()] == ["finished"]
    for archive in opened:
        archive.close()


def test_an_archive_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    create_archive(tmp_path / "study.db", {}).close()
    with sqlite3.connect(tmp_path / "study.db") as direct:
        direct.execute("UPDATE facts SET value = '99' WHERE name = 'schema'")
    direct.close()
    with pytest.raises(SetupError, match="schema 99"):
        open_archive(tmp_path / "study.db")


def test_a_folder_keeps_its_settings_and_refuses_to_mix_results(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "study"
    create_folder(folder, Settings(seed=3), []).close()
    change_settings(folder, {"experiments": 99, "seed": 3})
    settings, archive = open_folder(folder)
    archive.close()
    assert settings == Settings(seed=3, experiments=99)
    with pytest.raises(SetupError, match=r"'seed' of study .* is 3 and cannot become 4"):
        change_settings(folder, {"seed": 4})
    (folder / "settings.toml").write_text("seed = 4\n")
    with pytest.raises(SetupError, match="'seed'"):
        open_folder(folder)
    (folder / "settings.toml").unlink()
    settings, archive = open_folder(folder)
    archive.close()
    assert settings == Settings(seed=3)


def test_a_folder_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(SetupError, match=r"'thesis\.tex' and no study"):
        create_folder(tmp_path, Settings(), [])
    with pytest.raises(SetupError, match="no study in"):
        open_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study").write_text("text")
    with pytest.raises(SetupError, match="cannot make study folder"):
        create_folder(tmp_path / "study", Settings(), [])


def test_records_go_through_json_and_back() -> None:
    for record in (
        finished(1),
        failed(2),
        Job(space="toy", name="a", source="b", stage=Stage(name="explore", steps=1, learning_rate=0.1)),
    ):
        assert from_json(type(record), to_json(record)) == record
    assert json.loads(to_json(finished(1)))["settings"] == {"seed": 3, "hours": 0.0, "space": "toy"}


def test_the_queries_of_the_documentation_run(archive_of_two: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "archive.md").read_text()
    block = text.split("    sqlite3 study.db\n")[1].split("\nIn Python")[0]
    queries = [query for query in block.split(";") if "SELECT" in query]
    direct = sqlite3.connect(archive_of_two)
    found = [direct.execute(query).fetchall() for query in queries]
    direct.close()
    assert len(found) == 5
    leaders, failures, gains, hours, _ = found
    assert leaders == [(1, "candidate", "lines", 0.5)]
    assert failures == [("source", 1)]
    assert [row[0] for row in gains] == [1]
    assert hours == [(0.5,)]


@pytest.fixture
def archive_of_two(tmp_path: Path) -> Path:
    archive = create_archive(tmp_path / "study.db", {})
    archive.record(finished(claimed(archive), evidence=replace(EVIDENCE, cpu_seconds=1800.0)))
    archive.record(failed(claimed(archive)))
    archive.close()
    return tmp_path / "study.db"
