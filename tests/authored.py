"""What tests of the model researcher share: a toy study whose model is a server that the test scripts.

The model's answers depend on what was asked alone, so a study that is killed or run by several workers gets
the same ones.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llm_server import Answer, Asked, Reply, Server, by_marker
from llm_study import KEYS, NAMES
from toy import HerePool, toy_study

from asi_arch.calls import Call
from asi_arch.records import Experiment
from asi_arch.report.view import View
from asi_arch.study import Silent, Study

MARKERS = {
    "designer": "You design neural",
    "mender": "You mend programs",
    "summariser": "You sum up",
    "novelty": "You judge whether",
    "judge": "You judge architectures",
    "analyst": "You explain the result",
    "reader": "You choose what a designer",
}
MOTIVATION = "The parent bends nowhere, so its error is large on both sides of the kink; {} bends there."
Script = Callable[[Asked], Reply]


def rule(*terms: Mapping[str, Any]) -> str:
    return f'RULE = {{"terms": {list(terms)}}}\n'


def hinge(at: float) -> dict[str, Any]:
    return {"kind": "hinge", "at": at}


LINE = {"kind": "power", "degree": 1}


def design(source: str = "", name: str = "Hinge", **values: Any) -> Answer:
    given = {"name": name, "motivation": MOTIVATION.format(name), "source": source} | values
    return Answer({key: value for key, value in given.items() if value != ""})


def id_of(asked: Asked) -> int:
    """The experiment that a designer is asked for."""
    found = re.search(r"# Brief of experiment (\d+)", asked.text)
    assert found, asked.text[:200]
    return int(found[1])


def a_hinge_for_each(asked: Asked) -> Reply:
    """A designer whose every experiment is another hinge."""
    id = id_of(asked)
    return design(rule(LINE, hinge(id / 20)), name=f"Hinge{id}")


def summaries(asked: Asked) -> Reply:
    """A summariser: a line for each experiment that it is shown."""
    ids = [int(id) for id in re.findall(r"^# #(\d+) ", asked.text, re.MULTILINE)]
    return Answer({"summaries": [{"id": id, "text": f"Summary of {id}."} for id in ids]})


def all_new(_: Asked) -> Reply:
    """A judge of novelty that finds nothing repeated."""
    return Answer({"repeats": 0, "reason": "None has this mechanism."})


def marks(*values: float, reason: str = "It bends.") -> Answer:
    """A judge's answer: four marks, or one for all."""
    four = values * 4 if len(values) == 1 else values
    names = ("innovation", "complexity", "efficiency", "correctness")
    return Answer({**dict(zip(names, four, strict=True)), "reason": reason})


def all_as_found(_: Asked) -> Reply:
    """A reader of knowledge who puts none before the others."""
    return Answer({"ids": []})


def all_middling(_: Asked) -> Reply:
    """A judge to whom everything is as good as the seed."""
    return marks(5)


def plain_words(asked: Asked) -> Reply:
    """An analyst that says which experiment it was shown."""
    found = re.search(r"# The experiment #(\d+) ", asked.text)
    assert found, asked.text[:200]
    told = {
        "expected": "A smaller error inside.", "happened": "It fell.",
        "component": f"The hinge of {found[1]} did it.", "advice": "Move the hinge.",
    }  # fmt: skip
    parts = [{"name": "hinge", "origin": "original", "reason": "No paper and no experiment has it."}]
    return Answer({**told, "query": "bend error outside hinge", "components": parts})


def model(**scripts: Script) -> Script:
    """A model with a script for each role."""
    roles = {
        "designer": a_hinge_for_each,
        "summariser": summaries,
        "novelty": all_new,
        "judge": all_middling,
        "analyst": plain_words,
        "reader": all_as_found,
    } | scripts
    return by_marker({MARKERS[role]: script for role, script in roles.items()})


class Messages(Silent):
    """Keeps what a person was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def message(self, text: str) -> None:
        self.told.append(text)


@contextmanager
def authored(
    folder: Path, script: Script, pool: HerePool | None = None, protocol: str = "openai", **values: Any
) -> Iterator[tuple[Study, Server]]:
    """Give a toy study that is led by a scripted model, and the model's server."""
    with pytest.MonkeyPatch.context() as patch, Server(script) as server:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.setattr("asi_arch.llm.live.FIRST_WAIT", 0.01)
        address = f"{protocol}:{NAMES[protocol]}@{getattr(server, protocol)}"
        given = {"model": address, "experiments": 1, "seed_runs": 1, "selection": "paper"} | values
        study = toy_study(folder, pool, **given)
        try:
            yield study, server
        finally:
            study.close()


def said(call: Call) -> Call:
    """A call without what differs from run to run: its number and its times."""
    return replace(call, id=0, started_at=0.0)


def view_of(study: Study) -> View:
    return View(space=study.space, settings=study.settings, experiments=tuple(study.archive.experiments()))


def candidates(study: Study) -> list[Experiment]:
    return study.archive.experiments(kind="candidate")


def faults_of(study: Study, role: str) -> list[str]:
    """What went wrong in the calls of a role, in order."""
    calls = [call for call in study.archive.calls() if call.role == role]
    return [fault.message for call in calls for turn in call.turns for fault in turn.faults]
