"""The command line, as a person meets it: real processes on the toy space, with and without a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from synthetic import study as dice_study

from asi_arch import cli
from asi_arch.calibrate import FILE, measure_baselines, noise_of
from asi_arch.doctor import examine_machine
from asi_arch.engineer import isolation
from asi_arch.live import Board, PlainWatch
from asi_arch.records import Evidence, Failure, Verdict
from asi_arch.space import load_space
from asi_arch.verdicts import verdicts_of

TOY = load_space("toy")
BASELINES = [str(TOY.folder / "baselines" / f"{name}.py") for name in TOY.baselines()]
COMMAND = [sys.executable, "-W", "error", "-m", "asi_arch"]
SECONDS = 90
MINE = (
    'RULE = {"terms": [{"kind": "power", "degree": 3}, {"kind": "wave", "frequency": 5.0, "phase": 0.5}]}\n'
)


def asi_arch(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, words)]
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a finished toy study of six candidates in studies/default."""
    folder = tmp_path_factory.mktemp("home")
    done = asi_arch("run", "--space", "toy", "--experiments", 6, "--workers", 2, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "run.txt").write_text(done.stdout)
    return folder


def test_without_a_terminal_a_run_prints_plain_lines_then_the_table_and_where_the_report_is(home):
    lines = (home / "run.txt").read_text().splitlines()
    events = [line for line in lines if re.match(r"\[\d\d:\d\d:\d\d\] ", line)]
    assert sum("finished: fitness" in line or "failed in" in line for line in events) >= 10
    assert any("6 of 6 candidates" in line for line in events)
    assert not any("\x1b" in line for line in lines)
    assert any("gain error inside" in line and "fitness" in line for line in lines)
    assert any("±" in line and " seed " in line for line in lines)
    assert lines[-1] == "report: studies/default/report/report.md"
    assert (home / "studies/default/report/progress.png").exists()


def test_a_second_run_goes_on_with_the_study_and_measures_what_was_submitted(home, tmp_path):
    mine = tmp_path / "cubic_wave.py"
    mine.write_text(MINE)
    done = asi_arch("submit", mine, "--motivation", "a cubic for the ends", cwd=home)
    assert done.returncode == 0, done.stderr
    number = re.match(r"experiment (\d+);", done.stdout)
    assert number is not None
    again = asi_arch("submit", mine, "--motivation", "again", cwd=home)
    assert again.returncode == 2
    assert f"experiment {number[1]} already" in again.stderr

    done = asi_arch("run", "--experiments", 8, cwd=home)
    assert done.returncode == 0, done.stderr
    assert "8 of 8 candidates" in done.stdout
    started = {line.split()[2] for line in done.stdout.splitlines() if " started: " in line}
    assert started == {number[1], str(int(number[1]) + 1)}
    shown = asi_arch("show", number[1], cwd=home).stdout
    assert "cubic_wave\ncandidate, finished with fitness" in shown
    assert "author person" in shown


def test_a_study_keeps_its_space(home):
    done = asi_arch("run", "--space", "linear_attention", cwd=home)
    assert done.returncode == 2
    assert done.stderr.startswith("asi-arch: setting 'space' of study studies/default is 'toy'")
    assert done.stderr.count("\n") == 1


def test_best_puts_candidates_among_baselines(home):
    done = asi_arch("best", "--count", 3, cwd=home)
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(" #")]
    kinds = [row[2] for row in rows]
    assert kinds.count("candidate") == 3
    assert {"seed", "baseline", "reference"} <= set(kinds)
    fitness = [float(row[3]) for row in rows]
    assert fitness == sorted(fitness, reverse=True)


def test_show_tells_motivation_difference_checks_scores_and_finding(home):
    number = re.search(r"best #?(\d+)", (home / "run.txt").read_text().split("best candidate is")[0])
    assert number is not None
    shown = asi_arch("show", number[1], cwd=home).stdout
    for title in ("motivation", "difference to #", "checks", "scores", "finding"):
        assert re.search(rf"^{title}", shown, re.MULTILINE), title
    assert re.search(r"^\+", shown, re.MULTILINE)
    source = asi_arch("show", number[1], "--source", cwd=home).stdout
    assert "RULE = " in source
    assert "motivation" not in source.splitlines()[0]


def test_showing_what_is_not_there_says_what_is(home):
    done = asi_arch("show", 4711, cwd=home)
    assert done.returncode == 2
    assert "no experiment 4711" in done.stderr


def test_a_report_can_be_written_elsewhere(home, tmp_path):
    done = asi_arch("report", "--out", tmp_path / "elsewhere", cwd=home)
    assert done.stdout == f"report: {tmp_path / 'elsewhere' / 'report.md'}\n"
    assert "# Study in the space toy" in (tmp_path / "elsewhere" / "report.md").read_text()


