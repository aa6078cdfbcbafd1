"""A coding agent sits in the researcher's seat: over stdio and HTTP, several at once, killed at any time."""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import httpx2
import pytest
from agent import TOKEN, WHY, Fault, Server, over_http, over_stdio, rule, serving
from toy import HerePool, copy_study, outcome, toy_study

from asi_arch.archive.sql import open_archive
from asi_arch.records import Experiment, Proposal
from asi_arch.seats.claims import Claims, Refusal
from asi_arch.seats.seats import Seats

RULES = {f"Power{d}": rule(1, d) for d in (3, 4, 5, 6, 7, 8)}


def experiments(folder: Path) -> dict[int, Experiment]:
    archive = open_archive(folder / "study.db")
    with closing(archive):
        return {e.id: e for e in archive.experiments()}


def run_async(do: Callable[[], Awaitable[None]]) -> None:
    anyio.run(do)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose baselines are measured, to be copied."""
    folder = tmp_path_factory.mktemp("measured") / "study"
    study = toy_study(folder, experiments=40, selection="paper")
    study.prepare()
    study.close()
    return folder


@pytest.fixture
def folder(measured: Path, tmp_path: Path) -> Path:
    return copy_study(measured, tmp_path / "study")


@pytest.fixture(scope="module")
def server(measured: Path) -> Iterator[Server]:
    """A server for questions that change nothing."""
    with serving(measured, "--workers", "0") as running:
        yield running


def test_an_agent_of_a_study_without_cognition_is_not_sent_to_search(tmp_path: Path) -> None:
    values = ("--set", "experiments=1", "--set", "without=cognition")

    async def work() -> None:
        async with over_stdio(tmp_path / "new", *values) as agent:
            brief = await agent.ask("get_brief")
            assert "name=..., motivation=..., source=...). The parent is #" in brief
            assert "search_cognition" not in brief
            assert "no knowledge from papers" in await agent.ask("search_cognition", query="error outside")

    run_async(work)


def test_an_agent_over_stdio_brings_three_experiments_of_a_new_study_to_their_end(tmp_path: Path) -> None:
    folder = tmp_path / "new"

    async def work() -> None:
        async with over_stdio(folder, "--set", "experiments=3", "--set", "selection=paper") as agent:
            names = [tool.name for tool in (await agent.session.list_tools()).tools]
            assert names == ["get_brief", "search_cognition", "read_experiment", "check", "submit",
                             "wait_for_result", "leaderboard", "give_up"]  # fmt: skip
            for name, source in list(RULES.items())[:3]:
                id = await agent.brief()
                await agent.design(id, name, source, cognitions=["2006.08195/1"])
                assert f"#{id} {name} finished: fitness 0." in await agent.result(id)
                assert f"#{id}  | {name}" in await agent.ask("leaderboard")
                assert source.strip() in await agent.ask("read_experiment", experiment=id)
            assert "there is no further brief" in await agent.ask("get_brief")

    run_async(work)
    found = experiments(folder)
    assert [found[id].status for id in range(1, 8)] == ["finished"] * 7
    mine = found[5].proposal
    assert mine is not None
    assert (mine.author, mine.name, mine.motivation) == ("agent Test-Agent", "Power3", WHY)
    assert (mine.parents, mine.cognitions) == ((1,), ("2006.08195/1",))
    assert not list((folder / "owners").iterdir())  # it ended as one should, and let go of everything


def test_two_agents_over_http_work_side_by_side_on_briefs_of_their_own(folder: Path) -> None:
    briefs: dict[str, list[int]] = {"a": [], "b": []}
    rules = iter(RULES.items())

    async def work(server: Server, seat: str) -> None:
        async with over_http(server.address) as agent:
            for _ in range(3):
                id = await agent.brief(seat=seat)
                assert await agent.brief(seat=seat, short=True) == id  # a named seat keeps its brief
                briefs[seat].append(id)
                await agent.design(id, *next(rules), seat=seat)
                assert "finished: fitness" in await agent.result(id)

    async def both(server: Server) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(work, server, "a")
            group.start_soon(work, server, "b")

    with serving(folder) as server:
        run_async(lambda: both(server))
        assert server.end(signal.SIGTERM) == (0, "")
    assert sorted(briefs["a"] + briefs["b"]) == [5, 6, 7, 8, 9, 10]
    found = experiments(folder)
    for seat, ids in briefs.items():
        authors = {p.author for id in ids if (p := found[id].proposal)}
        assert authors == {f"agent {seat}"}  # no session is kept, so none has a client's name
    assert not list((folder / "owners").iterdir())


def test_a_brief_tells_all_that_an_agent_needs(server: Server) -> None:
    async def work() -> None:
        async with over_http(server.address) as agent:
            whole, short = (
                await agent.ask("get_brief", seat="w"),
                await agent.ask("get_brief", seat="w", short=True),
            )
            for title in ("Contract", "Parent: #1", "References", "Findings of this study", "Knowledge from",
                          "How the score is made", "What the checks measured on the parent", "Standing",
                          "What is expected of you now"):  # fmt: skip
                assert f"## {title}" in whole
            assert "## Contract" not in short
            known = await agent.ask("search_cognition", query="a wave inside", k=1)
            assert "[2006.10739/1]" in known
            assert re.search(r"\nFound by words 1\., in .*trigger: .*inside", known)
            other = await agent.ask("get_brief", seat="x")
            assert "from #1, by agent w: being designed" in other

    run_async(work)


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("get_brief", {"seat": "x" * 50}, "seat: String should have at most 40 characters"),
        ("get_brief", {"short": "perhaps"}, "short: Input should be a valid boolean"),
        ("search_cognition", {}, "query: Field required"),
        ("search_cognition", {"query": "wave", "k": 0}, "k: Input should be greater than or equal to 1"),
        ("read_experiment", {"experiment": 99}, "there is no experiment 99; this study has 1 to"),
        ("read_experiment", {"experiment": 10**30}, "there is no experiment"),
        ("read_experiment", {"experiment": "first"}, "experiment: Input should be a valid integer"),
        ("check", {"source": 7}, "source: Input should be a valid string"),
        ("check", {"source": "", "experiment": -1}, "should be greater than or equal to 0"),
        ("submit", {"experiment": 1}, "name: Field required"),
        ("submit", {"name": "no name"}, "name: 'no name' must be 3 to 60 letters"),
        ("submit", {"motivation": "better"}, "motivation: at least 60 characters"),
        ("submit", {"cognitions": ["1/1"]}, "cognitions: there is no 1/1; name ids as the brief"),
        ("submit", {"parents": [99]}, "there is no experiment 99"),
        ("submit", {"experiment": 2, "source": rule(3)}, "experiment 2 is the baseline parabola"),
        ("submit", {"source": "RULE = "}, "refused, nothing was handed in. FAILED"),
        ("submit", {"source": rule(1)}, "is the same program as experiment 1, line"),
        ("submit", {"source": rule(2, 1)}, "as experiment 2, parabola; nothing is measured twice"),
        ("wait_for_result", {"experiment": 99}, "there is no experiment 99"),
        ("wait_for_result", {"experiment": 1, "seconds": 601}, "should be less than or equal to 600"),
        ("leaderboard", {"top": -1}, "top: Input should be greater than or equal to 0"),
        ("give_up", {"experiment": 1}, "experiment 1 is not in your hands"),
        ("give_up", {"experiment": 99}, "there is no experiment 99"),
        ("get_breif", {}, "Unknown tool: get_breif"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_words(
    server: Server, tool: str, arguments: dict[str, object], told: str
) -> None:
    good = {"name": "Cubic", "motivation": WHY, "source": rule(1, 3)}

    async def work() -> None:
        async with over_http(server.address) as agent:
            given = arguments
            if tool == "submit" and arguments != {"experiment": 1}:
                given = {"experiment": await agent.brief(seat="bad"), **good, **arguments}
            with pytest.raises(Fault) as fault:
                await agent.ask(tool, **given)
            assert told in str(fault.value)

    run_async(work)


def test_who_has_no_token_gets_nothing(server: Server) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        answer = httpx2.post(server.address, headers=headers, json={})
        assert answer.status_code == 401
        assert TOKEN not in answer.text
    good = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx2.post(server.address, headers=good | {"Host": "evil.example"}, json={}).status_code == 421


def test_a_token_is_made_once_and_only_its_owner_can_read_it(folder: Path) -> None:
    with serving(folder, "--workers", "0", token="") as server:
        [line] = [line for line in server.log if line.startswith("token")]
        token = (folder / "mcp-token").read_text()
        assert stat.S_IMODE((folder / "mcp-token").stat().st_mode) == 0o600
        assert token in line
        assert len(token) > 40

        async def work() -> None:
            async with over_http(server.address, token) as agent:
                assert await agent.brief() == 5

        run_async(work)
        assert server.end(signal.SIGINT) == (0, "")
    with serving(folder, "--workers", "0", token="") as server:
        assert not any(token in line for line in server.log)
        assert (folder / "mcp-token").read_text() == token


def test_a_port_that_is_taken_and_a_short_token_are_one_line(folder: Path, server: Server) -> None:
    port = server.address.split(":")[2].split("/")[0]
    command = [sys.executable, "-m", "asi_arch", "mcp", "--http", "--study", str(folder)]
    for option, token, told in (
        (port, TOKEN, f"cannot use port {port}"),
        ("0", "short", "give it 16 or more"),
    ):
        done = subprocess.run(
            [*command, "--port", option],
            env={**os.environ, "ASI_ARCH_MCP_TOKEN": token},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert told in done.stderr.splitlines()[-1]


def test_a_killed_server_loses_nothing_and_agents_go_on_with_their_claims(folder: Path) -> None:
    async def before(server: Server) -> None:
        async with over_http(server.address) as agent:
            first, second = await agent.brief(seat="a"), await agent.brief(seat="b")
            assert (first, second) == (5, 6)
            await agent.design(first, "Power3", RULES["Power3"], seat="a")

    async def after(server: Server) -> None:
        async with over_http(server.address) as agent:
            assert await agent.brief(seat="c") == 7  # 6 is still another's
            assert await agent.brief(seat="b") == 6
            await agent.design(6, "Power4", RULES["Power4"], seat="b")
            for id in (5, 6):
                assert "finished: fitness" in await agent.result(id)

    with serving(folder, "--workers", "0") as server:
        run_async(lambda: before(server))
        server.kill()
    known = experiments(folder)
    assert known[5].status == "proposed"
    assert [e.stage for e in known[5].evidence] == ["checks"]  # they need not run again
    with serving(folder) as server:
        run_async(lambda: after(server))
    found = experiments(folder)
    assert found[5].proposal == known[5].proposal
    assert [e.stage for e in found[5].evidence] == ["checks", "explore"]


def test_a_killed_agent_takes_its_server_along_and_its_claim_is_given_on_when_it_expires(
    folder: Path,
) -> None:
    text = (folder / "settings.toml").read_text()
    (folder / "settings.toml").write_text(text.replace("claim_minutes = 60.0", "claim_minutes = 0.1"))
    command = [sys.executable, str(Path(__file__).parent / "agent.py"), str(folder)]
    vanished = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert vanished.stdout is not None
    assert vanished.stdout.readline() == "5\n"
    claimed = time.time()
    vanished.kill()
    vanished.communicate()
    owners = folder / "owners"
    while list(owners.iterdir()):  # its server sees that it is gone
        assert time.time() < claimed + 30
        time.sleep(0.05)

    async def work(server: Server) -> None:
        async with over_http(server.address) as agent:
            if time.time() < claimed + 5:
                assert await agent.brief(seat="b") == 6  # kept for the one that vanished
            await anyio.sleep(max(0.0, claimed + 6.5 - time.time()))
            assert await agent.brief(seat="c") == 5
            late = await agent.design(
                5, "Power3", RULES["Power3"], seat="late"
            )  # the one that vanished is back
            moved = re.match(
                r"Experiment 5 is somebody else's since your claim ended; yours is (\d+)\. ", late
            )
            assert moved, late
            assert "finished: fitness" in await agent.result(int(moved[1]))

    with serving(folder) as server:
        run_async(lambda: work(server))


def test_a_symbolic_run_beside_measures_what_agents_hand_in_and_learns_from_it(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "asi_arch",
        "run",
        "--study",
        str(folder),
        "--set",
        "researcher=agent:1,symbolic:4",
    ]
    command += ["--experiments", "15"]

    async def work(server: Server) -> None:
        async with over_http(server.address) as agent:
            first = await agent.brief()
            await agent.design(first, "Power5", RULES["Power5"])
            assert "This server measures nothing" in await agent.ask("leaderboard")
            beside = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert "finished: fitness" in await agent.result(first)
            second = await agent.brief()
            await agent.design(second, "Power6", RULES["Power6"])
            out, _ = await anyio.to_thread.run_sync(beside.communicate)
            assert beside.returncode == 0, out
            found = experiments(folder)
            if found[second].status != "finished":
                subprocess.run([*command[:-2], "--experiments", "16"], check=True, capture_output=True)
            assert "finished: fitness" in await agent.result(second)

    with serving(folder, "--workers", "0") as server:
        run_async(lambda: work(server))
    found = experiments(folder)
    authors = [e.proposal.author.split()[0] for e in found.values() if e.proposal and e.kind == "candidate"]
    assert authors.count("agent") == 2
    assert authors.count("symbolic") >= 12
    assert {e.status for e in found.values()} <= {"finished", "failed"}


def seats_of(folder: Path, workers: int = 0, **values: int | float | str) -> Seats:
    return Seats(toy_study(folder, HerePool(), **{"experiments": 40} | values), workers)


def design(seats: Seats, id: int, name: str, source: str, author: str = "agent a") -> Experiment:
    return seats.submit(id, Proposal(name=name, motivation=WHY, source=source, author=author), 30)


def claim(seats: Seats, author: str = "agent a", seat: str = "") -> int:
    brief = seats.claim(author, seat, 0)
    assert brief is not None
    return brief.id


def test_what_repeats_another_is_refused_with_its_name_and_kept_on_record(folder: Path) -> None:
    with closing(seats_of(folder)) as seats:
        first, second = claim(seats), claim(seats)
        design(seats, first, "Cubic", rule(1, 3))
        same = rule(1, 3).replace("RULE", "# a comment\nRULE")
        with pytest.raises(Refusal, match=f"Again is the same program as experiment {first}, Cubic"):
            design(seats, second, "Again", same)
        with pytest.raises(Refusal, match=f"Turned is the same (graph|function) as experiment {first}"):
            design(seats, second, "Turned", rule(3, 1))
        kept = seats.claims.get(second)
        assert next((r.name, r.of, r.basis) for r in kept.repeats) == ("Again", first, "program")
        assert kept.status == "claimed"
        brief = seats.claim("agent a", "", 0)
        assert brief is not None
        assert brief.id == second + 1  # the second is still held
        assert design(seats, second, "Fourth", rule(1, 4)).status == "proposed"


def test_a_source_that_fails_a_check_is_an_attempt_and_not_the_end(folder: Path) -> None:
    with closing(seats_of(folder)) as seats:
        id = claim(seats)
        for _ in range(2):
            checked = seats.check(rule(1, 9), id, 30)
            assert checked is not None
            assert checked.failure is not None
        with pytest.raises(Refusal):
            design(seats, id, "Ninth", rule(1, 9))
        kept = seats.claims.get(id)
        assert [attempt.source for attempt in kept.attempts] == [rule(1, 9)]
        assert design(seats, id, "Third", rule(1, 3)).attempts == kept.attempts


def test_an_answer_that_was_lost_may_be_asked_again_and_another_design_may_not(folder: Path) -> None:
    with closing(seats_of(folder)) as seats:
        id = claim(seats)
        assert design(seats, id, "Third", rule(1, 3)) == design(seats, id, "Third", rule(1, 3))
        with pytest.raises(Refusal, match=f"experiment {id} was handed in before, as Third"):
            design(seats, id, "Fourth", rule(1, 4))
        assert (
            design(seats, id, "Fourth", rule(1, 4), author="agent b").id == id + 1
        )  # whose claim had expired


def test_an_agents_design_is_never_replaced_when_its_graph_turns_out_to_be_known(folder: Path) -> None:
    with closing(seats_of(folder, experiments=2)) as seats:
        study, ids = seats.study, (claim(seats), claim(seats))
        for id, source in zip(ids, (rule(1, 3), rule(3, 1)), strict=True):
            drafted = study.archive.get(id)
            assert drafted.proposal is not None
            proposal = replace(drafted.proposal, name=f"Cubic{id}", source=source)
            seats.claims.hand_in(id, lambda e, p=proposal: replace(e, status="proposed", proposal=p))
        study.run()
        first, second = (study.archive.get(id) for id in ids)
        assert first.status == "finished"
        assert second.failure is not None
        assert (second.failure.phase, second.proposal and second.proposal.name) == (
            "novelty",
            f"Cubic{ids[1]}",
        )


def test_claims_count_and_a_brief_that_is_given_up_goes_to_the_next(folder: Path) -> None:
    study = toy_study(folder, HerePool(), experiments=2)
    with closing(Seats(study, 0)) as seats:
        first, second = claim(seats), claim(seats)
        assert seats.claim("agent b", "", 0) is None
        seats.claims.give_up(first)
        assert study.archive.get(first).proposal is None
        with pytest.raises(Refusal, match="nothing to give up"):
            seats.claims.give_up(1)
        assert claim(seats, "agent b") == first
        assert second == first + 1


def test_any_call_renews_a_claim_and_silence_ends_it(folder: Path) -> None:
    study = toy_study(folder, HerePool(), experiments=9)
    claims = Claims(study.archive, study.choice, 0.5)
    try:
        first = claims.claim("agent a", "", 9)
        assert first is not None
        for _ in range(4):
            time.sleep(0.2)
            claims.renew(first.id)
        second = claims.claim("agent b", "", 9)
        assert second is not None
        assert second.id == first.id + 1
        assert study.archive.get(first.id).claimed_at > first.claimed_at + 0.5  # seen from outside too
        time.sleep(0.6)
        third = claims.claim("agent c", "", 9)
        assert third is not None
        assert third.id == first.id
    finally:
        study.close()


def test_without_baselines_there_is_no_brief_and_the_reason_is_told(tmp_path: Path) -> None:
    with closing(seats_of(tmp_path / "new")) as seats, pytest.raises(Refusal) as told:
        claim(seats)
    assert "0 of 4 baselines are measured" in str(told.value)
    assert "`asi-arch run` must run on the study beside it" in str(told.value)


def test_a_server_that_is_closed_while_it_measures_loses_nothing(folder: Path) -> None:
    sources = {f"Power{d}": rule(1, d) for d in (3, 4, 5)}
    seats = Seats(toy_study(folder, HerePool(0.2), experiments=9), 1)
    for name, source in sources.items():
        design(seats, claim(seats), name, source)
    seats.start()
    time.sleep(0.3)
    seats.close()
    with closing(toy_study(folder, experiments=3)) as study:
        study.run()
        found = outcome(study)
    assert [row[2] for row in found[4:]] == ["finished"] * 3


def test_authors_are_told_the_sizes_that_are_trained() -> None:
    from asi_arch.spaces.linear_attention.model import RECIPE
    from asi_arch.spaces.linear_attention.space import SPACE

    sizes = (RECIPE.d_model, RECIPE.num_heads, RECIPE.num_layers, RECIPE.length, RECIPE.vocab)
    told = "D = {}, H = {} (K = V = 32 if heads share D evenly), {} layers, T = {} tokens, {} token values"
    assert told.format(*sizes) in SPACE.recipe
    assert [share.rows for share in RECIPE.tasks] == [8, 8]
    assert RECIPE.warm_up == 0.1


@pytest.mark.slow
def test_an_agent_designs_a_real_mixer(tmp_path: Path) -> None:
    """A real space, with a short training: the checks are the real ones."""
    from asi_arch.space import load_space

    space = load_space("linear_attention")
    source = space.baseline_source("gated_delta_net").replace("kernel_size=4", "kernel_size=3")
    options = ["--space", "linear_attention", "--set", "steps=20", "--set", "seed_runs=1"]

    async def work() -> None:
        async with over_stdio(tmp_path / "real", *options) as agent:
            while True:
                with contextlib.suppress(Fault):  # the baselines are being measured
                    id = await agent.brief()
                    break
            answer = "still running"
            while "still running" in answer:
                answer = await agent.ask(
                    "check", source=source.replace("import torch", "import os"), experiment=id
                )
            assert "FAILED source: line " in answer
            answer = "still running"
            while "still running" in answer:
                answer = await agent.ask("check", source=source, experiment=id)
            assert "checks passed" in answer, answer
            await agent.ask("submit", experiment=id, name="NarrowConv", motivation=WHY, source=source)
            while "Next: get_brief" not in (
                told := await agent.ask("wait_for_result", experiment=id, seconds=60)
            ):
                pass
            assert f"#{id} NarrowConv finished: fitness 0." in told

    run_async(work)
