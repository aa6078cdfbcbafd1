"""A model leads a study of real mixers: a leak is mended after its verdict, the record can be replayed."""

from pathlib import Path
from typing import Any

import pytest
from authored import MARKERS, all_as_found, all_new, id_of, said, summaries
from llm_server import Answer, Asked, Garbage, Reply, Server, Status, Truncated, by_marker, first, use
from llm_study import CANARY

from asi_arch.engineer.pool import LocalPool
from asi_arch.records import Job
from asi_arch.report.story import tell
from asi_arch.report.view import View
from asi_arch.researcher.brief_text import timeless
from asi_arch.spaces.linear_attention.contract import CONTRACT
from asi_arch.study import Study

pytestmark = pytest.mark.slow
EXAMPLE = CONTRACT.split("```python\n")[1].split("```")[0]
LEAK = EXAMPLE.replace(
    "o, memory = simple_gla(", "v = v + 0.1 * v.roll(-1, 1)\n        o, memory = simple_gla("
)
MENDED = LEAK.replace("v.roll(-1, 1)", "v")
WHY = "The seed forgets nothing, so old keys crowd its memory; a decay that each head learns makes room."
FAULTS = (Status(429, "slow down", retry_after=0.05), Status(500, "broken"), Truncated(), Garbage())


def handed_in(name: str, **values: Any) -> Answer:
    return Answer({"name": name, "motivation": WHY, "cognitions": ["2405.21060/1"], **values})


def designer(asked: Asked) -> Reply:
    id, turn = id_of(asked), asked.turn
    if id == 9:
        return use("check", source=LEAK) if turn == 0 else handed_in("Peeking", source=LEAK)
    if id == 10:
        return handed_in("Prose", source="A mixer that forgets." if turn == 0 else EXAMPLE)
    if turn == 0:
        return use("search_cognition", query="forget old keys")
    edits = [{"search": "self.beta(x).sigmoid()", "replace": "(2 * self.beta(x).sigmoid())"}]
    return handed_in("NegativeEigenvalues", edits=edits)


def mender(asked: Asked) -> Reply:
    if asked.turn == 0:
        return use("check", source=MENDED)
    return Answer({"note": "The values rolled backwards in time; they stay in place now.", "source": MENDED})


def what_must_agree(study: Study) -> list[tuple[object, ...]]:
    """All of a real study that two runs must agree on: everything but times."""
    return [
        (
            e.id,
            e.status,
            e.proposal,
            e.repeats,
            e.fitness,
            timeless(e.finding.text if e.finding else ""),
            [(a.source, a.failure.phase, timeless(a.failure.message), a.note) for a in e.attempts],
            [(v.stage, v.seed, v.graph_hash, v.function_hash, v.curve, v.metrics) for v in e.evidence],
        )
        for e in study.archive.experiments()
    ]


def study_of(folder: Path, model: str) -> Study:
    given = {"model": model, "experiments": 3, "seed_runs": 1, "steps": 12, "workers": 1}
    return Study.open_or_create(folder, given | {"selection": "paper"})


def test_a_leak_is_mended_after_its_verdict_and_the_study_can_be_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    roles = {
        "designer": designer,
        "mender": mender,
        "summariser": summaries,
        "novelty": all_new,
        "reader": all_as_found,
    }
    script = first(FAULTS, by_marker({MARKERS[role]: script for role, script in roles.items()}))
    with Server(script) as server:
        study = study_of(tmp_path / "study", f"openai:gpt-5-mini@{server.openai}")
        study.run()
    leaked, prose, negative = study.archive.experiments(kind="candidate")
    assert [e.status for e in (leaked, prose, negative)] == ["finished"] * 3
    [attempt] = leaked.attempts
    assert attempt.failure.phase == "causality"
    verdict, mending = (server.asked(MARKERS[role]) for role in ("designer", "mender"))
    assert "FAILED causality" in verdict[-1].text or any("FAILED causality" in a.text for a in verdict)
    assert "Failed in causality" in mending[0].text
    assert mending[-1].results[-1].endswith("All checks passed.")
    assert any(
        "source: not Python" in fault.message
        for call in study.archive.calls(10)
        for t in call.turns
        for fault in t.faults
    )
    assert negative.proposal is not None
    assert "(2 * self.beta(x).sigmoid())" in negative.proposal.source
    prompt = server.asked("# Brief of experiment 11")[0].text
    assert all(
        words in prompt for words in ("gated_delta_rule(", "## What asi_arch.ops offers", "class Mixer")
    )
    assert "seconds of the mixer x" not in "".join(asked.text for asked in server.requests)
    recorded, calls = what_must_agree(study), study.archive.calls()
    view = View(space=study.space, settings=study.settings, experiments=tuple(study.archive.experiments()))
    titles = [part.title for part in tell(view, leaked, study.archive.calls(leaked.id))]
    assert {"brief", "attempt 1 failed", "attempt 1 to 2", "checks", "scores", "finding", "calls"} <= set(
        titles
    )
    study.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]

    again = study_of(tmp_path / "again", f"replay:{tmp_path / 'study'}")
    again.run()
    assert what_must_agree(again) == recorded
    assert list(map(said, again.archive.calls())) == list(map(said, calls))
    again.close()


def test_a_rewritten_forward_pass_is_the_same_function_and_another_start_is_not(pool: LocalPool) -> None:
    forget = "F.logsigmoid(self.decay(x) + 4)"
    rewritten = EXAMPLE.replace(forget, "-F.softplus(-(4 + self.decay(x)))")
    faster = EXAMPLE.replace("nn.Linear(d_model, num_heads)", "nn.Linear(d_model, num_heads, bias=False)")
    slower = EXAMPLE.replace(forget, "F.logsigmoid(self.decay(x) + 5)")
    sources = (EXAMPLE, rewritten, faster, slower)
    found = [pool.run(Job(space="linear_attention", name="x", source=source)) for source in sources]
    assert [evidence.failure for evidence in found] == [None] * 4
    assert len({evidence.graph_hash for evidence in found}) == 4
    same, again, *others = (evidence.function_hash for evidence in found)
    assert same == again != ""
    assert len({same, *others}) == 3