def test_commands_on_a_study_that_is_not_there_say_so_in_one_line(tmp_path):
    for words in (["best"], ["report"]):
        done = asi_arch(*words, "--study", "nowhere", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr == (
            "asi-arch: no study in nowhere; name a study's folder, or start one with `asi-arch run`\n"
        )
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--experimnts", "3"], "asi-arch run: No such option: --experimnts"),
        (["bogus"], "asi-arch: No such command 'bogus'; `asi-arch --help` tells what it takes"),
        (["show"], "asi-arch show: Missing argument 'ID'; `asi-arch show --help` tells what it takes"),
        (["show", "x"], "asi-arch show: Invalid value for 'ID'"),
        (["best", "--count"], "asi-arch"),
        (["cognition", "serch", "x"], "asi-arch cognition: No such command 'serch'. Did you mean 'search'?"),
    ],
)
def test_a_wrong_command_line_gets_one_line_that_names_the_fault_and_the_cure(words, expected, tmp_path):
    done = asi_arch(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(expected)
    assert "--help` tells what it takes" in done.stderr


def test_a_command_that_lacks_one_prints_its_help(tmp_path):
    for words in ([], ["cognition"]):
        done = asi_arch(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("Usage: asi-arch")
        assert "Commands:" in done.stderr


def test_check_as_json_gives_one_object_a_line_in_the_order_of_the_files(tmp_path):
    files = [*BASELINES, *(str(path) for path in sorted((TOY.folder / "rejects").glob("*.py")))]
    done = asi_arch("check", "--json", "--space", "toy", "--workers", 2, *files, cwd=tmp_path)
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["file"] for entry in found] == files
    for entry in found:
        assert list(entry) == ["file", "passed", "failed", "checks"]
        assert all(list(check) == ["name", "passed", "message"] for check in entry["checks"])
        assert entry["failed"] == [check["name"] for check in entry["checks"] if not check["passed"]]
        assert entry["passed"] is (not entry["failed"])
        if "rejects" in entry["file"]:
            assert Path(entry["file"]).stem in entry["failed"]


WEAK = """
import sys
from asi_arch.engineer import isolation
isolation.detect = isolation.Isolation  # a machine that offers nothing
from asi_arch.cli import main
sys.argv = ["asi-arch", *sys.argv[1:]]
main()
"""


def on_a_weak_machine(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", WEAK, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.parametrize(
    "words",
    [("run", "--space", "toy"), ("check", "--space", "toy", BASELINES[0]), ("baselines", "--space", "toy")],
)
def test_require_isolation_refuses_a_machine_that_offers_none_and_makes_nothing(tmp_path, words):
    done = on_a_weak_machine(*words, "--require-isolation", cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"asi-arch: isolation is weak: .*--require-isolation was given; .+\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_weak_machine_is_told_of_once_and_only_where_a_candidates_code_runs(monkeypatch, capsys):
    monkeypatch.setattr(isolation, "detect", isolation.Isolation)
    cli._tell_isolation(TOY)
    cli._tell_isolation(load_space("linear_attention"))
    heard = capsys.readouterr()
    assert heard.out == ""
    assert re.fullmatch(r"isolation weak: .*; for more: .+\n", heard.err)


def test_what_contains_candidates_is_found_by_the_doctor():
    [found] = [symptom for symptom in examine_machine() if symptom.name == "isolation"]
    assert found.state.split(":")[0] in ("full", "strong", "weak")
    assert bool(found.cure) == ("; not " in found.state)


def test_check_ends_with_0_when_all_passed_and_prints_a_table(tmp_path):
    done = asi_arch("check", "--space", "toy", BASELINES[0], cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{BASELINES[0]}: passed")
    assert re.search(r"budget +passed +7 FLOPs", done.stdout)


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_check_ends_with_2_and_checks_nothing_when_a_file_cannot_be_read(tmp_path, kind):
    bad = tmp_path / "bad.py"
    if kind == "folder":
        bad.mkdir()
    elif kind == "binary":
        bad.write_bytes(b"\xff\xfe\x00")
    done = asi_arch("check", "--json", "--space", "toy", BASELINES[0], bad, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"asi-arch: cannot read {bad}: ")
    assert done.stderr.endswith("; nothing was done\n")


def test_a_failure_that_no_check_stands_for_becomes_a_verdict():
    passed = Verdict(name="source", passed=True, message="fine")
    failure = Failure(phase="graph", kind="timeout", message="no graph in 100 s")
    evidence = Evidence(stage="checks", seed=0, source_hash="x", checks=(passed,), failure=failure)
    assert verdicts_of(evidence) == (passed, Verdict(name="graph", passed=False, message="no graph in 100 s"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "--set", "spce=toy"], "unknown setting 'spce' in --set; did you mean 'space'?"),
        (["run", "--set", "seed"], "--set 'seed' has no '='; write --set key=value"),
        (["run", "--space", "nowhere"], "no space 'nowhere'; built in are "),
        (["run", "--config", "none.toml"], "cannot read settings file none.toml"),
        (["baselines", "--space", "toy", "--stage", "final"], "space 'toy' has no stage 'final'"),
    ],
)
def test_a_users_fault_is_one_line_on_stderr_and_exit_code_2(tmp_path, words, told):
    done = asi_arch(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"asi-arch: {told}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_baselines_are_measured_once_and_again_only_where_something_is_new(tmp_path):
    told: list[str] = []
    stage = TOY.stages["explore"]
    first = measure_baselines(TOY, stage, 2, 2, tmp_path, told.append)
    assert len(told) == 2 * len(TOY.baselines())
    with (tmp_path / FILE).open("a") as file:
        file.write('{"key": "line/cut off by a ki')
    told.clear()
    second = measure_baselines(TOY, stage, 3, 2, tmp_path, told.append)
    assert len(told) == len(TOY.baselines())
    assert {name: runs[:2] for name, runs in second.items()} == first
    assert [run.seed for run in second["line"]] == [0, 1, 2]
    told.clear()
    assert measure_baselines(TOY, stage, 3, 2, tmp_path, told.append) == second
    assert told == []
    noise = noise_of(TOY, second)
    assert 0 < noise["inside"] < 0.1


def test_settings_print_as_a_file_that_config_takes(tmp_path):
    printed = asi_arch("settings", cwd=tmp_path).stdout
    (tmp_path / "mine.toml").write_text(printed.replace('space = "linear_attention"', 'space = "nowhere"'))
    done = asi_arch("run", "--config", "mine.toml", cwd=tmp_path)
    assert "no space 'nowhere'" in done.stderr


def test_the_doctor_looks_at_python_packages_machine_and_isolation():
    symptoms = examine_machine()
    names = [symptom.name for symptom in symptoms]
    assert names == [
        "Python",
        "packages",
        "torch",
        "processors",
        "memory",
        "isolation",
        "language models",
        "ruff",
    ]
    assert all(symptom.state for symptom in symptoms)


def interrupted(folder: Path, experiments: int, wait_for: str, signals: int) -> tuple[int, str]:
    """Run on a terminal of our own, interrupt once `wait_for` is drawn; give exit code and all output."""
    parent, child = pty.openpty()
    words = ["run", "--space", "toy", "--experiments", str(experiments), "--workers", "1"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=folder, stdin=child, stdout=child, stderr=child, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(child)
    output, deadline = b"", time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if select.select([parent], [], [], 0.1)[0]:
            try:
                output += os.read(parent, 65536)
            except OSError:  # the other end is closed
                break
        if signals and wait_for.encode() in output:
            os.kill(process.pid, signal.SIGINT)
            signals -= 1
            wait_for = "stopping"
    os.close(parent)
    return process.wait(SECONDS), output.decode()


def test_on_a_terminal_a_board_is_drawn_and_ctrl_c_stops_it_so_that_a_run_goes_on(tmp_path):
    code, output = interrupted(tmp_path, 400, "of 400 candidates", 1)
    assert code == 130
    assert "workers" in output
    assert "best so far" in output
    assert "stopping: the next run does again what runs now" in output
    assert "the same command goes on from here" in output
    assert "Traceback" not in output
    again = asi_arch("best", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_plain_lines_tell_pace_time_left_and_the_standing():
    view = dice_study(20)
    seconds = iter(range(0, 100_000, 60))
    board = Board(view, clock=lambda: float(next(seconds)))
    out = StringIO()
    watch = PlainWatch(board, out)
    candidate = next(e for e in reversed(view.experiments) if e.fitness)
    watch.started(candidate, 0)
    watch.finished(candidate, 0)
    lines = out.getvalue().splitlines()
    assert re.fullmatch(r"\[\d\d:\d\d:\d\d\] experiment 25 started: two_states_25, a child of #24", lines[0])
    assert "experiment 25 two_states_25 finished: fitness 0.448 (21 of 16 candidates, " in lines[1]
    assert "an hour" in lines[1]
    assert "best #20 token_shift_20 0.669; best baseline gated_delta_net 0.500)" in lines[1]


def test_every_command_has_one_line_of_help_that_is_not_cut_off(tmp_path):
    listed = asi_arch("--help", cwd=tmp_path).stdout
    commands = re.findall(r"^  (\w+)  +\S", listed.split("Commands:")[1], re.MULTILINE)
    assert {"run", "best", "show", "check", "submit", "report", "baselines", "doctor"} <= set(commands)
    assert "..." not in listed.split("Commands:")[1]
